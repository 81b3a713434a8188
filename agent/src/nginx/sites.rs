//! Pure: which server block answers a name on an address, by nginx's own rules.
//!
//! nginx first takes the most specific `listen` of an address, so that a block with `listen 443` isn't asked at an
//! address that another block names; among the blocks left, an exact name wins over the longest leading wildcard, that
//! over the longest trailing one, that over the first matching expression, and the default server takes the rest.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    servers::{Listen, ListenAddress, Place, Protocol, Server, ServerName},
    targets::Endpoint,
};

/// The server blocks of a host, with the addresses that it has.
#[derive(Debug)]
pub struct Sites<'a> {
    servers: &'a [Server],
    local: &'a [IpAddr],
    /// Addresses that some `listen` names outright.
    named: HashSet<(Protocol, SocketAddr)>,
}

/// Who answers on one address.
#[derive(Debug, Default)]
pub struct Answers<'a> {
    default_server: Option<usize>,
    exact: HashMap<&'a str, usize>,
    bare: HashMap<&'a str, usize>,
    leading: HashMap<&'a str, usize>,
    trailing: HashMap<&'a str, usize>,
    has_regex: bool,
}

impl<'a> Sites<'a> {
    /// `local` are the addresses of this host's interfaces.
    pub fn new(servers: &'a [Server], local: &'a [IpAddr]) -> Self {
        let named = servers
            .iter()
            .flat_map(|server| {
                server
                    .listens
                    .iter()
                    .map(move |listen| (server.protocol, listen))
            })
            .filter_map(|(protocol, listen)| match listen.address {
                ListenAddress::Ip(address) if !listen.quic => Some((protocol, address)),
                _ => None,
            })
            .collect();
        Self {
            servers,
            local,
            named,
        }
    }

    /// Whether an address is on this host; all of 127.0.0.0/8 is.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(v4) if v4.is_loopback()) || self.local.contains(&ip)
    }

    /// Where the server block stands.
    pub fn place(&self, index: usize) -> Place {
        self.servers[index].at.clone()
    }

    /// The addresses of this host that a `listen` stands for. A loopback address stands for a wildcard only where
    /// the host has no other; an address that any block names belongs to the blocks that name it.
    pub fn endpoints(&self, protocol: Protocol, listen: &ListenAddress) -> Vec<Endpoint> {
        let port = match listen {
            ListenAddress::Unix(path) => return vec![Endpoint::Unix(path.clone())],
            ListenAddress::Ip(address) if self.is_local(address.ip()) => {
                return vec![Endpoint::Tcp(*address)];
            }
            ListenAddress::Ip(_) | ListenAddress::Named(..) => return Vec::new(),
            ListenAddress::AnyV4(port)
            | ListenAddress::AnyV6(port)
            | ListenAddress::AnyBoth(port) => *port,
        };
        let covered = |ip: &&IpAddr| listen.covers_any(**ip);
        let mut found: Vec<IpAddr> = self
            .local
            .iter()
            .filter(covered)
            .filter(|ip| !ip.is_loopback())
            .copied()
            .collect();
        if found.is_empty() {
            let loopback = [
                IpAddr::from([127, 0, 0, 1]),
                IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]),
            ];
            found.extend(
                loopback
                    .iter()
                    .filter(covered)
                    .filter(|ip| self.is_local(**ip))
                    .take(1),
            );
        }
        found
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .filter(|address| !self.is_named(protocol, *address))
            .map(Endpoint::Tcp)
            .collect()
    }

    /// Who answers there. Nobody where nothing listens.
    pub fn at(&self, protocol: Protocol, endpoint: &Endpoint) -> Answers<'a> {
        let listens: Box<dyn Fn(&Listen) -> bool> = match endpoint {
            Endpoint::Tcp(address) if self.is_named(protocol, *address) => {
                let address = *address;
                Box::new(move |listen| listen.address == ListenAddress::Ip(address))
            }
            Endpoint::Tcp(address) => {
                let address = *address;
                Box::new(move |listen| {
                    listen.address.port() == Some(address.port())
                        && listen.address.covers_any(address.ip())
                })
            }
            Endpoint::Unix(path) => {
                let path = path.clone();
                Box::new(
                    move |listen| matches!(&listen.address, ListenAddress::Unix(other) if *other == path),
                )
            }
            Endpoint::Written(_) => return Answers::default(),
        };
        let mut answers = Answers::default();
        let mut declared = false;
        for (index, server) in self.servers.iter().enumerate() {
            let mut here = server
                .listens
                .iter()
                .filter(|listen| server.protocol == protocol && !listen.quic && listens(listen))
                .peekable();
            if here.peek().is_none() {
                continue;
            }
            if !declared && here.any(|listen| listen.default_server) {
                declared = true;
                answers.default_server = Some(index);
            }
            answers.default_server.get_or_insert(index);
            for name in &server.names {
                answers.add(name, index);
            }
        }
        answers
    }

    /// Where a CA may come in: local addresses on which plain HTTP is spoken at `port`. No CA reaches a loopback
    /// address, so that those count only where nothing else listens.
    pub fn plain_http(&self, port: u16) -> Vec<SocketAddr> {
        let listens = self
            .servers
            .iter()
            .filter(|server| server.protocol == Protocol::Http)
            .flat_map(|server| {
                server.listens.iter().filter(|listen| {
                    !listen.tls && !listen.quic && listen.address.port() == Some(port)
                })
            });
        let mut found: Vec<SocketAddr> = listens
            .flat_map(|listen| self.endpoints(Protocol::Http, &listen.address))
            .filter_map(|endpoint| match endpoint {
                Endpoint::Tcp(address) => Some(address),
                Endpoint::Unix(_) | Endpoint::Written(_) => None,
            })
            .collect();
        if found.iter().any(|address| !address.ip().is_loopback()) {
            found.retain(|address| !address.ip().is_loopback());
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Local addresses on which nginx wants a PROXY header before HTTP, with TLS or without.
    pub fn proxied(&self) -> HashSet<SocketAddr> {
        self.servers
            .iter()
            .filter(|server| server.protocol == Protocol::Http)
            .flat_map(|server| &server.listens)
            .filter(|listen| !listen.quic && listen.proxy_protocol)
            .flat_map(|listen| self.endpoints(Protocol::Http, &listen.address))
            .filter_map(|endpoint| match endpoint {
                Endpoint::Tcp(address) => Some(address),
                Endpoint::Unix(_) | Endpoint::Written(_) => None,
            })
            .collect()
    }

    /// The server block that answers `name` there.
    pub fn server(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        name: &str,
    ) -> Option<&'a Server> {
        let index = self.at(protocol, &Endpoint::Tcp(address)).to(name)?;
        self.servers.get(index)
    }

    fn is_named(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.named.contains(&(protocol, address))
    }
}

