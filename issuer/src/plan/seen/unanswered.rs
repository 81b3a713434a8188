//! Probes that no DNS server answers, whichever name they ask for.
//!
//! Either their own resolvers are to blame or the servers of the zone: where all names are of one zone, nobody can tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use certwell_proto::{HostName, Identifier};
use jiff::Timestamp;

use super::{
    findings::{Kind, since},
    sighting::{Shown, Spot},
    trust::Look,
    verdict::is_written,
};
use crate::plan::facts::FleetFacts;

/// Of one name alone nobody can tell whether its own servers are to blame.
const NAMES: usize = 2;

/// A probe that asked for several names, and was answered for none.
#[derive(Debug)]
pub struct Unanswered<'a> {
    /// Those that it asked for.
    pub names: BTreeSet<&'a str>,
    /// What came in the place of an answer.
    pub why: &'a str,
    /// Since when.
    pub since: Timestamp,
    /// Whether two looks have shown it, one after the other.
    pub stands: bool,
    /// Whether another probe is answered for one of the names.
    pub others_are_answered: bool,
}

/// Every such probe.
pub(super) fn unanswered<'a>(
    facts: &FleetFacts,
    looks: &[Look<'a>],
) -> BTreeMap<Option<&'a HostName>, Unanswered<'a>> {
    let mut probes: BTreeMap<_, Unanswered<'_>> = BTreeMap::new();
    for look in looks.iter().filter(|look| asks_dns(look.spot)) {
        // That nobody answers for a made-up name of a zone says nothing that its other names don't say.
        if let Shown::NoAnswer(why) = &look.sighting.shown
            && is_written(facts, look.spot)
        {
            let began = since(facts, look.spot, look.sighting, Kind::Unresolved);
            let of = probes.entry(look.probe).or_insert_with(|| Unanswered {
                names: BTreeSet::new(),
                why,
                since: began,
                stands: false,
                others_are_answered: false,
            });
            of.names.insert(&look.spot.name);
            of.since = of.since.min(began);
            of.stands |= began < look.sighting.at;
        }
    }
    probes.retain(|_, of| of.names.len() >= NAMES);
    for look in looks.iter().filter(|look| is_answered(look)) {
        probes.remove(&look.probe);
        let others = probes.values_mut();
        for other in others.filter(|other| other.names.contains(look.spot.name.as_str())) {
            other.others_are_answered = true;
        }
    }
    probes
}

/// Whether DNS was asked for the name of a look, which an address needs not.
pub(super) fn asks_dns(spot: &Spot) -> bool {
    spot.host.is_none() && spot.name.parse::<IpAddr>().is_err()
}

fn is_answered(look: &Look<'_>) -> bool {
    asks_dns(look.spot) && !matches!(look.sighting.shown, Shown::NoAnswer(_))
}

/// Whether probes ask for so many names at all.
pub fn can_be(facts: &FleetFacts) -> bool {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (name, declared) in &facts.config.certificates {
        let known = facts.certificates.get(name);
        if !declared.probe_dns || known.is_none_or(|known| known.issued.is_none()) {
            continue;
        }
        names.extend(declared.probe_url.iter().map(|url| url.name.as_str()));
        names.extend(declared.identifiers.iter().filter_map(|id| match id {
            Identifier::Dns(dns) if !id.is_wildcard() => Some(dns.as_str()),
            Identifier::Dns(_) | Identifier::Ip(_) => None,
        }));
    }
    names.len() >= NAMES
}
