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
    servers::{CertificateSource, Listen, ListenAddress, Place, Protocol, Server, ServerName},
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

/// Every handshake that is needed to prove the managed certificates, in the order of the configuration.
///
/// `local` are the addresses of this host's interfaces; all of 127.0.0.0/8 counts as local besides.
pub fn probes(
    servers: &[Server],
    local: &[IpAddr],
    live: &Path,
    managed: &[Managed],
) -> Vec<ProbeTarget> {
    let mut plan = Plan {
        sites: Sites::new(servers, local),
        answers: HashMap::new(),
        targets: Vec::new(),
        seen: HashSet::new(),
    };
    for (index, server) in servers.iter().enumerate() {
        let twins = server.certificates.len() > 1;
        for managed in managed {
            match reference(server, live, managed) {
                Some(Reference::File) => {}
                Some(Reference::Variable) => {
                    plan.add_variable(server, managed);
                    continue;
                }
                None => continue,
            }
            let keys: Vec<Option<KeyAlgorithm>> = match managed.keys.as_slice() {
                keys if twins && !keys.is_empty() => keys.iter().copied().map(Some).collect(),
                _ => vec![None],
            };
            for key in keys {
                plan.add_server(index, server, managed, key);
            }
        }
    }
    plan.targets
}

/// How a server block refers to a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reference {
    /// By a file of it, perhaps through links.
    File,
    /// By a path under the live directory that nginx puts together for each handshake.
    Variable,
}

fn reference(server: &Server, live: &Path, managed: &Managed) -> Option<Reference> {
    let directory = live.join(managed.name.as_str());
    let prefix = format!("{}/", live.display());
    let mut found = None;
    for files in &server.certificates {
        match &files.certificate {
            CertificateSource::File(path) => {
                if files
                    .through
                    .iter()
                    .chain([path])
                    .any(|path| path.starts_with(&directory))
                {
                    return Some(Reference::File);
                }
            }
            CertificateSource::Variable(path) if path.starts_with(&prefix) => {
                found = Some(Reference::Variable)
            }
            CertificateSource::Variable(_) | CertificateSource::Data | CertificateSource::Store => {
            }
        }
    }
    found
}

struct Plan<'a> {
    sites: Sites<'a>,
    answers: HashMap<(Protocol, Endpoint), Rc<Answers<'a>>>,
    targets: Vec<ProbeTarget>,
    seen: HashSet<(
        CertificateName,
        Endpoint,
        Option<String>,
        Option<KeyAlgorithm>,
    )>,
}

