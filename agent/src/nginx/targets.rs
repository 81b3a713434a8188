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
    },
    sites::{Answers, Sites},
    variables::{Expansion, Lead},
};
pub(crate) use subject::made_up;
use subject::{Read, Subject};

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
pub use certwell_probe::Key as KeyAlgorithm;

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
    /// The certificate's path, where nginx's workers read it, with their own rights, at each handshake.
    pub read_by_workers: Option<PathBuf>,
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
    let by_name: HashMap<&str, &Managed> = managed
        .iter()
        .map(|managed| (managed.name.as_str(), managed))
        .collect();
    let mut plan = Plan::new(servers, local);
    for (index, server) in servers.iter().enumerate() {
        for (managed, path) in by_file(server, live, &by_name) {
            let read = Some(path).filter(|_| server.read_by_workers);
            plan.add_certificate(Subject {
                read: read.map(Read::File),
                ..Subject::new(index, server, managed)
            });
        }
        if server.read_by_workers {
            for managed in managed {
                let entry = live.join(managed.name.as_str());
                plan.add_expansions(Subject::new(index, server, managed), &entry);
            }
        }
    }
    plan.targets
}

/// The same for one certificate in a directory of its own, by each way in which that is written.
pub fn probes_in(
    servers: &[Server],
    local: &[IpAddr],
    entries: &[PathBuf],
    managed: &Managed,
) -> Vec<ProbeTarget> {
    let mut plan = Plan::new(servers, local);
    for (index, server) in servers.iter().enumerate() {
        let of = Subject::new(index, server, managed);
        let mut named = server
            .certificates
            .iter()
            .filter_map(|files| files.path_in(entries));
        if let Some(path) = named.next() {
            let read = Some(path).filter(|_| server.read_by_workers);
            plan.add_certificate(Subject {
                read: read.map(Read::File),
                ..of
            });
        }
        if server.read_by_workers {
            for entry in entries {
                plan.add_expansions(of, entry);
            }
        }
    }
    plan.targets
}

/// The same for single files, each with what is known of it; what these certificates are called stands for nothing.
pub fn probes_of(
    servers: &[Server],
    local: &[IpAddr],
    subjects: &[(&Path, Managed)],
) -> Vec<ProbeTarget> {
    let mut plan = Plan::new(servers, local);
    for (index, server) in servers.iter().enumerate() {
        for (file, managed) in subjects {
            let of = Subject::new(index, server, managed);
            let is_it = |files: &CertificateFiles| matches!(&files.certificate, CertificateSource::File(path) if path == file);
            if server.certificates.iter().any(is_it) {
                plan.add_certificate(of);
            }
            if server.read_by_workers {
                let names: Vec<String> = of.names_to(file).collect();
                let names = || names.iter().map(String::as_str);
                let unknown = plan.add_leads(of, |path| path.leads_to(file, names()));
                if unknown.is_some() {
                    plan.add_unknown(of);
                }
            }
        }
    }
    plan.targets
}

/// The managed certificates of which a server block names files, perhaps through links; each once, with its path.
fn by_file<'a>(
    server: &'a Server,
    live: &Path,
    by_name: &HashMap<&str, &'a Managed>,
) -> Vec<(&'a Managed, &'a Path)> {
    let mut found: Vec<(&Managed, &Path)> = Vec::new();
    for files in &server.certificates {
        let CertificateSource::File(path) = &files.certificate else {
            continue;
        };
        let managed = files.through.iter().chain([path]).find_map(|path| {
            let entry = path.strip_prefix(live).ok()?.components().next()?;
            by_name.get(entry.as_os_str().to_str()?)
        });
        let managed = managed.map(|managed| (*managed, path.as_path()));
        found.extend(
            managed
                .filter(|(managed, _)| !found.iter().any(|(other, _)| other.name == managed.name)),
        );
    }
    found
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

    /// A certificate of a server block; twins apart.
    fn add_certificate(&mut self, of: Subject<'_>) {
        let twins = of.server.certificates.len() > 1 && !of.managed.keys.is_empty();
        let keys = if twins {
            of.managed.keys.iter().copied().map(Some).collect()
        } else {
            vec![None]
        };
        for key in keys {
            self.add_server(Subject { key, ..of });
        }
    }

    /// A certificate at `entry`, to which paths with variables can lead.
    fn add_expansions(&mut self, of: Subject<'_>, entry: &Path) {
        let names: Vec<String> = of.candidates().collect();
        let names = || names.iter().map(String::as_str);
        let Some(expansion) = self.add_leads(of, |path| path.leads(entry, names())) else {
            return;
        };
        // All files of a generation can be read by the same.
        let file = entry.join("fullchain.pem");
        let live = entry.parent().unwrap_or(entry);
        let read = Some(Read::File(&file)).filter(|_| expansion.is_below(live));
        self.add_unknown(Subject { read, ..of });
    }

    /// What paths with variables lead to, by `lead`; one of which that isn't known.
    fn add_leads<'s>(
        &mut self,
        of: Subject<'s>,
        lead: impl Fn(&Expansion) -> Lead,
    ) -> Option<&'s Expansion> {
        let certificates = of.server.certificates.iter();
        let mut unknown = None;
        for expansion in certificates.flat_map(|files| &files.expansions) {
            let lead = lead(expansion);
            match &lead {
                Lead::No => {}
                Lead::Unknown => unknown = unknown.or(Some(expansion)),
                Lead::Names(_) | Lead::AllBut(_) => self.add_certificate(Subject {
                    lead: Some(&lead),
                    read: Some(Read::Expansion(expansion)),
                    ..of
                }),
            }
        }
        unknown
    }

    fn add_unknown(&mut self, of: Subject<'_>) {
        for listen in of.listens() {
            self.unprobed(of, listen, "its certificate path holds variables");
        }
    }

    fn add_server(&mut self, of: Subject<'_>) {
        for listen in of.listens() {
            self.add_listen(of, listen);
        }
        for listen in of.server.listens.iter().filter(|listen| listen.quic) {
            self.unprobed(of, listen, "it speaks QUIC");
        }
    }

    fn add_listen(&mut self, of: Subject<'_>, listen: &Listen) {
        match &listen.address {
            _ if of.server.protocol == Protocol::StartTls => {
                self.unprobed(
                    of,
                    listen,
                    "TLS begins by a command of its protocol (starttls)",
                );
            }
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
        let told = matches!(of.lead, Some(Lead::Names(_)));
        for (sent, way) in of.names() {
            let way = match (way, sent.as_deref().map(|sent| answers.to(sent))) {
                // What another server block answers isn't this one's to prove.
                (Way::Handshake, Some(Some(other))) if told && other != of.index => continue,
                (Way::Handshake, Some(None)) if told => Way::Unprobed(
                    "which server block answers it depends on a regular expression".into(),
                ),
                // nginx warns of a conflicting name and ignores it.
                (Way::Handshake, Some(Some(other))) if other != of.index => {
                    let place = self.sites.place(other);
                    Way::Unprobed(format!("the server block at {place} answers this name"))
                }
                (way, _) => way,
            };
            self.push(of, listen, endpoint.clone(), sent, way);
        }
        if told || self.targets.len() > before {
            return;
        }
        // Without a name of its own it is reached only as the default server.
        if answers.default_server() == Some(of.index) {
            let name = of.nameless(&answers);
            self.push(of, listen, endpoint.clone(), name, Way::Handshake);
        } else {
            let why = "it has no name that can be asked for, and is not the default server of this address".to_owned();
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
            read_by_workers: of.read_for(server_name.as_deref()),
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

mod subject;
#[cfg(test)]
mod tests;
