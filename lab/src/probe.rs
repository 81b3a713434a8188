//! The lab's own look at a listener: what does this address serve for this name?

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use certwell_proto::{Fingerprint, Leaf};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

const TIMEOUT: Duration = Duration::from_secs(3);

/// What a handshake found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The leaf's facts.
    pub leaf: Leaf,
    /// DER, leaf first, as it came.
    pub chain: Vec<Vec<u8>>,
}

impl Served {
    /// Of the leaf.
    pub fn fingerprint(&self) -> Fingerprint {
        self.leaf.fingerprint
    }
}

/// One handshake with SNI `name` at `address`; the certificate is taken as it comes, expired or not.
///
/// # Errors
/// When the handshake doesn't come about.
pub fn handshake(address: SocketAddr, name: &str) -> Result<Served> {
    let mut stream = connect(address, name)?;
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .with_context(|| format!("TLS handshake with {address} for {name}"))?;
    }
    let chain: Vec<Vec<u8>> = stream
        .conn
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|der| der.to_vec())
        .collect();
    let Some(leaf) = chain.first() else {
        bail!("{address} presents no certificate for {name}")
    };
    let leaf = Leaf::read(leaf)?;
    stream.conn.send_close_notify();
    let _ = stream.conn.complete_io(&mut stream.sock);
    Ok(Served { leaf, chain })
}

/// A GET over HTTPS, any certificate taken; the body of a 200.
///
/// # Errors
/// When the answer is another one, or none.
pub fn https_get(address: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = connect(address, &address.ip().to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    read_reply(&mut stream).with_context(|| format!("GET https://{address}{path}"))
}

/// A GET over plain HTTP for virtual host `name`: status and body. Redirects aren't followed.
///
/// # Errors
/// When there is no answer.
pub fn http_get(address: SocketAddr, name: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n")?;
    read_any_reply(&mut stream).with_context(|| format!("GET http://{address}{path} for {name}"))
}

/// The body of a 200.
pub(crate) fn read_reply(stream: &mut impl io::Read) -> Result<Vec<u8>> {
    match read_any_reply(stream)? {
        (200, body) => Ok(body),
        (status, _) => bail!("answered {status}"),
    }
}

/// Status and body of an answer that ends with its stream.
fn read_any_reply(stream: &mut impl io::Read) -> Result<(u16, Vec<u8>)> {
    let mut reply = Vec::new();
    if let Err(error) = stream.read_to_end(&mut reply)
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return Err(error.into());
    }
    let end = reply
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("the answer has no end of headers")?;
    let head = String::from_utf8_lossy(&reply[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer has no status")?;
    Ok((status, reply[end + 4..].to_vec()))
}

/// A TLS connection that takes any certificate.
pub(crate) fn connect(
    address: SocketAddr,
    name: &str,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned())?;
    let socket = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("connection to {address}"))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let config = certwell_probe::config(None, true)?;
    Ok(StreamOwned::new(
        ClientConnection::new(config, name)?,
        socket,
    ))
}
