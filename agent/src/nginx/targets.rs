//! Pure: which handshakes prove that a managed certificate is served.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    rc::Rc,
};

use certwell_proto::{CertificateName, Identifier};

use super::{
    servers::{
        CertificateFiles, CertificateSource, Listen, ListenAddress, Place, Protocol, Server,
        ServerName,
    },
    sites::{Answers, Sites},
};

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
    /// Whether the server block is configured to reject handshakes (`ssl_reject_handshake`).
    pub rejects: bool,
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

/// A label that nobody has, to stand for any.
const MADE_UP: &str = "certwell-probe";

/// The name, or for a wildcard one that it covers and nobody has.
pub(crate) fn made_up(name: &str) -> String {
    name.strip_prefix("*.")
        .map_or_else(|| name.to_owned(), |base| format!("{MADE_UP}.{base}"))
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
    let by_name: HashMap<&str, &Managed> = managed
        .iter()
        .map(|managed| (managed.name.as_str(), managed))
        .collect();
    let mut plan = Plan::new(servers, local);
    for (index, server) in servers.iter().enumerate() {
        for managed in by_file(server, live, &by_name) {
            plan.add_files(index, server, managed);
        }
        if by_variable(server, live) {
            for managed in managed {
                plan.add_variable(Subject {
                    index,
                    server,
                    managed,
                    key: None,
                });
            }
        }
    }
    plan.targets
}

/// The same for certificates that needn't lie in the live directory: `uses` tells which files are of which one.
pub fn probes_of(
    servers: &[Server],
    local: &[IpAddr],
    subjects: &[Managed],
    uses: impl Fn(&Managed, &CertificateFiles) -> bool,
) -> Vec<ProbeTarget> {
    let mut plan = Plan::new(servers, local);
    for (index, server) in servers.iter().enumerate() {
        for managed in subjects {
            if server.certificates.iter().any(|files| uses(managed, files)) {
                plan.add_files(index, server, managed);
            }
        }
    }
    plan.targets
}

/// The managed certificates of which a server block names files, perhaps through links; each once.
fn by_file<'a>(
    server: &Server,
    live: &Path,
    by_name: &HashMap<&str, &'a Managed>,
) -> Vec<&'a Managed> {
    let mut found: Vec<&Managed> = Vec::new();
    for files in &server.certificates {
        let CertificateSource::File(path) = &files.certificate else {
            continue;
        };
        let managed = files.through.iter().chain([path]).find_map(|path| {
            let entry = path.strip_prefix(live).ok()?.components().next()?;
            by_name.get(entry.as_os_str().to_str()?)
        });
        found.extend(
            managed.filter(|managed| !found.iter().any(|other| other.name == managed.name)),
        );
    }
    found
}

/// Whether nginx puts a path under the live directory together for each handshake.
fn by_variable(server: &Server, live: &Path) -> bool {
    server.certificates.iter().any(|files| {
        matches!(&files.certificate, CertificateSource::Variable(path) if Path::new(path).starts_with(live))
    })
}

/// What is to be proven: a certificate (or one of its twins) in a server block.
#[derive(Clone, Copy)]
struct Subject<'a> {
    index: usize,
    server: &'a Server,
    managed: &'a Managed,
    key: Option<KeyAlgorithm>,
}

impl<'a> Subject<'a> {
    /// Listeners that speak TLS over TCP.
    fn listens(&self) -> impl Iterator<Item = &'a Listen> + use<'a> {
        self.server
            .listens
            .iter()
            .filter(|listen| listen.tls && !listen.quic)
    }
}

/// A certificate, endpoint, name and algorithm: what one handshake proves.
type Proof = (
    CertificateName,
    Endpoint,
    Option<String>,
    Option<KeyAlgorithm>,
);

struct Plan<'a> {
    sites: Sites<'a>,
    answers: HashMap<(Protocol, Endpoint), Rc<Answers<'a>>>,
    targets: Vec<ProbeTarget>,
    seen: HashSet<Proof>,
}

