//! Pure: which handshakes prove that a managed certificate is served, and which server block answers a name.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use certwell_proto::{CertificateName, Identifier};

use super::servers::{Place, Protocol, Server};

/// What the planner of probes knows of a managed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managed {
    /// Its files are under the live directory's entry of this name.
    pub name: CertificateName,
    /// What it covers.
    pub identifiers: Vec<Identifier>,
    /// The algorithm of each of its key pairs; needed to tell twins apart, may be empty when unknown.
    pub keys: Vec<KeyAlgorithm>,
}

/// Which certificate of a server block with several a handshake is to bring out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// Only ECDSA signatures are offered.
    Ecdsa,
    /// Only RSA signatures are offered.
    Rsa,
}

/// Where a handshake goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address of this host.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// As nginx's configuration writes it: not to be dialled.
    Written(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Written(text) => f.write_str(text),
        }
    }
}

/// One thing to be proven: this name, on this address, is served with this certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTarget {
    /// The managed certificate that the server block names.
    pub certificate: CertificateName,
    /// Where.
    pub endpoint: Endpoint,
    /// Sent as SNI; `None`: a handshake without SNI, which the default server answers.
    pub server_name: Option<String>,
    /// Offer only such signatures, where the server block has twins.
    pub key: Option<KeyAlgorithm>,
    /// A PROXY header comes first.
    pub proxy_protocol: bool,
    /// Whether it can be probed.
    pub way: Way,
    /// The first probe of its server block on this endpoint: the one that is repeated.
    pub first: bool,
    /// The server block.
    pub at: Place,
}

/// Whether a target can be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By a handshake.
    Handshake,
    /// Its address isn't on this host now.
    Elsewhere,
    /// It can't: why.
    Unprobed(String),
}

/// Every handshake that is needed to prove the managed certificates, in the order of the configuration.
///
/// `local` are the addresses of this host's interfaces; all of 127.0.0.0/8 counts as local besides.
pub fn probes(
    servers: &[Server],
    local: &[IpAddr],
    live: &Path,
    managed: &[Managed],
) -> Vec<ProbeTarget> {
    let _ = (servers, local, live, managed);
    Vec::new()
}

/// The concrete addresses on which plain HTTP listens at `port`.
pub fn plain_http(servers: &[Server], local: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let _ = (servers, local, port);
    Vec::new()
}

/// The server block that answers `name` at `address`, by nginx's rules; regex names are passed over.
pub fn answering<'a>(
    servers: &'a [Server],
    protocol: Protocol,
    address: SocketAddr,
    name: &str,
) -> Option<&'a Server> {
    let _ = (protocol, address, name);
    servers.first()
}
