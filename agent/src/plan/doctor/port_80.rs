//! The server blocks to which a CA comes, and whether each answers HTTP-01 before anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::Findings;
use crate::nginx::{
    Endpoint, ListenAddress, Place, Server, ServerName, Sites, Verdict, servers::Protocol,
};

/// What an operator adds.
pub const INCLUDE: &str = "include snippets/certwell-acme.conf;";
/// What the included file says.
pub const ANSWER: &str = "if ($certwell_acme_reply) { return 200 $certwell_acme_reply; }";
const FIX: &str = "`certwell-agent doctor --fix-include` does";

/// What is known.
#[derive(Debug, Default)]
pub struct Facts {
    /// Where a CA's requests arrive: 80, unless something in front of this host maps it.
    pub port: u16,
    /// nginx's server blocks.
    pub servers: Vec<Server>,
    /// This host's addresses.
    pub local: Vec<IpAddr>,
    /// The names that this host answers for; empty while that isn't known.
    pub names: Vec<String>,
    /// Addresses where nginx is configured to listen and nothing does: why.
    pub silent: Vec<(SocketAddr, String)>,
    /// What came of asking for a made-up token by each account; sentences.
    pub unanswered: Vec<String>,
}

/// A server block that doesn't answer HTTP-01 first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    /// The block.
    pub server: &'a Server,
    /// How many blocks that begin on the same line come before it.
    pub nth: usize,
    /// What it lacks.
    pub lack: Lack,
    /// Whether a name comes to it that this host answers for, as far as that is known.
    pub is_needed: bool,
}

/// What a block lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The include; a redirect that would answer besides.
    Include(Option<Place>),
    /// The include isn't ahead of this redirect.
    Order {
        /// Where the include stands.
        include: Place,
        /// What comes before it.
        redirect: Place,
    },
}

impl Facts {
    /// Whether nginx is known to speak plain HTTP nowhere at the port.
    pub fn has_no_server(&self) -> bool {
        Sites::new(&self.servers, &self.local)
            .plain_http(self.port)
            .is_empty()
    }
}

/// Every server block at the port that doesn't answer HTTP-01 first, in the order of the configuration.
pub fn blocks(facts: &Facts) -> Vec<Block<'_>> {
    let sites = Sites::new(&facts.servers, &facts.local);
    let arriving: BTreeSet<SocketAddr> = sites.plain_http(facts.port).into_iter().collect();
    let asked = asked(facts, &sites, &arriving);
    let mut before: BTreeMap<&Place, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, server) in facts.servers.iter().enumerate() {
        let nth = before.entry(&server.at).or_default();
        let this = *nth;
        *nth += 1;
        let Some(lack) = lack(server) else { continue };
        if !hears(facts, &sites, &arriving, server) {
            continue;
        }
        found.push(Block {
            server,
            nth: this,
            lack,
            is_needed: asked.contains(&index),
        });
    }
    found
}

fn lack(server: &Server) -> Option<Lack> {
    match (&server.challenge_include, &server.redirect_before_include) {
        (None, redirect) => Some(Lack::Include(redirect.clone())),
        (Some(include), Some(redirect)) => Some(Lack::Order {
            include: include.clone(),
            redirect: redirect.clone(),
        }),
        (Some(_), None) => None,
    }
}

/// Whether plain HTTP comes to it at the port; also at an address that isn't on this host now.
fn hears(
    facts: &Facts,
    sites: &Sites<'_>,
    arriving: &BTreeSet<SocketAddr>,
    server: &Server,
) -> bool {
    let plain = |listen: &&crate::nginx::Listen| {
        !listen.tls && !listen.quic && listen.address.port() == Some(facts.port)
    };
    server.protocol == Protocol::Http
        && server.listens.iter().filter(plain).any(|listen| {
            let elsewhere = match &listen.address {
                ListenAddress::Ip(address) => !sites.is_local(address.ip()),
                ListenAddress::Named(..) => true,
                _ => false,
            };
            elsewhere
                || sites
                    .endpoints(Protocol::Http, &listen.address)
                    .iter()
                    .any(|endpoint| matches!(endpoint, Endpoint::Tcp(to) if arriving.contains(to)))
        })
}

