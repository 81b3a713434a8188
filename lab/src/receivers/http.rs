//! A web server that keeps what it gets, and can misbehave. It ends when dropped.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{certs::LabRoot, clock, ports::ensure_free, wait::wait_for};

const LONGEST_HEAD: usize = 64 * 1024;
/// Nobody keeps a connection open for longer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// What is answered to a request that came whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A status with this body.
    Status(u16, String),
    /// A status with these headers and no body.
    With(u16, Vec<(String, String)>),
    /// Nothing, while the connection stays open.
    Hang,
    /// 200 and the beginning of a body, and nothing more while the connection stays open.
    HangInBody,
    /// 200, and an end in the middle of the body.
    CutOff,
    /// The connection is closed without an answer.
    Close,
}

impl Answer {
    /// 200, as services say it.
    pub fn fine() -> Self {
        Self::Status(200, "ok".to_owned())
    }

    /// 302 to `url`.
    pub fn redirect(url: &str) -> Self {
        Self::With(302, vec![("location".to_owned(), url.to_owned())])
    }

    /// 429, with the time to wait.
    pub fn too_many(seconds: u32) -> Self {
        Self::With(429, vec![("retry-after".to_owned(), seconds.to_string())])
    }

    /// Whether it accepts what was sent.
    pub fn accepts(&self) -> bool {
        match self {
            Self::Status(status, _) | Self::With(status, _) => (200..300).contains(status),
            Self::HangInBody | Self::CutOff => true,
            Self::Hang | Self::Close => false,
        }
    }
}

/// A request that came whole.
#[derive(Debug, Clone)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// Path and query.
    pub path: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the answer accepted it.
    pub accepted: bool,
}

impl Received {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A field of the body that is a string, or an empty one.
    pub fn field(&self, name: &str) -> String {
        let json = self.json();
        let text = json.get(name).and_then(serde_json::Value::as_str);
        text.unwrap_or_default().to_owned()
    }
}

#[derive(Debug)]
struct Shared {
    answer: Mutex<Answer>,
    received: Mutex<Vec<Received>>,
    closing: AtomicBool,
}

/// The server.
#[derive(Debug)]
pub struct HttpReceiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl HttpReceiver {
    /// Over plain HTTP; it answers 200 until told otherwise.
    ///
    /// # Errors
    /// When its address is in use.
    pub fn start(address: SocketAddr) -> Result<Self> {
        Self::listen(address, None)
    }

    /// Over HTTPS, with a certificate of `root` for its address.
    ///
    /// # Errors
    /// When its address is in use, or no certificate can be made.
    pub fn start_tls(address: SocketAddr, root: &LabRoot) -> Result<Self> {
        let pair = root.server(address.ip())?;
        let key = PrivateKeyDer::try_from(pair.key_der)
            .map_err(|error| anyhow::anyhow!("the receiver's key: {error}"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(pair.certificate_der)], key)?;
        Self::listen(address, Some(Arc::new(config)))
    }

    fn listen(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Result<Self> {
        ensure_free(address, "a receiver of messages")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(address)?;
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer::fine()),
            received: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if for_thread.closing.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&for_thread), tls.clone());
                // A connection that breaks is its client's business.
                thread::spawn(move || shared.serve(socket, tls));
            }
        });
        Ok(Self {
            address,
            scheme,
            shared,
            thread: Some(thread),
        })
    }

    /// A URL that leads here.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// What is answered from now on.
    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// Everything that came so far, in its order.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Forgets what came so far.
    pub fn forget(&self) {
        lock(&self.shared.received).clear();
    }

    /// Waits until `look` finds what it looks for in all that came, and says at the end what came instead.
    ///
    /// # Errors
    /// When it doesn't come in time.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&[Received]) -> Option<T>,
    ) -> Result<T> {
        wait_for(what, within, || {
            let received = self.received();
            look(&received).ok_or_else(|| summary(&received))
        })
    }
}

fn summary(received: &[Received]) -> String {
    let each = received.iter().map(|one| {
        let body = String::from_utf8_lossy(&one.body);
        let shown: String = body.chars().take(200).collect();
        format!("{} {} accepted: {} {shown}", one.at, one.path, one.accepted)
    });
    format!(
        "{} requests:\n{}",
        received.len(),
        each.collect::<Vec<_>>().join("\n")
    )
}

impl Drop for HttpReceiver {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the accept loop.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> Result<()> {
        socket.set_read_timeout(Some(PATIENCE))?;
        match tls {
            None => self.exchange(socket),
            Some(config) => {
                let mut stream = StreamOwned::new(ServerConnection::new(config)?, socket);
                self.exchange(&mut stream)?;
                stream.conn.send_close_notify();
                Ok(stream.flush()?)
            }
        }
    }

    fn exchange(&self, mut stream: impl Read + Write) -> Result<()> {
        let mut request = read_request(&mut stream)?;
        let answer = lock(&self.answer).clone();
        request.accepted = answer.accepts();
        lock(&self.received).push(request);
        let (status, headers, body) = match answer {
            Answer::Status(status, body) => (status, Vec::new(), body),
            Answer::With(status, headers) => (status, headers, String::new()),
            Answer::Hang => {
                self.until_closing();
                return Ok(());
            }
            Answer::HangInBody => {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"
                )?;
                stream.flush()?;
                self.until_closing();
                return Ok(());
            }
            Answer::CutOff => {
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut")?;
                return Ok(stream.flush()?);
            }
            Answer::Close => return Ok(()),
        };
        write!(stream, "HTTP/1.1 {status} As told\r\n")?;
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        let length = body.len();
        write!(
            stream,
            "content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )?;
        Ok(stream.flush()?)
    }

    fn until_closing(&self) {
        while !self.closing.load(Ordering::SeqCst) {
            thread::sleep(PAUSE);
        }
    }
}

fn read_request(stream: &mut impl Read) -> Result<Received> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 || bytes.len() > LONGEST_HEAD {
            bail!("no request");
        }
        bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let headers: BTreeMap<String, String> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(Ok(0), |value| value.parse())
        .context("content-length")?;
    let mut body = bytes.split_off(head);
    while body.len() < length {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            bail!("the request is cut short");
        }
        body.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Received {
        at: clock::now(),
        path,
        headers,
        body,
        accepted: false,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
