//! Pure: from the tree of directives to server blocks.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use super::{
    listen::{listen, plain},
    servers::{
        CertificateFiles, CertificateSource, ListenAddress, Parsed, Place, Presented, Protocol,
        Server, ServerName, WorkerUser,
    },
    syntax::{Effective, Tree},
    variables::Maps,
};

/// The variable of the challenge map: a block that tests it answers HTTP-01.
const CHALLENGE_TEST: &str = "($certwell_acme_reply)";

/// What the process that reads a configuration adds to its meaning.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The master's directory: its paths are relative to it where its prefix is.
    pub directory: &'a Path,
    /// What `$hostname` is.
    pub hostname: &'a str,
    /// Whether it may take port 80: a block without `listen` is at 8000 otherwise.
    pub is_root: bool,
}

/// The text of `nginx -T`, as server blocks, read by root in `/` on `localhost`. Never fails: what isn't understood is
/// said in the warnings.
pub fn parse(dump: &str) -> Parsed {
    let reader = Reader {
        directory: Path::new("/"),
        hostname: "localhost",
        is_root: true,
    };
    parse_by(dump, reader)
}

/// The same by another reader.
pub fn parse_by(dump: &str, reader: Reader<'_>) -> Parsed {
    let mut tree = Tree::parse(dump, reader.directory);
    let mut parsed = Parsed {
        servers: Vec::new(),
        files: tree.paths(),
        warnings: std::mem::take(&mut tree.warnings),
        user: None,
        presented: presented(&tree),
        http: Vec::new(),
        http_includes: Vec::new(),
    };
    for outer in tree.top() {
        let protocol = match &*outer.directive.name {
            "user" => {
                let mut words = outer.directive.args.iter().map(ToString::to_string);
                parsed.user = words.next().map(|name| WorkerUser {
                    name,
                    group: words.next(),
                });
                continue;
            }
            "http" => Protocol::Http,
            "stream" => Protocol::Stream,
            "mail" => Protocol::Mail,
            _ => continue,
        };
        let items = tree.inside(outer);
        if protocol == Protocol::Http {
            parsed.http.push(outer.place());
            parsed.http_includes.extend(tree.includes_inside(outer));
        }
        let inherited = Tls::of(&tree, &items);
        let maps = Maps::of(&tree, &items);
        for item in items
            .iter()
            .filter(|item| item.directive.name == "server" && item.directive.block.is_some())
        {
            parsed.servers.push(server(
                &tree,
                reader,
                protocol,
                *item,
                &inherited,
                &maps,
                &mut parsed.warnings,
            ));
        }
    }
    share_flags(&mut parsed.servers);
    parsed.servers.retain(|server| {
        server.protocol == Protocol::Http || server.listens.iter().any(|listen| listen.tls)
    });
    parsed
}

/// Whatever block such a directive stands in, nginx loads the file; one of no value takes back what is inherited.
fn presented(tree: &Tree<'_>) -> Vec<Presented> {
    let named = tree.for_upstreams.iter().filter_map(|(file, directive)| {
        let value = directive.args.first().filter(|value| !value.is_empty())?;
        let (certificate, _) = source(tree, value);
        let at = Place {
            file: file.into(),
            line: directive.line,
        };
        Some(Presented {
            certificate,
            through: Vec::new(),
            at,
        })
    });
    named.collect()
}

/// The TLS settings of one level, `None` where that level says nothing.
#[derive(Default)]
struct Tls {
    certificates: Vec<Written>,
    keys: Vec<Written>,
    rejects: Option<bool>,
    /// `ssl on`, gone since nginx 1.25.1: every listener of the block.
    everywhere: Option<bool>,
    /// `starttls`, of `mail`.
    by_command: Option<bool>,
}

/// A value, and whether it holds variables.
type Written = (CertificateSource, bool);

impl Tls {
    fn of(tree: &Tree<'_>, items: &[Effective<'_>]) -> Self {
        let mut tls = Self::default();
        for item in items {
            let Some(value) = item.directive.args.first() else {
                continue;
            };
            match &*item.directive.name {
                "ssl_certificate" => tls.certificates.push(source(tree, value)),
                "ssl_certificate_key" => tls.keys.push(source(tree, value)),
                "ssl_reject_handshake" => tls.rejects = Some(value == "on"),
                "ssl" => tls.everywhere = Some(value == "on"),
                "starttls" => tls.by_command = Some(value != "off"),
                _ => {}
            }
        }
        tls
    }
}

fn source(tree: &Tree<'_>, value: &str) -> Written {
    let holds_variables = value.contains('$');
    let source = if value.starts_with("data:") {
        CertificateSource::Data
    } else if value.starts_with("engine:") || value.starts_with("store:") {
        CertificateSource::Store
    } else if holds_variables {
        CertificateSource::Variable(value.to_owned())
    } else {
        CertificateSource::File(tree.joined(value))
    };
    (source, holds_variables)
}

