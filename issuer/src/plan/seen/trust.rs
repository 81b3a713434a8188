//! Which sightings count: those that aren't old, of probes that see anything at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use certwell_proto::HostName;
use jiff::{SignedDuration, Timestamp};

use super::{
    findings::Kind,
    sighting::{Probe, Shown, Sighting, Spot},
    unanswered::{Unanswered, asks_dns, unanswered},
};
use crate::plan::{facts::FleetFacts, words};

/// A probe that is late by so many rounds says nothing any more.
const ROUNDS: u32 = 3;
/// And so much longer, for handshakes that aren't answered.
const GRACE: SignedDuration = SignedDuration::from_secs(15);
/// With fewer places a probe that reaches none of them isn't to blame.
const PLACES: usize = 2;

/// One sighting, and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// `None`: the issuer's own.
    pub probe: Option<&'a HostName>,
    /// Where.
    pub spot: &'a Spot,
    /// What.
    pub sighting: &'a Sighting,
}

impl<'a> Look<'a> {
    fn reaches(&self) -> bool {
        matches!(
            self.sighting.shown,
            Shown::Leaf(_) | Shown::NoSuchKey | Shown::Rejects
        )
    }
}

/// All that are fresh.
#[derive(Debug)]
pub struct Looks<'a> {
    looks: Vec<Look<'a>>,
    /// Probes that reach nothing, where others reach something.
    blind: BTreeMap<Option<&'a HostName>, Blind<'a>>,
    /// Probes that have no route to any address of a family, with those that they should look at.
    cut_off: BTreeMap<(Option<&'a HostName>, Family), CutOff<'a>>,
    /// Probes that no DNS server answers.
    unanswered: BTreeMap<Option<&'a HostName>, Unanswered<'a>>,
    /// Probes that asked DNS for a name.
    asking: BTreeSet<Option<&'a HostName>>,
}

/// Of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

#[derive(Debug, Default)]
struct CutOff<'a> {
    places: BTreeSet<SocketAddr>,
    why: &'a str,
}

#[derive(Debug)]
struct Blind<'a> {
    places: usize,
    others: BTreeSet<Option<&'a HostName>>,
}

/// Until when what a probe has seen counts.
pub fn counts_until(probe: &Probe, sighting: &Sighting) -> Timestamp {
    let rounds = SignedDuration::try_from(probe.every * ROUNDS).unwrap_or(SignedDuration::MAX);
    sighting
        .at
        .saturating_add(rounds.saturating_add(GRACE))
        .unwrap_or(Timestamp::MAX)
}

impl<'a> Looks<'a> {
    /// The sightings that count at `now`, of what is declared.
    pub fn fresh(facts: &'a FleetFacts, now: Timestamp) -> Self {
        let mut looks = Vec::new();
        let probes = facts
            .sightings
            .probes
            .iter()
            .filter(|(name, _)| match name {
                None => facts.config.probe.enabled,
                Some(host) => facts.config.hosts.get(host).is_some_and(|host| host.probe),
            });
        for (name, probe) in probes {
            let fresh = probe.seen.iter().filter(|(spot, sighting)| {
                let declared = facts.config.certificates.get(&spot.certificate);
                let host = spot.host.as_ref();
                let assigned = declared
                    .is_some_and(|declared| host.is_none_or(|host| declared.hosts.contains(host)));
                // A probe that hasn't heard of it yet still tells where DNS leads.
                let by_dns = declared.is_some_and(|declared| declared.probe_dns);
                assigned && (by_dns || !asks_dns(spot)) && now <= counts_until(probe, sighting)
            });
            looks.extend(fresh.map(|(spot, sighting)| Look {
                probe: name.as_ref(),
                spot,
                sighting,
            }));
        }
        // Before any is dropped: who was led to an address that it can't reach was answered.
        let unanswered = unanswered(facts, &looks);
        let asking = looks.iter().filter(|look| asks_dns(look.spot));
        let asking = asking.map(|look| look.probe).collect();
        // Whoever has no IPv6 has looked at no IPv6 address.
        let cut_off = cut_off(&looks);
        looks.retain(|look| !is_cut_off(&cut_off, look));
        looks.retain(|look| {
            !matches!(look.sighting.shown, Shown::NoAnswer(_))
                || !unanswered.contains_key(&look.probe)
        });
        let blind = blind(&looks);
        Self {
            looks,
            blind,
            cut_off,
            unanswered,
            asking,
        }
    }

