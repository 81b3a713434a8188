//! What there is to look at from outside: pure.
//!
//! Each certificate is looked at on each of its hosts, under each of its names; and under each name where DNS leads,
//! unless something else is to stand there.
//! Where there is too much of it for one round or one message, the first names of each certificate go before the
//! others.

use std::net::{IpAddr, SocketAddr};

use certwell_probe::{Look, outlook::ADDRESSES, url::Expected};
use certwell_proto::{HostName, Identifier, v1};
use prost::Message as _;

use super::{facts::FleetFacts, seen::addresses::of_host};
use crate::config::{Certificate, Roots};

/// What stands in the place of a wildcard: a name that nobody has.
const MADE_UP: &str = "certwell-probe";

/// Everything that there is to look at, the first names of each certificate first.
pub fn looks(facts: &FleetFacts) -> Vec<Look> {
    let port = facts.config.probe.port;
    let mut looks: Vec<(usize, Look)> = Vec::new();
    for (name, declared) in &facts.config.certificates {
        // Nothing is anywhere yet.
        if facts
            .certificates
            .get(name)
            .is_none_or(|known| known.issued.is_none())
        {
            continue;
        }
        for (index, sent) in names(declared).into_iter().enumerate() {
            let look = |host: Option<&HostName>, addresses: Vec<SocketAddr>| Look {
                certificate: name.clone(),
                name: sent.clone(),
                host: host.cloned(),
                addresses,
                port,
                url: url(declared, &sent),
            };
            if asks_dns(declared, &sent) {
                looks.push((index, look(None, Vec::new())));
            }
            for host in &declared.hosts {
                let addresses: Vec<SocketAddr> = of_host(facts, host)
                    .into_iter()
                    .filter(|(_, served)| {
                        served.as_ref().is_none_or(|served| {
                            served
                                .iter()
                                .any(|one| one == &sent || stands_for(one, &sent))
                        })
                    })
                    .map(|(address, _)| address)
                    .take(ADDRESSES)
                    .collect();
                if !addresses.is_empty() {
                    looks.push((index, look(Some(host), addresses)));
                }
            }
        }
    }
    // Stable: of each certificate the first name, then of each the second.
    looks.sort_by_key(|(index, _)| *index);
    looks.into_iter().map(|(_, look)| look).collect()
}

/// Whether a name is looked at besides where no host is told: an address is one by itself, and DNS isn't asked for it.
fn asks_dns(declared: &Certificate, sent: &str) -> bool {
    declared.probe_dns || sent.parse::<IpAddr>().is_ok()
}

/// As they are sent: a wildcard by a made-up label.
fn names(declared: &Certificate) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    // What the URL is got from comes first, even if only a wildcard covers it.
    names.extend(declared.probe_url.iter().map(|url| url.name.clone()));
    for identifier in &declared.identifiers {
        let name = match identifier {
            Identifier::Dns(name) => match name.strip_prefix("*.") {
                Some(parent) => format!("{MADE_UP}.{parent}"),
                None => name.clone(),
            },
            Identifier::Ip(ip) => ip.to_string(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether an agent that looked at `reported` has looked at the same wildcard: its label is made up, too.
fn stands_for(reported: &str, sent: &str) -> bool {
    let parent = |name: &str| name.split_once('.').map(|(_, parent)| parent.to_owned());
    sent.starts_with(MADE_UP) && parent(reported) == parent(sent)
}

fn url(declared: &Certificate, sent: &str) -> Option<Expected> {
    let url = declared.probe_url.as_ref().filter(|url| url.name == sent)?;
    Some(Expected {
        url: url.url.clone(),
        status: url.status,
        content_type: url.content_type.clone(),
    })
}

/// DER of the roots that chains of declared certificates lead to: those of their authorities, as far as files tell
/// them, and those that what is issued led to.
pub fn roots(facts: &FleetFacts) -> Vec<Vec<u8>> {
    let mut roots: Vec<Vec<u8>> = Vec::new();
    let files = facts
        .config
        .authorities
        .values()
        .filter_map(|authority| match &authority.roots {
            Roots::File { certificates, .. } => Some(certificates),
            Roots::System => None,
        });
    let issued = facts.config.certificates.keys().filter_map(|name| {
        let issued = facts.certificates.get(name)?.issued.as_ref()?;
        Some(&issued.root)
    });
    for root in files.flatten().chain(issued) {
        if !root.is_empty() && !roots.contains(root) {
            roots.push(root.clone());
        }
    }
    roots
}

/// What a host that is a probe is to look at, in at most so many bytes; `None` for one that is none.
pub fn outlook(facts: &FleetFacts, host: &HostName, bytes: usize) -> Option<v1::Outlook> {
    if !facts.config.hosts.get(host)?.probe {
        return None;
    }
    let settings = &facts.config.probe;
    let mut outlook = v1::Outlook {
        looks: Vec::new(),
        every_ms: u32::try_from(settings.every.as_millis()).unwrap_or(u32::MAX),
        resolvers: settings
            .resolvers
            .iter()
            .take(ADDRESSES)
            .map(SocketAddr::to_string)
            .collect(),
        roots: roots(facts),
    };
    /// Tag and length of one look.
    const FRAMING: usize = 8;
    let mut room = bytes.saturating_sub(outlook.encoded_len());
    for look in looks(facts) {
        let look = look.to_wire();
        let Some(left) = room.checked_sub(look.encoded_len() + FRAMING) else {
            break;
        };
        room = left;
        outlook.looks.push(look);
    }
    Some(outlook)
}
