//! What is wrong when looked at from outside, each fault once.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use certwell_proto::{CertificateName, Fingerprint, HostName, pace::pace};
use jiff::{SignedDuration, Timestamp};

use super::{
    sighting::{SeenLeaf, Shown, Sighting, Spot},
    trust::{Look, Looks},
    verdict::{Known, Whose, covers, desired},
};
use crate::{
    plan::{facts::FleetFacts, judge, presence::PATIENCE, words},
    store::Issued,
};

/// What can be wrong; the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// No handshake, or a refused one.
    Down,
    /// A leaf that isn't ours.
    Stranger,
    /// A chain that isn't valid there and now.
    Chain,
    /// A leaf of another certificate of ours that doesn't cover the name: another server block answered.
    OtherVhost,
    /// The URL answered something else than expected.
    Url,
    /// A leaf of the certificate, but not the one that is desired.
    OtherGeneration,
    /// The name leads to an address that is no host's of the certificate.
    LeadsElsewhere,
    /// DNS gives no address for the name.
    Unresolved,
}

/// Something that is wrong when looked at from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The certificate that should be there.
    pub certificate: CertificateName,
    /// Whose address it is, if that is known.
    pub host: Option<HostName>,
    /// `None`: DNS gives none.
    pub address: Option<SocketAddr>,
    /// The name that was looked at.
    pub name: String,
    /// One sentence, without a full stop.
    pub text: String,
    /// Since when it has been so.
    pub since: Timestamp,
    /// When what is seen there ends; `None` without a handshake.
    pub not_after: Option<Timestamp>,
    /// Whether some probe has seen it in two looks, one after the other.
    pub stands: bool,
}

/// One fault at one place, whichever kinds of key and probes show it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Fault<'a> {
    kind: Kind,
    certificate: &'a CertificateName,
    host: Option<HostName>,
    address: Option<SocketAddr>,
    name: &'a str,
}

/// Every fault that fresh sightings show, the worst kind first.
pub fn findings(facts: &FleetFacts, now: Timestamp) -> Vec<Finding> {
    let known = Known::of(facts);
    let looks = Looks::fresh(facts, now);
    let mut faults: BTreeMap<Fault<'_>, Vec<Look<'_>>> = BTreeMap::new();
    for look in looks.trusted() {
        for kind in known.faults(look.spot, look.sighting) {
            if is_under_way(facts, kind, look) {
                continue;
            }
            let fault = Fault {
                kind,
                certificate: &look.spot.certificate,
                host: known.host(look.spot),
                address: look.spot.address,
                name: &look.spot.name,
            };
            faults.entry(fault).or_default().push(look);
        }
    }
    faults
        .into_iter()
        .filter_map(|(fault, shown)| finding(facts, &known, &looks, fault, &shown, now))
        .collect()
}

/// Whether a new generation is just on its way there, which is nobody's fault.
fn is_under_way(facts: &FleetFacts, kind: Kind, look: Look<'_>) -> bool {
    let known = facts.certificates.get(&look.spot.certificate);
    let Some((issued, issued_at)) =
        known.and_then(|known| Some((known.issued.as_ref()?, known.issued_at()?)))
    else {
        return true;
    };
    let ends = match (kind, &look.sighting.shown) {
        (Kind::OtherGeneration, Shown::Leaf(leaf)) => leaf.not_after,
        // An older generation doesn't cover a name that was added just now.
        (Kind::Chain, Shown::Leaf(leaf)) if !is_newest(issued, leaf) => leaf.not_after,
        // The placeholder of a host that never had anything else.
        (Kind::Stranger, _) if issued.generation.0 == 1 => issued.not_after,
        // Nor is that one a stranger because the second was issued before anybody looked again.
        (Kind::Stranger, _) if issued.generation.0 == 2 && look.sighting.at < issued_at => {
            issued.not_after
        }
        _ => return false,
    };
    let at = look.sighting.at;
    let remaining = Duration::try_from(at.duration_until(ends)).unwrap_or(Duration::ZERO);
    let patience = SignedDuration::try_from(pace(PATIENCE, Some(remaining))).unwrap_or_default();
    let began = match kind {
        // The instant of the first generation is not kept: no fault was looked for before it.
        Kind::Stranger if issued.generation.0 == 2 => since(facts, look.spot, look.sighting, kind),
        _ => issued_at,
    };
    at.duration_since(began) <= patience
}

fn is_newest(issued: &Issued, leaf: &SeenLeaf) -> bool {
    let newest = issued.fullchain.first();
    newest.is_some_and(|newest| Fingerprint::of(newest) == leaf.fingerprint)
}

/// Since when a sighting shows a fault: what it shows for the first time now began when it was looked at, or when
/// something else was desired.
pub(super) fn since(facts: &FleetFacts, spot: &Spot, sighting: &Sighting, kind: Kind) -> Timestamp {
    let known = facts.certificates.get(&spot.certificate);
    let issued_at = known.and_then(|known| known.issued_at());
    sighting
        .since
        .get(&kind)
        .copied()
        .unwrap_or_else(|| sighting.at.max(issued_at.unwrap_or(sighting.at)))
}

