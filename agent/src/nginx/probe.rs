//! Real TLS handshakes with this host's own listeners.
//!
//! They accept any certificate: what is served is to be known, not to be trusted. TLS 1.2 and 1.3 are offered; where a
//! server block has twins, only the signatures of one algorithm are, so that nginx must answer with that one.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use certwell_proto::Fingerprint;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::few;
use super::targets::{Endpoint, KeyAlgorithm, ProbeTarget, Way};

/// For one handshake: it doesn't leave the host.
const LIMIT: Duration = Duration::from_secs(2);

/// What a listener answered.
#[derive(Clone, PartialEq, Eq)]
pub enum Probed {
    /// It served this leaf.
    Leaf {
        /// Of the leaf.
        fingerprint: Fingerprint,
        /// The leaf.
        der: Vec<u8>,
    },
    /// It answers, and refuses by intent (`ssl_reject_handshake`).
    Rejects,
    /// No handshake came about: why.
    Down(String),
    /// Its address isn't on this host now.
    Elsewhere,
    /// It can't be probed: why.
    Unprobed(String),
}

impl fmt::Debug for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf { fingerprint, .. } => write!(f, "Leaf({fingerprint})"),
            Self::Rejects => f.write_str("Rejects"),
            Self::Down(why) => write!(f, "Down({why:?})"),
            Self::Elsewhere => f.write_str("Elsewhere"),
            Self::Unprobed(why) => write!(f, "Unprobed({why:?})"),
        }
    }
}

/// One handshake, ended after two seconds.
pub async fn probe(target: &ProbeTarget) -> Probed {
    match &target.way {
        Way::Elsewhere => return Probed::Elsewhere,
        Way::Unprobed(why) => return Probed::Unprobed(why.clone()),
        Way::Handshake => {}
    }
    match tokio::time::timeout(LIMIT, connect(target)).await {
        Ok(Ok(der)) => Probed::Leaf {
            fingerprint: Fingerprint::of(&der),
            der,
        },
        Ok(Err(e)) => failed(&e),
        Err(_) => Probed::Down(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

/// All of them, at most four at once, in the order given.
pub async fn probe_all(targets: Vec<ProbeTarget>) -> Vec<(ProbeTarget, Probed)> {
    few::at_once(targets.into_iter().map(|target| async move {
        let probed = probe(&target).await;
        (target, probed)
    }))
    .await
}

/// A handshake with this address without SNI or with it; for checks outside the list of targets.
///
/// # Errors
/// When no handshake comes about within two seconds.
pub async fn served_leaf(address: SocketAddr, server_name: Option<&str>) -> io::Result<Vec<u8>> {
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        handshake(stream, server_name, address.ip().into(), None).await
    };
    tokio::time::timeout(LIMIT, handshake)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

async fn connect(target: &ProbeTarget) -> io::Result<Vec<u8>> {
    let name = target.server_name.as_deref();
    match &target.endpoint {
        Endpoint::Tcp(address) => {
            let mut stream = TcpStream::connect(address).await?;
            if target.proxy_protocol {
                let header = proxy_header(stream.local_addr()?, stream.peer_addr()?);
                stream.write_all(header.as_bytes()).await?;
            }
            handshake(stream, name, address.ip().into(), target.key).await
        }
        Endpoint::Unix(path) => {
            let mut stream = UnixStream::connect(path).await?;
            if target.proxy_protocol {
                stream.write_all(b"PROXY UNKNOWN\r\n").await?;
            }
            let anyone = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
            handshake(stream, name, anyone, target.key).await
        }
        Endpoint::Written(text) => Err(io::Error::other(format!("{text} can't be dialled"))),
    }
}

/// Version 1 of the PROXY protocol, as any `proxy_protocol` listener reads it.
pub(super) fn proxy_header(from: SocketAddr, to: SocketAddr) -> String {
    let family = if to.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    )
}

/// The leaf that the other side served. `nameless` stands where no SNI is to be sent: rustls sends none for addresses.
async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server_name: Option<&str>,
    nameless: ServerName<'static>,
    key: Option<KeyAlgorithm>,
) -> io::Result<Vec<u8>> {
    let name = match server_name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        None => nameless,
    };
    let connector = TlsConnector::from(config(key)?);
    let mut stream = connector.connect(name, stream).await?;
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|leaf| leaf.to_vec());
    // A polite end keeps nginx's error log clean; the answer is known already.
    let _ = stream.shutdown().await;
    leaf.ok_or_else(|| io::Error::other("the handshake brought no certificate"))
}

fn failed(e: &io::Error) -> Probed {
    match e
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => Probed::Rejects,
        _ => Probed::Down(e.to_string()),
    }
}

/// Built once for each set of signatures, then shared: they hold no state of a connection.
fn config(key: Option<KeyAlgorithm>) -> io::Result<Arc<ClientConfig>> {
    static CONFIGS: [OnceLock<Arc<ClientConfig>>; 3] = [const { OnceLock::new() }; 3];
    let slot = &CONFIGS[match key {
        None => 0,
        Some(KeyAlgorithm::Ecdsa) => 1,
        Some(KeyAlgorithm::Rsa) => 2,
    }];
    if let Some(config) = slot.get() {
        return Ok(Arc::clone(config));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything {
            schemes: schemes(key),
        }))
        .with_no_client_auth();
    // A resumed session would bring the certificate of an earlier handshake.
    config.resumption = Resumption::disabled();
    Ok(Arc::clone(slot.get_or_init(|| Arc::new(config))))
}

fn schemes(key: Option<KeyAlgorithm>) -> Vec<SignatureScheme> {
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
        Some(KeyAlgorithm::Ecdsa) => ECDSA.to_vec(),
        Some(KeyAlgorithm::Rsa) => RSA.to_vec(),
        None => [&ECDSA[..], &[SignatureScheme::ED25519], &RSA].concat(),
    }
}

/// Takes any certificate: an expired or foreign one is to be reported, not to be called "down".
#[derive(Debug)]
struct Anything {
    schemes: Vec<SignatureScheme>,
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// The configuration of the preflight's redirects, for the same reason unverified.
pub(crate) fn unverified() -> io::Result<Arc<ClientConfig>> {
    config(None)
}