impl<'a> Plan<'a> {
    fn new(servers: &'a [Server], local: &'a [IpAddr]) -> Self {
        Self {
            sites: Sites::new(servers, local),
            answers: HashMap::new(),
            targets: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// A certificate of which a server block names files; twins apart.
    fn add_files(&mut self, index: usize, server: &Server, managed: &Managed) {
        let twins = server.certificates.len() > 1 && !managed.keys.is_empty();
        let keys = if twins {
            managed.keys.iter().copied().map(Some).collect()
        } else {
            vec![None]
        };
        for key in keys {
            self.add_server(Subject {
                index,
                server,
                managed,
                key,
            });
        }
    }

    fn add_server(&mut self, of: Subject<'_>) {
        for listen in of.listens() {
            self.add_listen(of, listen);
        }
        let quic = of.server.listens.iter().find(|listen| listen.quic);
        if let Some(listen) = quic.filter(|_| of.listens().next().is_none()) {
            self.unprobed(of, listen, "it listens by QUIC only");
        }
    }

    /// Which names lead to which certificate is known to nginx alone.
    fn add_variable(&mut self, of: Subject<'_>) {
        for listen in of.listens() {
            self.unprobed(of, listen, "its certificate path holds variables");
        }
    }

    fn add_listen(&mut self, of: Subject<'_>, listen: &Listen) {
        match &listen.address {
            ListenAddress::Named(..) => {
                self.unprobed(of, listen, "nginx resolves this name when it starts");
            }
            ListenAddress::Ip(address) if !self.sites.is_local(address.ip()) => {
                self.push(of, listen, Endpoint::Tcp(*address), None, Way::Elsewhere);
            }
            address => {
                let endpoints = self.sites.endpoints(of.server.protocol, address);
                if endpoints.is_empty() {
                    self.unprobed(of, listen, "no address of this host leads to it");
                }
                for endpoint in endpoints {
                    self.add_endpoint(of, listen, &endpoint);
                }
            }
        }
    }

    /// The names of one server block on one address.
    fn add_endpoint(&mut self, of: Subject<'_>, listen: &Listen, endpoint: &Endpoint) {
        let protocol = of.server.protocol;
        let answers = Rc::clone(
            self.answers
                .entry((protocol, endpoint.clone()))
                .or_insert_with(|| Rc::new(self.sites.at(protocol, endpoint))),
        );
        let before = self.targets.len();
        for name in &of.server.names {
            for (sent, way) in name_ways(name) {
                let way = match (way, sent.as_deref().map(|sent| answers.to(sent))) {
                    // nginx warns of a conflicting name and ignores it.
                    (Way::Handshake, Some(Some(other))) if other != of.index => {
                        let place = self.sites.place(other);
                        Way::Unprobed(format!("the server block at {place} answers this name"))
                    }
                    (way, _) => way,
                };
                self.push(of, listen, endpoint.clone(), sent, way);
            }
        }
        if self.targets.len() > before {
            return;
        }
        // Without a name of its own it is reached only as the default server.
        if answers.default_server() == Some(of.index) {
            let name = nameless(&answers, of);
            self.push(of, listen, endpoint.clone(), name, Way::Handshake);
        } else {
            let why = "it has no name, and is not the default server of this address".to_owned();
            self.push(of, listen, endpoint.clone(), None, Way::Unprobed(why));
        }
    }

    fn unprobed(&mut self, of: Subject<'_>, listen: &Listen, why: &str) {
        let endpoint = Endpoint::Written(listen.address.to_string());
        self.push(of, listen, endpoint, None, Way::Unprobed(why.to_owned()));
    }

    fn push(
        &mut self,
        of: Subject<'_>,
        listen: &Listen,
        endpoint: Endpoint,
        server_name: Option<String>,
        way: Way,
    ) {
        let certificate = of.managed.name.clone();
        let proof = (
            certificate.clone(),
            endpoint.clone(),
            server_name.clone(),
            of.key,
        );
        if way == Way::Handshake && !self.seen.insert(proof) {
            return;
        }
        // Targets of one server block stand together.
        let mut same = self
            .targets
            .iter()
            .rev()
            .take_while(|other| other.at == of.server.at);
        let first = way == Way::Handshake
            && !same.any(|other| {
                other.first
                    && other.endpoint == endpoint
                    && other.key == of.key
                    && other.certificate == certificate
            });
        self.targets.push(ProbeTarget {
            certificate,
            endpoint,
            server_name,
            key: of.key,
            proxy_protocol: listen.proxy_protocol,
            rejects: of.server.rejects_handshake,
            way,
            first,
            at: of.server.at.clone(),
        });
    }
}

/// What to send for a configured name. Nothing for one that can't be sent as SNI (`_`, an address).
fn name_ways(name: &ServerName) -> Vec<(Option<String>, Way)> {
    let handshake = |name: String| (Some(name), Way::Handshake);
    match name {
        ServerName::Exact(name) if can_be_sent(name) => vec![handshake(name.clone())],
        ServerName::Exact(_) => Vec::new(),
        ServerName::Leading(base) => vec![handshake(format!("{MADE_UP}.{base}"))],
        ServerName::Dotted(base) => vec![
            handshake(base.clone()),
            handshake(format!("{MADE_UP}.{base}")),
        ],
        ServerName::Trailing(base) => vec![handshake(format!("{base}.{MADE_UP}"))],
        ServerName::Regex(regex) => {
            vec![(
                Some(format!("~{regex}")),
                Way::Unprobed("its name is a regular expression".into()),
            )]
        }
    }
}

/// A name that the certificate covers and the default server answers; none: a handshake without SNI.
fn nameless(answers: &Answers<'_>, of: Subject<'_>) -> Option<String> {
    of.managed
        .identifiers
        .iter()
        .filter_map(|identifier| match identifier {
            Identifier::Dns(name) => Some(made_up(name)),
            Identifier::Ip(_) => None,
        })
        .find(|name| answers.to(name) == Some(of.index))
}

/// Whether a name can be sent in SNI (RFC 6066 3: a DNS host name, no address).
fn can_be_sent(name: &str) -> bool {
    !name.starts_with('_')
        && name.parse::<IpAddr>().is_err()
        && rustls_pki_types::DnsName::try_from(name).is_ok()
}

#[cfg(test)]
mod tests;
