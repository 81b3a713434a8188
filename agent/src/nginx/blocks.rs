//! Pure: from the tree of directives to server blocks.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use super::{
    listen::{listen, plain},
    servers::{
        CertificateFiles, CertificateSource, ListenAddress, Parsed, Protocol, Server, ServerName,
    },
    syntax::{Effective, Tree},
    variables::Maps,
};

/// The variable of the challenge map: a block that tests it answers HTTP-01.
const CHALLENGE_TEST: &str = "($certwell_acme_reply)";

/// The text of `nginx -T`, as server blocks. Never fails: what isn't understood is said in the warnings.
pub fn parse(dump: &str) -> Parsed {
    parse_in(dump, Path::new("/"))
}

/// The same of a master that runs in this directory: its paths are relative to it where its prefix is.
pub fn parse_in(dump: &str, directory: &Path) -> Parsed {
    let mut tree = Tree::parse(dump, directory);
    let mut parsed = Parsed {
        servers: Vec::new(),
        files: tree.paths(),
        warnings: std::mem::take(&mut tree.warnings),
        http: Vec::new(),
        http_includes: Vec::new(),
    };
    for outer in tree.top() {
        let protocol = match &*outer.directive.name {
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
            "server_name" if protocol != Protocol::Mail => read
                .names
                .extend(directive.args.iter().filter_map(|name| server_name(name))),
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
        // nginx's own default, 8000 for those who may not take 80.
        let port = if nix::unistd::geteuid().is_root() {
            80
        } else {
            8000
        };
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

/// Whether a directive at server level ends the request, or moves it, before what follows.
fn answers_early(tree: &Tree<'_>, item: Effective<'_>) -> bool {
    match &*item.directive.name {
        "return" | "rewrite" => true,
        "if" => tree
            .inside(item)
            .iter()
            .any(|inner| matches!(&*inner.directive.name, "return" | "rewrite")),
        _ => false,
    }
}

fn server_name(text: &str) -> Option<ServerName> {
    let lower = text.to_ascii_lowercase();
    if text.is_empty() {
        None
    } else if text == "$hostname" {
        let hostname = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .to_lowercase();
        Some(ServerName::Exact(hostname))
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn http(body: &str) -> Parsed {
        parse(&format!(
            "# configuration file /etc/nginx/nginx.conf:\nhttp {{\n{body}\n}}\n"
        ))
    }

    #[test]
    fn certificates_are_inherited_as_a_whole_and_twins_stay_paired() {
        let parsed = http(
            "ssl_certificate a.pem; ssl_certificate_key a.key;\n\
             server { listen 443 ssl; }\n\
             server { listen 443 ssl; ssl_certificate /live/m/f.pem; ssl_certificate_key /live/m/k.pem;\n\
               ssl_certificate /live/r/f.pem; ssl_certificate_key /live/r/k.pem; }\n\
             server { listen 443; ssl_certificate /c/$ssl_server_name.pem; ssl_certificate_key data:$key; }",
        );
        let shown = |n: usize| format!("{:?}", parsed.servers[n].certificates);
        assert!(shown(0).contains("/etc/nginx/a.pem") && shown(0).contains("/etc/nginx/a.key"));
        assert_eq!(parsed.servers[1].certificates.len(), 2);
        assert!(shown(1).contains("/live/r/f.pem") && !shown(1).contains("a.pem"));
        assert_eq!(
            parsed.servers[2].certificates[0].certificate,
            CertificateSource::Variable("/c/$ssl_server_name.pem".into())
        );
        assert_eq!(
            parsed.servers[2].certificates[0].key,
            CertificateSource::Data
        );
        assert!(
            parsed.servers[2].listens[0].tls,
            "ssl is a property of the address"
        );
    }

    #[test]
    fn names_of_every_kind() {
        let parsed =
            http("server { server_name WWW.a.org *.b.org .c.org d.* ~^x\\.(?<y>.+)$ \"\" _; }");
        use ServerName::*;
        assert_eq!(
            parsed.servers[0].names,
            [
                Exact("www.a.org".into()),
                Leading("b.org".into()),
                Dotted("c.org".into()),
                Trailing("d".into()),
                Regex("^x\\.(?<y>.+)$".into()),
                Exact("_".into())
            ]
        );
    }

    #[test]
    fn the_include_is_found_before_or_after_a_redirect() {
        let challenge = "if ($certwell_acme_reply) { return 200 $certwell_acme_reply; }";
        let dump = format!(
            "# configuration file /etc/nginx/nginx.conf:\nhttp {{\n  include sites/*;\n}}\n\n\
             # configuration file /etc/nginx/sites/a:\nserver {{\n  listen 80;\n  include snippets/certwell-acme.conf;\n  return 301 https://$host$request_uri;\n}}\n\
             server {{\n  return 301 https://$host$request_uri;\n  include snippets/certwell-acme.conf;\n}}\n\
             server {{\n  if ($host = a.org) {{ return 301 https://$host$request_uri; }}\n  location / {{ return 404; }}\n}}\n\
             server {{\n  location / {{ return 404; }}\n}}\n\n\
             # configuration file /etc/nginx/snippets/certwell-acme.conf:\n{challenge}\n"
        );
        let parsed = parse(&dump);
        let shown: Vec<_> = parsed
            .servers
            .iter()
            .map(|s| {
                let line = |place: &Option<super::super::servers::Place>| {
                    place.as_ref().map(|place| place.line)
                };
                (
                    s.at.to_string(),
                    line(&s.challenge_include),
                    line(&s.redirect_before_include),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("/etc/nginx/sites/a:1".to_owned(), Some(3), None),
                ("/etc/nginx/sites/a:6".to_owned(), Some(8), Some(7)),
                ("/etc/nginx/sites/a:10".to_owned(), None, Some(11)),
                ("/etc/nginx/sites/a:14".to_owned(), None, None),
            ]
        );
    }

    #[test]
    fn stream_servers_count_when_they_speak_tls() {
        let parsed = parse(
            "# configuration file /n.conf:\nstream {\n server { listen 993 ssl proxy_protocol; ssl_certificate c; ssl_certificate_key k; proxy_pass x; }\n server { listen 53 udp; }\n}\n",
        );
        assert_eq!(parsed.servers.len(), 1);
        assert!(parsed.servers[0].listens[0].proxy_protocol);
    }

    #[test]
    fn what_is_not_understood_stops_nothing() {
        let parsed = http(
            "frobnicate on { x; }\n server { listen 99999; listen 127.0.0.1:81; strange \"words\" 'of' $a$b; }",
        );
        assert_eq!(parsed.servers[0].listens.len(), 1);
        assert_eq!(parsed.warnings.len(), 1);
        assert!(
            parsed.warnings[0].starts_with("/etc/nginx/nginx.conf:3"),
            "{:?}",
            parsed.warnings
        );
    }

    proptest! {
        #[test]
        fn no_configuration_makes_it_panic(
            words in proptest::collection::vec("server|listen|http|stream|ssl_certificate|include|\\{|\\}|;|if|return|[\\[\\]:*~.0-9a-z$/\"'-]{1,12}|\n", 0..80)
        ) {
            let _ = http(&words.join(" "));
        }
    }
}