impl<'a> Answers<'a> {
    /// The first block that has a name keeps it.
    fn add(&mut self, name: &'a ServerName, index: usize) {
        let take = |names: &mut HashMap<&'a str, usize>, name: &'a str| {
            names.entry(name).or_insert(index);
        };
        match name {
            ServerName::Exact(name) => take(&mut self.exact, name),
            ServerName::Leading(base) => take(&mut self.leading, base),
            ServerName::Dotted(base) => {
                // An exact name elsewhere wins over the bare half of `.example.org`, in whatever order.
                take(&mut self.bare, base);
                take(&mut self.leading, base);
            }
            ServerName::Trailing(base) => take(&mut self.trailing, base),
            ServerName::Regex(_) => self.has_regex = true,
        }
    }

    /// The block that takes what no name takes.
    pub fn default_server(&self) -> Option<usize> {
        self.default_server
    }

    /// The block that answers `name`; `None` when nobody listens, or when an expression might match it.
    pub fn to(&self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        let after_dots = || name.match_indices('.').map(|(at, _)| at);
        self.exact
            .get(name.as_str())
            .or_else(|| self.bare.get(name.as_str()))
            .or_else(|| after_dots().find_map(|at| self.leading.get(&name[at + 1..])))
            .or_else(|| {
                after_dots()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .find_map(|at| self.trailing.get(&name[..at]))
            })
            .copied()
            .or(if self.has_regex {
                None
            } else {
                self.default_server
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::parse;
    use super::*;

    fn parsed(body: &str) -> Vec<Server> {
        parse(&format!(
            "# configuration file /n.conf:\nhttp {{\n{body}\n}}\n"
        ))
        .servers
    }

    #[test]
    fn names_are_chosen_in_the_order_of_nginx() {
        let servers = parsed(
            "server { listen 80; server_name first; }\n\
             server { listen 80 default_server; }\n\
             server { listen 80; server_name .example.org; }\n\
             server { listen 80; server_name *.deep.example.org www.example.*; }\n\
             server { listen 80; server_name example.org exact.example.org; }\n\
             server { listen 80; server_name first; }",
        );
        let local = ["192.0.2.7".parse().unwrap()];
        let sites = Sites::new(&servers, &local);
        let answers = sites.at(
            Protocol::Http,
            &Endpoint::Tcp("192.0.2.7:80".parse().unwrap()),
        );
        for (name, expected) in [
            ("first", 0),
            ("other", 1),
            ("a.example.org", 2),
            ("a.b.example.org", 2),
            ("x.deep.example.org", 3),
            ("deep.example.org", 2),
            ("www.example.net", 3),
            ("EXAMPLE.org", 4),
            ("exact.example.org", 4),
            ("xexample.org", 1),
        ] {
            assert_eq!(answers.to(name), Some(expected), "{name}");
        }
        let elsewhere = sites.at(
            Protocol::Http,
            &Endpoint::Tcp("192.0.2.7:81".parse().unwrap()),
        );
        assert_eq!(elsewhere.to("first"), None);
    }

    #[test]
    fn an_address_that_a_block_names_is_not_answered_by_wildcard_blocks() {
        let servers = parsed(
            "server { listen 80; server_name a; }\nserver { listen 192.0.2.7:80; server_name b; }",
        );
        let local: Vec<IpAddr> = ["192.0.2.7", "192.0.2.8", "127.0.0.1", "2001:db8::7"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let sites = Sites::new(&servers, &local);
        assert_eq!(
            sites
                .at(
                    Protocol::Http,
                    &Endpoint::Tcp("192.0.2.7:80".parse().unwrap())
                )
                .to("a"),
            Some(1)
        );
        assert_eq!(
            sites.endpoints(Protocol::Http, &ListenAddress::AnyV4(80)),
            [Endpoint::Tcp("192.0.2.8:80".parse().unwrap())]
        );
        assert_eq!(sites.plain_http(80).len(), 2);
        assert_eq!(
            sites
                .endpoints(Protocol::Http, &ListenAddress::AnyBoth(81))
                .len(),
            3,
            "every address but the loopback one"
        );
    }

    #[test]
    fn a_loopback_listener_is_asked_only_where_nothing_else_speaks_plain_http() {
        let local: Vec<IpAddr> = ["192.0.2.7", "127.0.0.1"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let inside = "server { listen 127.0.0.1:80; }";
        let servers = parsed(&format!("server {{ listen 80 proxy_protocol; }}\n{inside}"));
        let sites = Sites::new(&servers, &local);
        let outside: SocketAddr = "192.0.2.7:80".parse().unwrap();
        assert_eq!(sites.plain_http(80), [outside]);
        assert_eq!(sites.proxied(), HashSet::from([outside]));
        let servers = parsed(inside);
        assert_eq!(
            Sites::new(&servers, &local).plain_http(80),
            ["127.0.0.1:80".parse().unwrap()]
        );
    }

    #[test]
    fn loopback_stands_in_only_where_there_is_nothing_else() {
        let servers = [];
        let lonely = Sites::new(&servers, &[]);
        assert_eq!(
            lonely.endpoints(Protocol::Http, &ListenAddress::AnyV4(80)),
            [Endpoint::Tcp("127.0.0.1:80".parse().unwrap())]
        );
        assert!(
            lonely
                .endpoints(Protocol::Http, &ListenAddress::AnyV6(80))
                .is_empty()
        );
        let local = ["::1".parse().unwrap()];
        let six = Sites::new(&servers, &local);
        assert_eq!(
            six.endpoints(Protocol::Http, &ListenAddress::AnyV6(80)),
            [Endpoint::Tcp("[::1]:80".parse().unwrap())]
        );
        assert!(six.is_local("127.9.9.9".parse().unwrap()));
    }

    #[test]
    fn an_expression_makes_the_default_uncertain() {
        let servers =
            parsed("server { listen 80; server_name a; }\nserver { listen 80; server_name ~^b; }");
        let sites = Sites::new(&servers, &[]);
        let answers = sites.at(
            Protocol::Http,
            &Endpoint::Tcp("127.0.0.1:80".parse().unwrap()),
        );
        assert_eq!((answers.to("a"), answers.to("bb")), (Some(0), None));
    }
}
