//! What a probe's report changes in what is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use certwell_proto::{HostName, pace::pace};
use jiff::{SignedDuration, Timestamp};

use super::{
    findings::since,
    sighting::{Probe, Shown, Sighting, Spot},
    verdict::{Known, Whose},
    wire::{Told, by_look, look_of},
};
use crate::plan::facts::{self, FleetFacts};

/// What is kept of looks that a probe has told nothing of for so many rounds.
const KEPT: i32 = 10;

/// Takes in what a probe told, received at `now`: each look that it told of is known anew, the others stay as they
/// were. A round may come in several parts; `whole` says that this was the last of one.
pub fn merge(
    facts: &mut FleetFacts,
    probe: Option<&HostName>,
    told: Vec<Told>,
    whole: bool,
    now: Timestamp,
) {
    let before = facts.sightings.probes.remove(&probe.cloned());
    let (rounds, before_at, seen) = match before {
        Some(before) => (before.rounds, Some(before.at), before.seen),
        None => (0, None, BTreeMap::new()),
    };
    let every = pace(facts.config.probe.every, shortest_life(facts, now));
    let every = SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX);
    // A round takes as long as it takes: what counts is how often one ends.
    let apart = before_at.map_or(every, |before| now.duration_since(before));
    let every = every.max(apart.min(every.saturating_mul(2)));
    let anew: BTreeSet<_> = told.iter().map(|told| look_of(&told.spot)).collect();
    let known = Known::of(facts);
    let mut old = by_look(seen);
    let spots: BTreeSet<Spot> = told.iter().map(|told| told.spot.clone()).collect();
    let nowhere = BTreeMap::new();
    let fresh: Vec<(Spot, Sighting)> = told
        .into_iter()
        .map(|told| {
            let look = old.get(&look_of(&told.spot)).unwrap_or(&nowhere);
            let mut sighting = taken_in(facts, &known, &told, look.get(&told.spot), now);
            if told.spot.host.is_none() && !look.contains_key(&told.spot) {
                let gone = look.iter().filter(|(spot, _)| !spots.contains(spot));
                inherit(facts, &known, &told.spot, &mut sighting, gone);
            }
            (told.spot, sighting)
        })
        .collect();
    old.retain(|look, _| !anew.contains(look));
    let oldest = now
        .saturating_sub(every.saturating_mul(KEPT))
        .unwrap_or(Timestamp::MIN);
    let mut seen: BTreeMap<Spot, Sighting> = old
        .into_values()
        .flatten()
        .filter(|(_, sighting)| sighting.at >= oldest)
        .collect();
    seen.extend(fresh);
    let every = Duration::try_from(every).unwrap_or(Duration::MAX);
    let rounds = rounds + u64::from(whole);
    facts.sightings.probes.insert(
        probe.cloned(),
        Probe {
            at: now,
            every,
            rounds,
            seen,
        },
    );
}

fn taken_in(
    facts: &FleetFacts,
    known: &Known<'_>,
    told: &Told,
    before: Option<&Sighting>,
    now: Timestamp,
) -> Sighting {
    // Told once more, after a connection was lost: what one look shows doesn't stand because it is heard twice.
    let again = before.filter(|before| before.looked_at == told.looked_at);
    let mut sighting = Sighting {
        shown: told.shown.clone(),
        url: told.url.clone(),
        looked_at: told.looked_at,
        at: again.map_or(now, |before| before.at),
        same_since: before
            .filter(|before| same(&before.shown, &told.shown))
            .map_or(now, |b| b.same_since),
        since: BTreeMap::new(),
    };
    let faults_before = before
        .map(|before| known.faults(&told.spot, before))
        .unwrap_or_default();
    for kind in known.faults(&told.spot, &sighting) {
        let began = before
            .filter(|_| faults_before.contains(&kind))
            .map_or(now, |before| since(facts, &told.spot, before, kind));
        sighting.since.insert(kind, began);
    }
    sighting
}

/// Where DNS gives other addresses each time, no place is looked at twice: what the name shows at an address that takes
/// the place of another has been so since that one showed it.
fn inherit<'a>(
    facts: &FleetFacts,
    known: &Known<'_>,
    spot: &Spot,
    sighting: &mut Sighting,
    gone: impl Iterator<Item = (&'a Spot, &'a Sighting)>,
) {
    for (old, before) in gone.filter(|(old, _)| old.key == spot.key) {
        for kind in known.faults(old, before) {
            if let Some(began) = sighting.since.get_mut(&kind) {
                *began = since(facts, old, before, kind).min(*began);
            }
        }
    }
}

/// Whether two sightings show the same to whoever comes there: why nobody answers may be told in other words.
fn same(before: &Shown, now: &Shown) -> bool {
    match (before, now) {
        (Shown::Leaf(before), Shown::Leaf(now)) => before.fingerprint == now.fingerprint,
        _ => std::mem::discriminant(before) == std::mem::discriminant(now),
    }
}

/// The life left of what is desired or of ours seen, whichever ends first.
pub fn shortest_life(facts: &FleetFacts, now: Timestamp) -> Option<Duration> {
    let known = Known::of(facts);
    let seen = facts
        .sightings
        .probes
        .values()
        .flat_map(|probe| &probe.seen);
    let seen = seen.filter_map(|(spot, sighting)| match &sighting.shown {
        Shown::Leaf(leaf) => match known.whose(&spot.certificate, leaf) {
            Whose::Its(_) => Some(leaf.not_after),
            Whose::Another(_) | Whose::Strangers => None,
        },
        _ => None,
    });
    facts::shortest_life(seen.chain(facts.ends()), now)
}