fn server(
    tree: &Tree<'_>,
    reader: Reader<'_>,
    protocol: Protocol,
    outer: Effective<'_>,
    inherited: &Tls,
    maps: &Maps<'_>,
    warnings: &mut Vec<String>,
) -> Server {
    let items = tree.inside(outer);
    let own = Tls::of(tree, &items);
    // Each of the two lists is inherited as a whole, only where the block has none of its own.
    let certificates = if own.certificates.is_empty() {
        &inherited.certificates
    } else {
        &own.certificates
    };
    let keys = if own.keys.is_empty() {
        &inherited.keys
    } else {
        &own.keys
    };
    let by_command =
        protocol == Protocol::Mail && own.by_command.or(inherited.by_command).unwrap_or(false);
    let everywhere = by_command || own.everywhere.or(inherited.everywhere).unwrap_or(false);

    let mut read = Server {
        protocol: if by_command {
            Protocol::StartTls
        } else {
            protocol
        },
        listens: Vec::new(),
        names: Vec::new(),
        certificates: certificates
            .iter()
            .zip(keys)
            .map(|((certificate, _), (key, _))| CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                through: Vec::new(),
                expansions: Vec::new(),
            })
            .collect(),
        read_by_workers: certificates
            .iter()
            .chain(keys)
            .any(|(_, variable)| *variable),
        rejects_handshake: own.rejects.or(inherited.rejects).unwrap_or(false),
        at: outer.place(),
        challenge_include: None,
        redirect_before_include: None,
    };
    for item in &items {
        let directive = item.directive;
        match &*directive.name {
            "listen" => match listen(&directive.args) {
                Some(listens) => read.listens.extend(listens),
                None => warnings.push(format!(
                    "{}: this listen directive is not understood and passed over",
                    item.place()
                )),
            },
            // In `mail` it is what the server calls itself; names don't choose among its blocks.
            "server_name" if protocol != Protocol::Mail => read.names.extend(
                directive
                    .args
                    .iter()
                    .filter_map(|name| server_name(name, reader.hostname)),
            ),
            "if" if directive.args.concat() == CHALLENGE_TEST => {
                read.challenge_include.get_or_insert_with(|| item.entry());
            }
            // The rewrite module runs in the order of the file, and the first that answers wins.
            _ if read.challenge_include.is_none() && answers_early(tree, *item) => {
                read.redirect_before_include
                    .get_or_insert_with(|| item.place());
            }
            _ => {}
        }
    }
    if read.listens.is_empty() {
        // nginx's own default.
        let port = if reader.is_root { 80 } else { 8000 };
        read.listens.push(plain(ListenAddress::AnyV4(port)));
    }
    for listen in &mut read.listens {
        listen.tls |= everywhere;
    }
    for files in &mut read.certificates {
        if let CertificateSource::Variable(written) = &files.certificate {
            files.expansions = maps.expand(written, &read.names);
            for expansion in &mut files.expansions {
                // What begins with a variable may be absolute; a name that is asked for isn't.
                if !expansion.path.starts_with('$') || expansion.begins_with_name() {
                    let path = tree.absolute(&expansion.path);
                    expansion.path = path.to_string_lossy().into_owned();
                }
            }
        }
    }
    read
}

/// Whether a directive at server level ends the request, moves it, or (`break`) has the rewrite module pass over what
/// follows.
fn answers_early(tree: &Tree<'_>, item: Effective<'_>) -> bool {
    match &*item.directive.name {
        "return" | "rewrite" | "break" => true,
        "if" => tree
            .inside(item)
            .iter()
            .any(|inner| matches!(&*inner.directive.name, "return" | "rewrite" | "break")),
        _ => false,
    }
}

fn server_name(text: &str, hostname: &str) -> Option<ServerName> {
    let lower = text.to_ascii_lowercase();
    if text.is_empty() {
        None
    } else if text == "$hostname" {
        Some(ServerName::Exact(hostname.to_lowercase()))
    } else if let Some(regex) = text.strip_prefix('~') {
        Some(ServerName::Regex(regex.to_owned()))
    } else if let Some(base) = lower.strip_prefix("*.") {
        Some(ServerName::Leading(base.to_owned()))
    } else if let Some(base) = lower.strip_prefix('.') {
        Some(ServerName::Dotted(base.to_owned()))
    } else if let Some(base) = lower.strip_suffix(".*") {
        Some(ServerName::Trailing(base.to_owned()))
    } else {
        Some(ServerName::Exact(lower))
    }
}

/// `ssl`, `proxy_protocol` and `ipv6only=off` belong to the address: one block that says so says it for all on the
/// same one.
fn share_flags(servers: &mut [Server]) {
    let both: HashSet<(Protocol, u16, bool)> = servers
        .iter()
        .flat_map(|server| {
            server
                .listens
                .iter()
                .map(move |listen| (server.protocol, listen))
        })
        .filter_map(|(protocol, listen)| match listen.address {
            ListenAddress::AnyBoth(port) => Some((protocol, port, listen.quic)),
            _ => None,
        })
        .collect();
    for server in &mut *servers {
        for listen in &mut server.listens {
            if let ListenAddress::AnyV6(port) = listen.address
                && both.contains(&(server.protocol, port, listen.quic))
            {
                listen.address = ListenAddress::AnyBoth(port);
            }
        }
    }
    let mut flags: HashMap<(Protocol, ListenAddress, bool), (bool, bool)> = HashMap::new();
    for server in &*servers {
        for listen in &server.listens {
            let shared = flags
                .entry((server.protocol, listen.address.clone(), listen.quic))
                .or_default();
            shared.0 |= listen.tls;
            shared.1 |= listen.proxy_protocol;
        }
    }
    for server in servers {
        for listen in &mut server.listens {
            let shared = flags.get(&(server.protocol, listen.address.clone(), listen.quic));
            if let Some((tls, proxy_protocol)) = shared {
                listen.tls = *tls;
                listen.proxy_protocol = *proxy_protocol;
            }
        }
    }
}

#[cfg(test)]
mod tests;