/// The blocks to which a CA comes: where the names are known those that answer them, else all that have a name, and
/// those that take what no name takes.
fn asked(facts: &Facts, sites: &Sites<'_>, arriving: &BTreeSet<SocketAddr>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let has_name = |server: &Server| !server.names.is_empty();
    let has_expression = |server: &Server| {
        let expression = |name: &ServerName| matches!(name, ServerName::Regex(_));
        server.names.iter().any(expression)
    };
    if facts.names.is_empty() {
        let named = facts.servers.iter().enumerate();
        found.extend(
            named
                .filter(|(_, server)| has_name(server))
                .map(|(at, _)| at),
        );
    }
    for address in arriving {
        let answers = sites.at(Protocol::Http, &Endpoint::Tcp(*address));
        if facts.names.is_empty() {
            found.extend(answers.default_server());
        }
        for name in &facts.names {
            match answers.to(name) {
                Some(index) => drop(found.insert(index)),
                // An expression may match it, or none does.
                None => {
                    let matching = facts.servers.iter().enumerate();
                    found.extend(
                        matching
                            .filter(|(_, s)| has_expression(s))
                            .map(|(at, _)| at),
                    );
                    found.extend(answers.default_server());
                }
            }
        }
    }
    found
}

pub(super) fn examine(facts: &Facts, is_running: bool, found: &mut Findings) {
    let port = facts.port;
    if facts.has_no_server() {
        found.in_the_way(
            "no-port-80-server",
            format!("nginx speaks plain HTTP at port {port} on no address of this host, so no HTTP-01 is answered"),
            format!(
                "enable the ready server block certwell-port80.conf, or add one with `listen {port};` and `{INCLUDE}`"
            ),
        );
        return;
    }
    if is_running {
        for (address, why) in &facts.silent {
            found.in_the_way(
                "port-80-silent",
                format!("nginx is configured to listen at {address}, and nothing does: {why}"),
                "reload nginx and see its error log: another program may have the port",
            );
        }
    }
    let blocks = blocks(facts);
    for block in blocks.iter().filter(|block| block.is_needed) {
        tell(block, found);
    }
    let others: Vec<&Block<'_>> = blocks.iter().filter(|block| !block.is_needed).collect();
    if let Some(first) = others.first()
        && !facts.names.is_empty()
    {
        let count = match others.len() {
            1 => "1 server block at port 80 doesn't".to_owned(),
            n => format!("{n} server blocks at port 80 don't"),
        };
        found.note(
            "include-not-needed",
            format!(
                "{count} answer HTTP-01 ({} first), and no name comes there that this host answers for",
                first.server.at
            ),
            "nothing needs to be done",
        );
    }
    if blocks.iter().all(|block| !block.is_needed) {
        for why in &facts.unanswered {
            found.in_the_way(
                "challenge-unanswered",
                format!("asked as a CA asks, {why}"),
                "do what it says; then see again with `certwell-agent doctor`",
            );
        }
    }
}

fn tell(block: &Block<'_>, found: &mut Findings) {
    let at = &block.server.at;
    let names: Vec<String> = block.server.names.iter().map(ToString::to_string).collect();
    let names = match names.as_slice() {
        [] => String::new(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!(" ({first} {second} {third} and {} more)", rest.len())
        }
        names => format!(" ({})", names.join(" ")),
    };
    match &block.lack {
        Lack::Include(redirect) => {
            let redirect = match redirect {
                Some(place) => format!("; it would have to stand ahead of the redirect at {place}"),
                None => String::new(),
            };
            found.in_the_way_at(
                Some(at.clone()),
                "include-missing",
                format!("the server block at {at}{names} answers no HTTP-01: it lacks `{INCLUDE}`{redirect}"),
                format!("make that the first line of the block: {FIX}"),
            );
        }
        Lack::Order { include, redirect } => found.in_the_way_at(
            Some(redirect.clone()),
            "redirect-before-include",
            format!(
                "the server block at {at}{names} answers no HTTP-01: its include at {include} comes after the redirect \
                 at {redirect}, and loses"
            ),
            format!("make `{INCLUDE}` the first line of the block: {FIX}"),
        ),
    }
}

/// What came of asking, as far as it is in the way.
pub fn unanswered(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Wrong(why) | Verdict::Erred(why) => Some(why),
    }
}
