//! Real TLS handshakes that accept any certificate: what is served is to be known, not to be trusted.
//!
//! TLS 1.2 and 1.3 are offered. Where a server has twins, only the signatures of one algorithm are, so that it must
//! answer with that one.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::dial::{Dialled, Place};

/// Which of a server's leaves a handshake is to bring out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Only ECDSA signatures are offered.
    Ecdsa,
    /// Only RSA signatures are offered.
    Rsa,
}

/// One handshake to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Where.
    pub place: Place,
    /// Sent as SNI, unless it is an IP address; `None`: a handshake without SNI.
    pub name: Option<String>,
    /// `None`: whichever the server prefers.
    pub key: Option<Key>,
    /// A PROXY header comes first.
    pub proxy_protocol: bool,
    /// Whether the server must prove that it has the key of what it shows: anybody may be there in its place.
    pub proof: bool,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A handshake came about.
    Served(Served),
    /// It refuses the name by intent (`ssl_reject_handshake`).
    Rejects,
    /// It knows no way to shake hands: by the answer alone it has no leaf for the signatures that were offered.
    NoCommonWay(String),
    /// No handshake came about: why.
    Down(String),
}

/// What a handshake brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// DER, leaf first, as it came; never empty.
    pub chain: Vec<Vec<u8>>,
    /// "TLSv1.3".
    pub tls_version: &'static str,
}

impl Served {
    /// DER of the leaf.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], Vec::as_slice)
    }
}

/// One handshake, given up after `limit`.
pub async fn ask(ask: &Ask, limit: Duration) -> Answer {
    match tokio::time::timeout(limit, served(ask)).await {
        Ok(Ok(served)) => Answer::Served(served),
        Ok(Err(error)) => failed(&error),
        Err(_) => Answer::Down(format!("no answer within {} s", limit.as_secs_f32())),
    }
}

async fn served(ask: &Ask) -> io::Result<Served> {
    let mut stream = connect(ask).await?;
    let session = stream.get_ref().1;
    let served = Served {
        chain: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| der.to_vec())
            .collect(),
        tls_version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
    };
    // A polite end keeps the server's error log clean; the answer is known already.
    let _ = stream.shutdown().await;
    if served.chain.is_empty() {
        return Err(io::Error::other("the handshake brought no certificate"));
    }
    Ok(served)
}

/// A connection after its handshake.
pub(crate) async fn connect(ask: &Ask) -> io::Result<TlsStream<Dialled>> {
    // rustls sends no SNI for an address.
    let name = match (&ask.name, &ask.place) {
        (Some(name), _) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
        (None, Place::Tcp(address)) => address.ip().into(),
        (None, Place::Unix(_)) => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
    };
    let stream = ask.place.dial(ask.proxy_protocol).await?;
    TlsConnector::from(config(ask.key, ask.proof)?)
        .connect(name, stream)
        .await
}

fn failed(error: &io::Error) -> Answer {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => Answer::Rejects,
        Some(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)) => {
            Answer::NoCommonWay(error.to_string())
        }
        Some(rustls::Error::InvalidCertificate(problem)) => Answer::Down(format!(
            "it shows a certificate without proving that it has its key ({problem:?})"
        )),
        _ => Answer::Down(error.to_string()),
    }
}

/// A client's configuration that takes any certificate, shared: it holds no state of a connection.
///
/// # Errors
/// When the cryptography can't be set up.
pub fn config(key: Option<Key>, proof: bool) -> io::Result<Arc<ClientConfig>> {
    static CONFIGS: [OnceLock<Arc<ClientConfig>>; 6] = [const { OnceLock::new() }; 6];
    let of_key = match key {
        None => 0,
        Some(Key::Ecdsa) => 1,
        Some(Key::Rsa) => 2,
    };
    let slot = &CONFIGS[of_key + 3 * usize::from(proof)];
    if let Some(config) = slot.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Anything {
        schemes: schemes(key),
        proof: proof.then_some(provider.signature_verification_algorithms),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session would bring the certificate of an earlier handshake.
    config.resumption = Resumption::disabled();
    Ok(Arc::clone(slot.get_or_init(|| Arc::new(config))))
}

fn schemes(key: Option<Key>) -> Vec<SignatureScheme> {
    const ECDSA: [SignatureScheme; 3] = [
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ECDSA_NISTP521_SHA512,
    ];
    const RSA: [SignatureScheme; 6] = [
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PSS_SHA384,
        SignatureScheme::RSA_PSS_SHA512,
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512,
    ];
    match key {
        Some(Key::Ecdsa) => ECDSA.to_vec(),
        Some(Key::Rsa) => RSA.to_vec(),
        None => [&ECDSA[..], &[SignatureScheme::ED25519], &RSA].concat(),
    }
}

/// Takes any certificate: an expired or foreign one is to be told, not to be called "down".
#[derive(Debug)]
struct Anything {
    schemes: Vec<SignatureScheme>,
    proof: Option<WebPkiSupportedAlgorithms>,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.proof {
            Some(algorithms) => verify_tls12_signature(message, leaf, signature, algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.proof {
            Some(algorithms) => verify_tls13_signature(message, leaf, signature, algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
