//! Calls to the issuer with a host's identity, made by the lab itself: what a host could do that isn't our agent.

use std::{fs, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use certwell_proto::{
    JoinToken,
    identity::{SERVER_NAME, enroll_proof_message},
    limits, pem,
    v1::{self, enrollment_client::EnrollmentClient, fleet_client::FleetClient},
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SanType};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs as provider, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::host::Host;

/// A caller with, or without, a client certificate.
#[derive(Debug, Clone)]
pub struct Caller {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Caller {
    /// With the identity that a host's agent keeps on disk.
    ///
    /// # Errors
    /// When the host isn't enrolled.
    pub fn of_host(host: &Host, issuer: SocketAddr) -> Result<Self> {
        let directory = host.agent_state().join("identity");
        let certificates = pem::read_certificates(&fs::read(directory.join("identity.pem"))?)?;
        let key = pem::read_private_key(&fs::read(directory.join("identity.key"))?)?;
        Self::new(issuer, &fleet_ca(host)?, Some((certificates, key)))
    }

    /// Joins as a new host with a token, an agent's part played by the lab.
    ///
    /// # Errors
    /// When the issuer refuses.
    pub async fn enroll(
        token: &str,
        issuer: SocketAddr,
        fleet_ca: &[CertificateDer<'static>],
    ) -> Result<Self> {
        let token: JoinToken = token.parse()?;
        let (key, bound) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut params = CertificateParams::default();
        let uri = format!("certwell://{}/agent/{}", token.fleet, token.host);
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
        let csr = params.serialize_request(&key)?.der().to_vec();
        let message = enroll_proof_message(token.secret.expose(), &csr);
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &bound.serialize_der())
                .map_err(|_| io::Error::other("the bound key can't sign"))?;
        let proof = signer
            .sign(&SystemRandom::new(), &message)
            .map_err(|_| io::Error::other("no signature"))?;
        let anonymous = Self::new(issuer, fleet_ca, None)?;
        let request = v1::EnrollRequest {
            token_secret: token.secret.expose().to_vec(),
            identity_csr: csr,
            bound_key: bound.subject_public_key_info(),
            bound_proof: proof.as_ref().to_vec(),
            host_info: Some(v1::HostInfo {
                hostname: token.host.to_string(),
                ..Default::default()
            }),
        };
        let answer = EnrollmentClient::new(anonymous.channel().await?)
            .enroll(request)
            .await?
            .into_inner();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        Self::new(
            issuer,
            fleet_ca,
            Some((vec![answer.identity_certificate.into()], key)),
        )
    }

    /// Without a client certificate.
    ///
    /// # Errors
    /// When the CA's certificate can't be used.
    pub fn anonymous(issuer: SocketAddr, fleet_ca: &[CertificateDer<'static>]) -> Result<Self> {
        Self::new(issuer, fleet_ca, None)
    }

    fn new(
        address: SocketAddr,
        fleet_ca: &[CertificateDer<'static>],
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(fleet_ca.iter().cloned());
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((certificates, key)) => builder.with_client_auth_cert(certificates, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            address,
            config: Arc::new(config),
        })
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// When it doesn't come about.
    pub async fn channel(&self) -> Result<Channel> {
        let (address, config) = (self.address, Arc::clone(&self.config));
        let connector = tower::service_fn(move |_: http::Uri| {
            let connector = TlsConnector::from(Arc::clone(&config));
            async move {
                let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
                let tcp = TcpStream::connect(address).await?;
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        });
        Ok(Endpoint::from_static("https://issuer.certwell.internal")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector(connector)
            .await?)
    }

    /// For the calls of an enrolled host.
    ///
    /// # Errors
    /// When no connection comes about.
    pub async fn fleet(&self) -> Result<FleetClient<Channel>> {
        Ok(
            FleetClient::new(self.channel().await?)
                .max_decoding_message_size(limits::WATCH_MESSAGE),
        )
    }
}

/// The fleet CA that a host's agent trusts.
///
/// # Errors
/// When the host isn't enrolled.
pub fn fleet_ca(host: &Host) -> Result<Vec<CertificateDer<'static>>> {
    let record = fs::read(host.agent_state().join("identity/fleet.json"))?;
    let fleet: serde_json::Value = serde_json::from_slice(&record)?;
    let ca = fleet
        .get("fleet_ca")
        .and_then(|ca| ca.as_str())
        .context("fleet.json holds no fleet CA")?;
    Ok(pem::read_certificates(ca.as_bytes())?)
}