fn finding(
    facts: &FleetFacts,
    known: &Known<'_>,
    looks: &Looks<'_>,
    fault: Fault<'_>,
    shown: &[Look<'_>],
    now: Timestamp,
) -> Option<Finding> {
    let first = shown.first()?;
    let leaves = shown.iter().filter_map(|look| match &look.sighting.shown {
        Shown::Leaf(leaf) => Some(leaf.not_after),
        _ => None,
    });
    let stands = shown
        .iter()
        .any(|look| since(facts, look.spot, look.sighting, fault.kind) < look.sighting.at);
    let since = shown
        .iter()
        .map(|look| since(facts, look.spot, look.sighting, fault.kind))
        .min()?;
    let mut text = text(facts, known, &fault, first, now);
    text.push_str(&looks.witnesses(fault.kind, shown));
    Some(Finding {
        kind: fault.kind,
        certificate: fault.certificate.clone(),
        host: fault.host,
        address: fault.address,
        name: fault.name.to_owned(),
        text,
        since,
        not_after: leaves.min(),
        stands,
    })
}

fn text(
    facts: &FleetFacts,
    known: &Known<'_>,
    fault: &Fault<'_>,
    look: &Look<'_>,
    now: Timestamp,
) -> String {
    let Fault {
        certificate, name, ..
    } = fault;
    let address = fault
        .address
        .map(|address| address.to_string())
        .unwrap_or_default();
    let place = match &fault.host {
        Some(host) => format!("{host}: {address}"),
        None => address.clone(),
    };
    let shown = shown(known, look, now);
    match fault.kind {
        Kind::Down => format!("{place} {shown}"),
        Kind::Stranger | Kind::OtherVhost => format!("{place} answers for {name} with {shown}"),
        Kind::Chain => {
            let (problem, what) = match &look.sighting.shown {
                Shown::Leaf(leaf) => (
                    leaf.chain_problem.as_deref().unwrap_or_default(),
                    match known.whose(certificate, leaf) {
                        Whose::Another(other) => other,
                        Whose::Its(_) | Whose::Strangers => *certificate,
                    },
                ),
                _ => ("", *certificate),
            };
            format!("{place} serves {what} for {name} with a chain that isn't right: {problem}")
        }
        Kind::OtherGeneration => {
            let known = facts.certificates.get(*certificate);
            let desired = desired(known).unwrap_or_default();
            let paused = known
                .and_then(|known| judge::paused(facts, certificate, known))
                .map(|why| format!("; {why}"))
                .unwrap_or_default();
            format!("{place} serves {shown} for {name}, not generation {desired}{paused}")
        }
        Kind::LeadsElsewhere => {
            let whose = match &fault.host {
                Some(host) => format!("{address} of {host}, which isn't a host of {certificate}"),
                None => format!("{address}, which is no host's that is known"),
            };
            let there = match &look.sighting.shown {
                Shown::Leaf(_) => format!("; it answers with {}", shown.trim_end_matches(',')),
                Shown::Down(_) | Shown::NoRoute(_) | Shown::Rejects => format!("; it {shown}"),
                Shown::NoSuchKey | Shown::Unresolved(_) | Shown::NoAnswer(_) => String::new(),
            };
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => format!("{name} is {whose}{there}"),
                Err(_) => format!("DNS leads {name} to {whose}{there}"),
            }
        }
        Kind::Unresolved => format!("DNS gives no address for {name}: {shown}"),
        Kind::Url => {
            let url = look.sighting.url.as_ref();
            let (url, problem) = url.map_or(("", ""), |url| {
                (url.url.as_str(), url.problem.as_deref().unwrap_or_default())
            });
            format!("{place} answers {url} wrongly: {problem}")
        }
    }
}

/// What a look brought, in words that follow "answers with", "serves" or a place.
fn shown(known: &Known<'_>, look: &Look<'_>, now: Timestamp) -> String {
    let Spot {
        name,
        certificate,
        key,
        ..
    } = look.spot;
    match &look.sighting.shown {
        Shown::Down(why) | Shown::NoRoute(why) => format!("doesn't answer for {name}: {why}"),
        Shown::Rejects => format!("refuses {name}: no server block there is meant for it"),
        Shown::NoSuchKey => format!("has no leaf with a key for {}", key.word()),
        Shown::Unresolved(why) => why.clone(),
        Shown::NoAnswer(why) => format!("no answer ({why})"),
        Shown::Leaf(leaf) => {
            let ends = if leaf.not_after <= now {
                "expired"
            } else {
                "ends"
            };
            let end = format!("{ends} {}", words::relative(leaf.not_after, now));
            match known.whose(certificate, leaf) {
                Whose::Its(generation) => {
                    format!("generation {generation} of {certificate}, which {end},")
                }
                Whose::Another(other) if covers(&leaf.covers, name) => {
                    format!("the certificate {other}, which covers it too, and {end},")
                }
                Whose::Another(other) => {
                    format!("the certificate {other}, which doesn't cover it: another server block")
                }
                Whose::Strangers => {
                    const NAMES: usize = 3;
                    let names = leaf.covers.iter().take(NAMES);
                    let more = match leaf.covers.len().saturating_sub(NAMES) {
                        0 => String::new(),
                        more => format!(" and {more} more"),
                    };
                    let covers = match leaf.covers.is_empty() {
                        true => "names nobody".to_owned(),
                        false => format!("covers {}{more}", words::list(names)),
                    };
                    format!("a certificate that isn't of certwell; it {covers}, and {end}")
                }
            }
        }
    }
}
