//! At which addresses a host is looked at, and whose an address is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use certwell_proto::{HostName, v1};

use crate::plan::facts::FleetFacts;

/// From how far an address can be reached; the wider, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Loopback,
    Private,
    World,
}

fn reach(ip: IpAddr) -> Option<Reach> {
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    match ip {
        // Meaningless without an interface, or on no wire at all.
        IpAddr::V4(v4) if v4.is_link_local() || v4.is_broadcast() => None,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => None,
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4.octets()) => Some(Reach::Private),
        IpAddr::V6(v6) if v6.is_unique_local() => Some(Reach::Private),
        _ => Some(Reach::World),
    }
}

/// 100.64.0.0/10, behind a carrier's translation (RFC 6598).
fn is_shared([first, second, ..]: [u8; 4]) -> bool {
    first == 100 && (64..128).contains(&second)
}

/// Where a host is looked at: what the configuration says, else the listeners that its agent reports, those only that
/// can be reached from farthest. With each address the names that the agent says are served there; `None`: every name.
pub fn of_host(
    facts: &FleetFacts,
    host: &HostName,
) -> BTreeMap<SocketAddr, Option<BTreeSet<String>>> {
    let written = facts
        .config
        .hosts
        .get(host)
        .map(|declared| &declared.addresses);
    if let Some(written) = written.filter(|written| !written.is_empty()) {
        return written.iter().map(|address| (*address, None)).collect();
    }
    let mut reported: BTreeMap<SocketAddr, Option<BTreeSet<String>>> = BTreeMap::new();
    for (address, listener) in listeners(facts, host) {
        // A load balancer stands before it, which isn't the host's.
        if listener.proxy_protocol || listener.state() == v1::ListenerState::Elsewhere {
            continue;
        }
        let names = reported
            .entry(address)
            .or_insert_with(|| (address.port() != facts.config.probe.port).then(BTreeSet::new));
        if let Some(names) = names {
            names.insert(listener.name.clone());
        }
    }
    if reported.is_empty() {
        for (address, name) in looked_at(facts, host) {
            let names = reported
                .entry(address)
                .or_insert_with(|| (address.port() != facts.config.probe.port).then(BTreeSet::new));
            if let Some(names) = names {
                names.insert(name.to_owned());
            }
        }
    }
    let farthest = reported
        .keys()
        .filter_map(|address| reach(address.ip()))
        .max();
    reported.retain(|address, _| reach(address.ip()) == farthest && farthest.is_some());
    reported
}

/// Whether all that a host reports stands behind something else, so that only DNS leads there.
pub fn is_behind_others(facts: &FleetFacts, host: &HostName) -> bool {
    listeners(facts, host).next().is_some() && of_host(facts, host).is_empty()
}

fn listeners<'a>(
    facts: &'a FleetFacts,
    host: &HostName,
) -> impl Iterator<Item = (SocketAddr, &'a v1::Listener)> {
    let host = host.clone();
    facts
        .certificates
        .values()
        .filter_map(move |known| known.observations.get(&host)?.facts.served.as_ref())
        .flat_map(|served| &served.listeners)
        .filter_map(|listener| Some((listener.address.parse().ok()?, listener)))
}

/// Where it was looked at last, and under which names: its agent reports no listener while nginx is stopped, which is
/// when somebody should look.
fn looked_at<'a>(
    facts: &'a FleetFacts,
    host: &HostName,
) -> impl Iterator<Item = (SocketAddr, &'a str)> {
    let host = host.clone();
    facts
        .sightings
        .probes
        .values()
        .flat_map(|probe| probe.seen.keys())
        .filter(move |spot| spot.host.as_ref() == Some(&host))
        .filter_map(|spot| Some((spot.address?, spot.name.as_str())))
}

/// Whose which address is.
#[derive(Debug, Default)]
pub struct Owners<'a>(BTreeMap<IpAddr, BTreeSet<&'a HostName>>);

impl<'a> Owners<'a> {
    /// By all that the configuration says and agents report, however far it reaches.
    pub fn of(facts: &'a FleetFacts) -> Self {
        let mut owners: BTreeMap<IpAddr, BTreeSet<&HostName>> = BTreeMap::new();
        for (host, declared) in &facts.config.hosts {
            let mut reported: Vec<SocketAddr> = listeners(facts, host)
                .filter(|(_, listener)| listener.state() != v1::ListenerState::Elsewhere)
                .map(|(address, _)| address)
                .collect();
            if reported.is_empty() {
                reported.extend(looked_at(facts, host).map(|(address, _)| address));
            }
            for address in declared.addresses.iter().copied().chain(reported) {
                owners
                    .entry(address.ip().to_canonical())
                    .or_default()
                    .insert(host);
            }
        }
        Self(owners)
    }

    /// The hosts that have this address.
    pub fn hosts(&self, ip: IpAddr) -> impl Iterator<Item = &'a HostName> {
        self.0
            .get(&ip.to_canonical())
            .into_iter()
            .flatten()
            .copied()
    }
}