    /// Those of probes that aren't blind.
    pub fn trusted(&self) -> impl Iterator<Item = Look<'a>> {
        self.looks
            .iter()
            .copied()
            .filter(|look| !self.blind.contains_key(&look.probe))
    }

    /// Probes that no DNS server answers, whichever name they ask for.
    pub fn unanswered(&self) -> impl Iterator<Item = (Option<&'a HostName>, &Unanswered<'a>)> {
        self.unanswered.iter().map(|(probe, of)| (*probe, of))
    }

    /// Whether that probe has asked DNS for a name.
    pub fn asked_dns(&self, probe: Option<&HostName>) -> bool {
        self.asking.contains(&probe)
    }

    /// What is the matter with probes themselves, a sentence for each.
    pub fn troubles(&self) -> Vec<String> {
        let cut_off = self.cut_off.iter().map(|((probe, family), cut_off)| {
            let family = match family {
                Family::V4 => "IPv4",
                Family::V6 => "IPv6",
            };
            format!(
                "{} has no route to any {family} address, and doesn't see how it is at {} ({})",
                who(*probe),
                words::count(cut_off.places.len(), "place"),
                cut_off.why
            )
        });
        let unanswered = self.unanswered().map(|(probe, of)| {
            format!(
                "no DNS server answers {}, whichever of {} it asks for: where they lead isn't seen from there ({})",
                who(probe),
                words::count(of.names.len(), "name"),
                of.why
            )
        });
        let all = cut_off.chain(unanswered).chain(self.blind_ones());
        all.collect()
    }

    fn blind_ones(&self) -> impl Iterator<Item = String> {
        self.blind
            .iter()
            .map(|(probe, blind)| {
                format!(
                    "{} reaches none of the {} addresses that it looks at, though {} can: its own network or DNS is in \
                     trouble, and what it sees doesn't count",
                    who(*probe),
                    blind.places,
                    words::list(blind.others.iter().map(|other| who(*other)))
                )
            })
    }

    /// Who sees a fault that these looks show, and who doesn't, where several looked; else nothing.
    pub fn witnesses(&self, kind: Kind, shown: &[Look<'a>]) -> String {
        let Some(first) = shown.first() else {
            return String::new();
        };
        let by: BTreeSet<_> = shown.iter().map(|look| look.probe).collect();
        let same_place = |look: &Look<'a>| {
            look.spot.address == first.spot.address
                && look.spot.name == first.spot.name
                && look.spot.certificate == first.spot.certificate
        };
        let others: BTreeSet<_> = self
            .trusted()
            .filter(|look| same_place(look) && !by.contains(&look.probe))
            .filter(|look| kind != Kind::Down || look.reaches())
            .map(|look| look.probe)
            .collect();
        let names = |probes: &BTreeSet<Option<&HostName>>| {
            words::list(probes.iter().map(|probe| who(*probe)))
        };
        let all_down = (kind == Kind::Down && others.is_empty() && by.len() == 1)
            .then_some(first.probe)
            .filter(|probe| self.reaches_nothing(*probe));
        match (all_down, others.is_empty(), by.len()) {
            (Some(probe), ..) => format!(
                "; {} reaches no other address either, and no other probe looks",
                who(probe)
            ),
            (None, false, _) => format!(" (so {} sees it, but not {})", names(&by), names(&others)),
            (None, true, 1) if by.contains(&None) => String::new(),
            (None, true, _) => format!(" (seen by {})", names(&by)),
        }
    }

    fn reaches_nothing(&self, probe: Option<&HostName>) -> bool {
        let own = || self.looks.iter().filter(|look| look.probe == probe);
        places(own()).len() >= PLACES && !own().any(Look::reaches)
    }
}

fn places<'l, 'a: 'l>(looks: impl Iterator<Item = &'l Look<'a>>) -> BTreeSet<Option<SocketAddr>> {
    looks.map(|look| look.spot.address).collect()
}

fn family(look: &Look<'_>) -> Option<Family> {
    let ip = look.spot.address?.ip().to_canonical();
    Some(if ip.is_ipv4() { Family::V4 } else { Family::V6 })
}

fn cut_off<'a>(looks: &[Look<'a>]) -> BTreeMap<(Option<&'a HostName>, Family), CutOff<'a>> {
    let mut cut_off: BTreeMap<_, CutOff<'_>> = BTreeMap::new();
    for look in looks {
        if let (Some(family), Shown::NoRoute(why)) = (family(look), &look.sighting.shown) {
            let of = cut_off.entry((look.probe, family)).or_default();
            of.places.extend(look.spot.address);
            of.why = why;
        }
    }
    for look in looks {
        if let Some(family) = family(look)
            && !matches!(look.sighting.shown, Shown::NoRoute(_))
        {
            cut_off.remove(&(look.probe, family));
        }
    }
    cut_off
}

fn is_cut_off(
    cut_off: &BTreeMap<(Option<&HostName>, Family), CutOff<'_>>,
    look: &Look<'_>,
) -> bool {
    family(look).is_some_and(|family| cut_off.contains_key(&(look.probe, family)))
}

fn blind<'a>(looks: &[Look<'a>]) -> BTreeMap<Option<&'a HostName>, Blind<'a>> {
    let mut by_probe: BTreeMap<Option<&HostName>, Vec<&Look<'a>>> = BTreeMap::new();
    for look in looks {
        by_probe.entry(look.probe).or_default().push(look);
    }
    let sighted: BTreeSet<_> = by_probe
        .iter()
        .filter(|(_, own)| own.iter().any(|look| look.reaches()))
        .map(|(probe, _)| *probe)
        .collect();
    if sighted.is_empty() {
        return BTreeMap::new();
    }
    by_probe
        .into_iter()
        .filter(|(probe, _)| !sighted.contains(probe))
        .filter_map(|(probe, own)| {
            let places = places(own.into_iter()).len();
            (places >= PLACES).then(|| {
                (
                    probe,
                    Blind {
                        places,
                        others: sighted.clone(),
                    },
                )
            })
        })
        .collect()
}

/// A probe, in a sentence.
pub fn who(probe: Option<&HostName>) -> String {
    probe.map_or_else(
        || "the issuer".to_owned(),
        |host| format!("the probe on {host}"),
    )
}
