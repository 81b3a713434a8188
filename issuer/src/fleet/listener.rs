//! The accept loop: TLS handshakes with a deadline, a bounded number of them at once, and a server identity that
//! changes without a restart.
//!
//! tonic's own TLS can't reload its identity and spins when descriptors run out, hence this loop.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    ca::{Ca, CaError, SERVER_LIFE},
    peer::{Caller, Peer},
};
use crate::clock;

/// From the accepted connection to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's queue.
const PENDING: usize = 256;
/// After the server's identity couldn't be made.
const IDENTITY_RETRY: Duration = Duration::from_secs(60);
/// After a failed accept (descriptors exhausted, say).
const BREATHER: Duration = Duration::from_millis(100);

/// A connection, and who is on its other end.
pub struct Connection<S> {
    stream: S,
    caller: Caller,
}

impl<S> Connection<S> {
    /// A connection whose other end is known to be `caller`: after a handshake, or in a test without one.
    pub fn new(stream: S, caller: Caller) -> Self {
        Self { stream, caller }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Serves whatever identity is newest.
#[derive(Debug)]
struct Newest(watch::Receiver<Arc<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().clone())
    }
}

/// The TLS side cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No server identity.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// rustls refuses.
    #[error("the TLS configuration is refused: {0}")]
    Config(String),
}

/// TLS 1.3 only; a client certificate is optional in TLS (a host that enrolls has none) and required by every
/// other call. No resumption: it would skip the check of the client's certificate.
///
/// # Errors
/// When the fleet CA can't be used.
pub fn server_config(
    ca: &Ca,
    identity: watch::Receiver<Arc<CertifiedKey>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = |e: &dyn std::fmt::Display| TlsError::Config(e.to_string());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(ca.certificate().to_vec()))
        .map_err(|e| config(&e))?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .map_err(|e| config(&e))?;
    let mut tls = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Newest(identity)));
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(Arc::new(tls))
}

/// Makes the server's identity, and a new one at half of its life; runs until nobody serves it.
///
/// # Errors
/// When the first can't be made.
pub fn keep_identity(ca: Ca) -> Result<watch::Receiver<Arc<CertifiedKey>>, CaError> {
    let (sender, receiver) = watch::channel(Arc::new(ca.server_identity(clock::now())?));
    tokio::spawn(async move {
        let half = Duration::try_from(SERVER_LIFE / 2).unwrap_or(Duration::from_secs(86_400));
        let mut pause = half;
        loop {
            // Cancel-safe: nothing is held while waiting.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = sender.closed() => return,
            }
            match ca.server_identity(clock::now()) {
                Ok(identity) => {
                    sender.send_replace(Arc::new(identity));
                    pause = half;
                }
                Err(e) => {
                    tracing::error!(error = %e, "the server's identity can't be renewed; it is tried again");
                    pause = IDENTITY_RETRY;
                }
            }
        }
    });
    Ok(receiver)
}

/// Accepts connections of `listener` for ever; those whose handshake succeeds go to `ready`.
pub async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    ready: mpsc::Sender<io::Result<Connection<TlsStream<TcpStream>>>>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let pending = Arc::new(Semaphore::new(PENDING));
    loop {
        let Ok(permit) = pending.clone().acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(error = %e, "a connection can't be accepted");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        let acceptor = acceptor.clone();
        let ready = ready.clone();
        tokio::spawn(async move {
            let result = handshake(acceptor, stream).await;
            drop(permit);
            match result {
                // Nobody takes it: the server is stopping.
                Ok(connection) => drop(ready.send(Ok(connection)).await),
                Err(e) => tracing::debug!(%from, error = %e, "handshake failed"),
            }
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<Connection<TlsStream<TcpStream>>, Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let caller = match certificate {
        None => Caller(None),
        Some(der) => Caller(Some(Arc::new(Peer::of_certificate(der)?))),
    };
    Ok(Connection::new(stream, caller))
}

/// Binds all addresses; the error names the one that couldn't be.
///
/// # Errors
/// When an address is in use, or isn't this machine's.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.map_err(|source| BindError { address, source })?);
    }
    Ok(listeners)
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address}: {source}; change `listen` in the [issuer] section, or stop what uses it"
)]
pub struct BindError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}