impl Plan<'_> {
    fn add_server(
        &mut self,
        index: usize,
        server: &Server,
        managed: &Managed,
        key: Option<KeyAlgorithm>,
    ) {
        let mut only_quic = true;
        for listen in server
            .listens
            .iter()
            .filter(|listen| listen.tls && !listen.quic)
        {
            only_quic = false;
            self.add_listen(index, server, listen, managed, key);
        }
        if let Some(listen) = server
            .listens
            .iter()
            .find(|listen| listen.quic && only_quic)
        {
            let endpoint = Endpoint::Written(listen.address.to_string());
            self.push(
                server,
                listen,
                managed,
                key,
                endpoint,
                None,
                Way::Unprobed("it listens by QUIC only".into()),
            );
        }
    }

    /// Which names lead to which certificate is known to nginx alone.
    fn add_variable(&mut self, server: &Server, managed: &Managed) {
        for listen in server
            .listens
            .iter()
            .filter(|listen| listen.tls && !listen.quic)
        {
            let endpoint = Endpoint::Written(listen.address.to_string());
            let why = Way::Unprobed("its certificate path holds variables".into());
            self.push(server, listen, managed, None, endpoint, None, why);
        }
    }

    fn add_listen(
        &mut self,
        index: usize,
        server: &Server,
        listen: &Listen,
        managed: &Managed,
        key: Option<KeyAlgorithm>,
    ) {
        let written = Endpoint::Written(listen.address.to_string());
        match &listen.address {
            ListenAddress::Named(..) => {
                let why = Way::Unprobed("nginx resolves this name when it starts".into());
                self.push(server, listen, managed, key, written, None, why);
            }
            ListenAddress::Ip(address) if !self.sites.is_local(address.ip()) => {
                self.push(
                    server,
                    listen,
                    managed,
                    key,
                    Endpoint::Tcp(*address),
                    None,
                    Way::Elsewhere,
                );
            }
            _ => {
                let endpoints = self.sites.endpoints(server.protocol, &listen.address);
                for endpoint in endpoints {
                    self.add_endpoint(index, server, listen, managed, key, &endpoint);
                }
            }
        }
    }

    /// The names of one server block on one address.
    fn add_endpoint(
        &mut self,
        index: usize,
        server: &Server,
        listen: &Listen,
        managed: &Managed,
        key: Option<KeyAlgorithm>,
        endpoint: &Endpoint,
    ) {
        let answers = Rc::clone(
            self.answers
                .entry((server.protocol, endpoint.clone()))
                .or_insert_with(|| Rc::new(self.sites.at(server.protocol, endpoint))),
        );
        let before = self.targets.len();
        for name in &server.names {
            for (sent, way) in name_ways(name) {
                let way = match (way, sent.as_deref().map(|sent| answers.to(sent))) {
                    // nginx warns of a conflicting name and ignores it.
                    (Way::Handshake, Some(Some(other))) if other != index => {
                        Way::Unprobed(format!(
                            "the server block at {} answers this name",
                            self.sites.place(other)
                        ))
                    }
                    (way, _) => way,
                };
                self.push(server, listen, managed, key, endpoint.clone(), sent, way);
            }
        }
        if self.targets.len() > before {
            return;
        }
        // Without a name of its own it is reached only as the default server.
        if answers.default_server() == Some(index) {
            let name = nameless(&answers, index, managed);
            self.push(
                server,
                listen,
                managed,
                key,
                endpoint.clone(),
                name,
                Way::Handshake,
            );
        } else {
            let why = "it has no name, and is not the default server of this address".into();
            self.push(
                server,
                listen,
                managed,
                key,
                endpoint.clone(),
                None,
                Way::Unprobed(why),
            );
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a target's parts, gathered in one place"
    )]
    fn push(
        &mut self,
        server: &Server,
        listen: &Listen,
        managed: &Managed,
        key: Option<KeyAlgorithm>,
        endpoint: Endpoint,
        server_name: Option<String>,
        way: Way,
    ) {
        let identity = (
            managed.name.clone(),
            endpoint.clone(),
            server_name.clone(),
            key,
        );
        if way == Way::Handshake && !self.seen.insert(identity) {
            return;
        }
        let first = way == Way::Handshake
            && !self
                .targets
                .iter()
                .rev()
                .take_while(|other| other.at == server.at)
                .any(|other| {
                    other.first
                        && other.endpoint == endpoint
                        && other.key == key
                        && other.certificate == managed.name
                });
        self.targets.push(ProbeTarget {
            certificate: managed.name.clone(),
            endpoint,
            server_name,
            key,
            proxy_protocol: listen.proxy_protocol,
            way,
            first,
            at: server.at.clone(),
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
fn nameless(answers: &Answers<'_>, index: usize, managed: &Managed) -> Option<String> {
    managed
        .identifiers
        .iter()
        .filter_map(|identifier| match identifier {
            Identifier::Dns(name) => Some(
                name.strip_prefix("*.")
                    .map_or_else(|| name.clone(), |base| format!("{MADE_UP}.{base}")),
            ),
            Identifier::Ip(_) => None,
        })
        .find(|name| answers.to(name) == Some(index))
}

/// Whether a name can be sent in SNI (RFC 6066 3: a DNS host name, no address).
fn can_be_sent(name: &str) -> bool {
    !name.starts_with('_')
        && name.parse::<IpAddr>().is_err()
        && rustls_pki_types::DnsName::try_from(name).is_ok()
}

#[cfg(test)]
mod tests;
