//! TLS 1.3 to the issuer: the fleet CA is the only root, and its server name is verified whatever address was dialled.

use std::sync::Arc;

use certwell_proto::{Fingerprint, identity::SERVER_NAME};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};

use super::Identity;

/// A configuration that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("no TLS to the issuer can be made ready: {0}")]
pub struct TlsError(String);

/// The name to verify.
pub(crate) fn server_name() -> ServerName<'static> {
    // A constant that is a valid name; were it not, no handshake would ever pass.
    ServerName::try_from(SERVER_NAME).unwrap_or(ServerName::IpAddress(
        std::net::Ipv4Addr::UNSPECIFIED.into(),
    ))
}

fn wrong(error: &dyn std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

fn common(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The issuer offers none, since a resumed session skips its checks of us.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// With this identity.
///
/// # Errors
/// When its certificates or key can't be used.
pub fn with_identity(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(identity.fleet_ca.clone())
        .map_err(|e| wrong(&e))?;
    // Borrowed: the one buffer that holds the key is wiped when it is dropped.
    let secret = identity.key.to_pkcs8();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(secret.expose()));
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|e| wrong(&e))?;
    let certified = CertifiedKey::new(vec![identity.certificate.clone()], key);
    certified.keys_match().map_err(|e| wrong(&e))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| wrong(&e))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    Ok(common(config))
}

/// Without an identity: the fleet CA is the certificate that the server sends with this fingerprint.
///
/// # Errors
/// When TLS 1.3 isn't to be had.
pub fn with_pin(pin: Fingerprint) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = PinVerifier {
        pin,
        algorithms: provider.signature_verification_algorithms,
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| wrong(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(common(config))
}

/// No certificate that the server sent is the one that the token names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server is not the issuer that made this token: no certificate that it sent has the token's fingerprint {0}"
)]
pub struct WrongIssuer(pub String);

/// Finds the fleet CA by its pin, then verifies as with any root.
#[derive(Debug)]
struct PinVerifier {
    pin: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.pin)
            .ok_or_else(|| {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
                    WrongIssuer(self.pin.short()),
                ))))
            })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(
            "TLS 1.2 is not spoken with an issuer".into(),
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
