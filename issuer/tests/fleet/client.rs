//! An agent as the wire sees it: keys, a token, a TLS connection.

use std::{net::SocketAddr, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use certwell_proto::{
    JoinToken,
    identity::{SERVER_NAME, enroll_proof_message, renew_proof_message},
    v1::{self, enrollment_client::EnrollmentClient, fleet_client::FleetClient},
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

pub(crate) struct Joiner {
    pub(crate) bound: KeyPair,
    pub(crate) identity: KeyPair,
}

impl Joiner {
    pub(crate) fn new() -> Self {
        Self {
            bound: KeyPair::generate().unwrap(),
            identity: KeyPair::generate().unwrap(),
        }
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        CertificateParams::default()
            .serialize_request(&self.identity)
            .unwrap()
            .der()
            .to_vec()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.bound.serialize_der())
                .unwrap();
        key.sign(&SystemRandom::new(), message)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    pub(crate) fn enroll_request(&self, token: &JoinToken) -> v1::EnrollRequest {
        let csr = self.csr();
        v1::EnrollRequest {
            token_secret: token.secret.expose().to_vec(),
            bound_key: self.bound.subject_public_key_info(),
            bound_proof: self.sign(&enroll_proof_message(token.secret.expose(), &csr)),
            identity_csr: csr,
            host_info: None,
        }
    }

    pub(crate) fn renew_request(&self) -> v1::RenewRequest {
        let csr = self.csr();
        v1::RenewRequest {
            bound_proof: self.sign(&renew_proof_message(&csr)),
            identity_csr: csr,
            bound_key: self.bound.subject_public_key_info(),
        }
    }
}

/// A client certificate and its key, DER.
pub(crate) type Identity = (Vec<u8>, Vec<u8>);

pub(crate) fn tls(ca: &[u8], identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from(certificate.clone())],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone())),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    Endpoint::from_static("http://issuer.certwell.internal")
        .connect_with_connector(tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from(SERVER_NAME).unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        }))
        .await
}

pub(crate) async fn enroll(
    address: SocketAddr,
    ca: &[u8],
    joiner: &Joiner,
    token: &JoinToken,
) -> Result<v1::EnrollResponse, Status> {
    let channel = connect(address, tls(ca, None)).await.unwrap();
    EnrollmentClient::new(channel)
        .enroll(joiner.enroll_request(token))
        .await
        .map(tonic::Response::into_inner)
}

pub(crate) async fn fleet(
    address: SocketAddr,
    ca: &[u8],
    identity: &Identity,
) -> FleetClient<Channel> {
    FleetClient::new(connect(address, tls(ca, Some(identity))).await.unwrap())
}
