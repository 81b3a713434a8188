//! A TLS server that presents what a test wants, and answers as it wants.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use certwell_probe::{Look, Outlook, chain::Roots, round};
use certwell_proto::v1;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{default_provider, sign::any_supported_type},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

pub(crate) const NAME: &str = "media.example.org";

/// Within the lives of what rcgen makes.
pub(crate) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A self-signed leaf for [`NAME`], which is its own root, and a key.
pub(crate) struct Pair {
    pub(crate) der: Vec<u8>,
    pub(crate) key: KeyPair,
}

impl Pair {
    pub(crate) fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, key }
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// The server; it ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// How many ever connected.
    pub(crate) connected: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// How it behaves after a connection was accepted.
#[derive(Clone, Copy)]
pub(crate) struct Ways {
    /// So many connections are closed before a handshake.
    pub(crate) drops: usize,
    /// What is written to whoever sends something after the handshake; then it is closed.
    pub(crate) answer: &'static str,
}

impl Server {
    /// Shows this leaf, and signs with that key.
    pub(crate) async fn start(leaf: &[u8], key: &KeyPair, ways: Ways) -> Self {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = any_supported_type(&key).unwrap();
        let shown = CertifiedKey::new(vec![leaf.to_vec().into()], key);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Always(Arc::new(shown))));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connected = Arc::new(AtomicUsize::new(0));
        let count = connected.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if count.fetch_add(1, Ordering::SeqCst) < ways.drops {
                    continue;
                }
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut bytes = [0; 4096];
                    if stream.read(&mut bytes).await.ok()? > 0 {
                        stream.write_all(ways.answer.as_bytes()).await.ok()?;
                    }
                    stream.shutdown().await.ok()
                });
            }
        });
        Self {
            address,
            connected,
            task,
        }
    }

    /// A whole look at it, which must end with the root `root`.
    pub(crate) async fn looked_at(&self, look: Look, root: &[u8]) -> Vec<v1::Sighting> {
        let outlook = Outlook {
            looks: vec![look],
            roots: Roots::of([root]),
            ..Outlook::default()
        };
        round(&outlook, now).await
    }

    pub(crate) fn look(&self) -> Look {
        Look {
            certificate: NAME.parse().unwrap(),
            name: NAME.into(),
            host: Some("sally".parse().unwrap()),
            addresses: vec![self.address],
            port: self.address.port(),
            url: None,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
