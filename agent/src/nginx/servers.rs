//! Server blocks, as the rest of the agent sees them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{glob, variables::Expansion};

/// What `nginx -T` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// Every server block of `http`, and those of `stream` and `mail` that speak TLS.
    pub servers: Vec<Server>,
    /// Every configuration file that nginx reads.
    pub files: Vec<PathBuf>,
    /// What couldn't be understood, one sentence each; never a reason to stop.
    pub warnings: Vec<String>,
    /// Whom its workers are to run as, where it says so.
    pub user: Option<WorkerUser>,
    /// The certificates that nginx presents to upstreams.
    pub presented: Vec<Presented>,
    /// Where each `http` block begins.
    pub http: Vec<Place>,
    /// What the includes at http level name, absolute; patterns among them.
    pub http_includes: Vec<String>,
}

impl Parsed {
    /// Whether an include at http level names this file, be it there or not.
    pub fn includes_at_http_level(&self, file: &Path) -> bool {
        // nginx may name it by another path, through a linked directory.
        let named = real(file);
        self.http_includes.iter().any(|pattern| {
            if !glob::is_pattern(pattern) {
                return real(Path::new(pattern)) == named;
            }
            let Some((directory, last)) = pattern.rsplit_once('/') else {
                return false;
            };
            let is_literal = !glob::is_pattern(directory);
            let pattern = if is_literal {
                format!("{}/{last}", canonical(Path::new(directory)).display())
            } else {
                pattern.clone()
            };
            glob::matches(&pattern, &named.to_string_lossy())
                || glob::matches(&pattern, &file.to_string_lossy())
        })
    }

    /// The directory of nginx's first file, to which relative includes are relative.
    pub fn directory(&self) -> Option<&Path> {
        self.files.first()?.parent()
    }
}

/// With the links of its directory followed: the file itself need not be there.
fn real(file: &Path) -> PathBuf {
    match (file.parent(), file.file_name()) {
        (Some(directory), Some(name)) => canonical(directory).join(name),
        _ => file.to_owned(),
    }
}

fn canonical(directory: &Path) -> PathBuf {
    std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())
}

/// The account that nginx's workers run under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerUser {
    /// Its name.
    pub name: String,
    /// Its group; without one, the group of the same name.
    pub group: Option<String>,
}

/// One server block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `http` or `stream`.
    pub protocol: Protocol,
    /// At least one.
    pub listens: Vec<Listen>,
    /// Its names; empty when it has none.
    pub names: Vec<ServerName>,
    /// Its certificates, inherited ones included; two are an ECDSA and an RSA twin.
    pub certificates: Vec<CertificateFiles>,
    /// Whether one of them holds variables: then workers read them all, with their own rights, at each handshake.
    pub read_by_workers: bool,
    /// `ssl_reject_handshake on`.
    pub rejects_handshake: bool,
    /// Where the block begins.
    pub at: Place,
    /// Where it includes the line that answers HTTP-01, if it does.
    pub challenge_include: Option<Place>,
    /// A redirect (or `break`) at server level that comes before that include (or stands without one), and wins over it.
    pub redirect_before_include: Option<Place>,
}

/// A file and a line of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The block that a server block stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// `http`.
    Http,
    /// `stream`.
    Stream,
    /// `mail`, where TLS comes first.
    Mail,
    /// `mail`, where a command of the protocol begins TLS.
    StartTls,
}

/// One address that a server block listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Where.
    pub address: ListenAddress,
    /// `ssl` (or `quic`), here or in any other block on the same address: nginx keeps it per address.
    pub tls: bool,
    /// UDP.
    pub quic: bool,
    /// A PROXY header comes first, likewise per address.
    pub proxy_protocol: bool,
    /// It answers for names that no block has.
    pub default_server: bool,
}

/// Where a server block listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ListenAddress {
    /// Every IPv4 address.
    AnyV4(u16),
    /// Every IPv6 address.
    AnyV6(u16),
    /// `[::]` with `ipv6only=off`: every address of both kinds.
    AnyBoth(u16),
    /// One address.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A host name, which nginx resolves when it starts.
    Named(String, u16),
}

impl ListenAddress {
    /// Its port, none for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::AnyV4(port) | Self::AnyV6(port) | Self::AnyBoth(port) | Self::Named(_, port) => {
                Some(*port)
            }
            Self::Ip(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Whether it stands for every address, of the kind of `ip`.
    pub fn covers_any(&self, ip: IpAddr) -> bool {
        match self {
            Self::AnyV4(_) => ip.is_ipv4(),
            Self::AnyV6(_) => ip.is_ipv6(),
            Self::AnyBoth(_) => true,
            Self::Ip(_) | Self::Unix(_) | Self::Named(..) => false,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyV4(port) => write!(f, "0.0.0.0:{port}"),
            Self::AnyV6(port) | Self::AnyBoth(port) => write!(f, "[::]:{port}"),
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Named(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A name of a server block, lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServerName {
    /// One host name.
    Exact(String),
    /// `*.example.org`: what follows the `*.`.
    Leading(String),
    /// `.example.org`: the name itself and everything below; what follows the dot.
    Dotted(String),
    /// `www.example.*`: what comes before the `.*`.
    Trailing(String),
    /// `~…`: the expression.
    Regex(String),
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Leading(base) => write!(f, "*.{base}"),
            Self::Dotted(base) => write!(f, ".{base}"),
            Self::Trailing(base) => write!(f, "{base}.*"),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}

/// A certificate and its key, as the server block names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFiles {
    /// `ssl_certificate`.
    pub certificate: CertificateSource,
    /// `ssl_certificate_key`.
    pub key: CertificateSource,
    /// The paths that `certificate` leads through, one symbolic link resolved after the other.
    pub through: Vec<PathBuf>,
    /// What `certificate` can be at a handshake, where it holds variables.
    pub expansions: Vec<Expansion>,
}

impl CertificateFiles {
    /// The path of the certificate, where it lies in one of these directories, perhaps through links.
    pub fn path_in(&self, directories: &[PathBuf]) -> Option<&Path> {
        let CertificateSource::File(path) = &self.certificate else {
            return None;
        };
        let mut way = self.through.iter().chain([path]);
        way.any(|step| {
            directories
                .iter()
                .any(|directory| step.starts_with(directory))
        })
        .then_some(path)
    }
}

/// A certificate that nginx presents to upstreams, as a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presented {
    /// `proxy_ssl_certificate`, `grpc_ssl_certificate` or `uwsgi_ssl_certificate`.
    pub certificate: CertificateSource,
    /// The paths that it leads through.
    pub through: Vec<PathBuf>,
    /// The directive.
    pub at: Place,
}

/// What an `ssl_certificate` or `ssl_certificate_key` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateSource {
    /// A file, absolute.
    File(PathBuf),
    /// Holds variables: another file for each handshake.
    Variable(String),
    /// `data:…`, whose content isn't repeated here.
    Data,
    /// `engine:…` or `store:…`, whose content isn't repeated here.
    Store,
}
