//! A gate in the wire between the issuer and Pebble: it can hold one request before Pebble sees it, or the answer
//! before the issuer does, so that a test kills the issuer at exactly that instant.
//!
//! Everything else passes through unchanged; Pebble makes its URLs from the Host header, so they lead back here.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{
    certs::LabRoot,
    ports::{Net, ensure_free},
    probe,
};

const LONGEST_HEAD: usize = 16 * 1024;

/// Stages of an order, by the path that Pebble gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `newAccount`.
    Account,
    /// `newOrder`.
    Order,
    /// An authorization is read.
    Authorization,
    /// A challenge is said to be ready.
    Challenge,
    /// The order is read, after the CA was told that a challenge is ready.
    Validating,
    /// The CSR is handed in.
    Finalize,
    /// The order is read, after the CSR was handed in.
    Finalized,
    /// The order is read, whenever that is.
    Poll,
    /// The certificate is fetched.
    Certificate,
}

impl Stage {
    fn path(self) -> &'static str {
        match self {
            Self::Account => "/sign-me-up",
            Self::Order => "/order-plz",
            Self::Authorization => "/authZ/",
            Self::Challenge => "/chalZ/",
            Self::Finalize => "/finalize-order/",
            Self::Poll | Self::Validating | Self::Finalized => "/my-order/",
            Self::Certificate => "/certZ/",
        }
    }

    /// What must have passed since the gate was armed.
    fn after(self) -> Option<&'static str> {
        match self {
            Self::Validating => Some(Self::Challenge.path()),
            Self::Finalized => Some(Self::Finalize.path()),
            _ => None,
        }
    }
}

/// On which side of Pebble a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Pebble never sees it.
    Request,
    /// Pebble has acted on it; the issuer never sees the answer.
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The number is that of the requests seen before.
    Armed(Stage, Side, usize),
    Held,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    closing: AtomicBool,
    seen: Mutex<Vec<String>>,
}

/// The gate. It closes when dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    /// Opens it before Pebble.
    ///
    /// # Errors
    /// When its address is in use.
    pub fn start(net: &Net, root: &LabRoot) -> Result<Self> {
        let (address, pebble) = (net.gate(), net.ca());
        ensure_free(address, "the gate before Pebble")?;
        let pair = root.server(address.ip())?;
        let key = PrivateKeyDer::try_from(pair.key_der)
            .map_err(|e| anyhow::anyhow!("the gate's key: {e}"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(pair.certificate_der)], key)?;
        let (listener, config) = (TcpListener::bind(address)?, Arc::new(config));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Open),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
            seen: Mutex::new(Vec::new()),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if for_thread.closing.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, config) = (Arc::clone(&for_thread), Arc::clone(&config));
                // A connection that breaks is its client's business.
                thread::spawn(move || shared.pass(socket, config, pebble));
            }
        });
        Ok(Self {
            address,
            shared,
            thread: Some(thread),
        })
    }

    /// The next request of this stage will be held.
    pub fn arm(&self, stage: Stage, side: Side) {
        let before = lock(&self.shared.seen).len();
        *lock(&self.shared.state) = State::Armed(stage, side, before);
    }

    /// Waits until the request that it was armed for is held.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn wait_held(&self, within: Duration) -> Result<()> {
        let state = lock(&self.shared.state);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, within, |state| *state != State::Held)
            .unwrap_or_else(PoisonError::into_inner);
        if *state != State::Held {
            bail!(
                "no such request came within {} s ({state:?}); seen: {:?}",
                within.as_secs(),
                self.seen()
            );
        }
        Ok(())
    }

    /// Drops what is held, and lets everything pass again.
    pub fn open(&self) {
        *lock(&self.shared.state) = State::Open;
        self.shared.changed.notify_all();
    }

    /// Paths of all requests so far.
    pub fn seen(&self) -> Vec<String> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.open();
        // Wakes the accept loop.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn pass(&self, socket: TcpStream, config: Arc<ServerConfig>, pebble: SocketAddr) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut client = StreamOwned::new(ServerConnection::new(config)?, socket);
        let request = read_request(&mut client)?;
        let path = String::from_utf8_lossy(&request)
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        lock(&self.seen).push(path.clone());
        if self.holds(&path, Side::Request) {
            return Ok(());
        }
        let mut upstream = probe::connect(pebble, &pebble.ip().to_string())?;
        upstream.write_all(&request)?;
        let mut answer = Vec::new();
        // Go ends HTTP/1.0 answers by closing.
        let _ = upstream.read_to_end(&mut answer);
        if self.holds(&path, Side::Answer) {
            return Ok(());
        }
        client.write_all(&answer)?;
        client.conn.send_close_notify();
        client.flush()?;
        Ok(())
    }

    fn passed(&self, path: &str, before: usize) -> bool {
        let seen = lock(&self.seen);
        seen[before..].iter().any(|other| other.starts_with(path))
    }

    /// Holds the request if the gate is armed for it; answers, once let go, whether it was.
    fn holds(&self, path: &str, side: Side) -> bool {
        let mut state = lock(&self.state);
        match *state {
            State::Armed(stage, armed, before)
                if armed == side
                    && path.starts_with(stage.path())
                    && stage.after().is_none_or(|after| self.passed(after, before)) => {}
            _ => return false,
        }
        *state = State::Held;
        self.changed.notify_all();
        while *state == State::Held {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

/// One request, made HTTP/1.0 so that its answer ends with the connection.
fn read_request(client: &mut impl Read) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let head = loop {
        if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let count = client.read(&mut buffer)?;
        if count == 0 || request.len() > LONGEST_HEAD {
            bail!("no request");
        }
        request.extend_from_slice(buffer.get(..count).unwrap_or_default());
    };
    let text =
        String::from_utf8_lossy(&request[..head]).replacen(" HTTP/1.1\r\n", " HTTP/1.0\r\n", 1);
    let length: usize = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse())
        .context("content-length")?;
    let mut body = request[head..].to_vec();
    while body.len() < length {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            bail!("the request is cut short");
        }
        body.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok([text.into_bytes(), body].concat())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
