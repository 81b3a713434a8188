//! What was heard or done by a clock that was set back since lies ahead: patience would begin when the clock comes by
//! there once more. It counts from when that is noticed; what was told itself is kept, since it shows that the clock
//! is wrong now, or was then (`plan::health`).

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::facts::FleetFacts;

/// Instants that lay ahead when they were looked at, and since when they count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ahead(BTreeMap<Timestamp, Timestamp>);

impl Ahead {
    /// Since when this one counts.
    pub fn counted(&self, told: Timestamp) -> Timestamp {
        self.0.get(&told).copied().unwrap_or(told)
    }

    /// Notes those of all instants that lie ahead, and forgets what is none of them any more.
    fn note(&mut self, all: &[Option<Timestamp>], now: Timestamp) {
        self.0.retain(|told, _| all.contains(&Some(*told)));
        // Set back once more meanwhile.
        for counted in self.0.values_mut() {
            *counted = (*counted).min(now);
        }
        for told in all.iter().flatten().filter(|told| **told > now) {
            self.0.entry(*told).or_insert(now);
        }
    }
}

/// Looks for all that lies ahead of `now`. What is seen from outside, and the issuer's start, nobody asks for anything
/// else than since when: they are set to `now`.
pub fn heed(facts: &mut FleetFacts, now: Timestamp) {
    for known in facts.hosts.values_mut() {
        let stored = known.record.as_ref().and_then(|record| record.last_seen);
        known.ahead.note(&[known.last_seen, stored], now);
    }
    for known in facts.certificates.values_mut() {
        let issued = known.issued.as_ref().map(|issued| issued.at);
        known.ahead.note(&[issued], now);
    }
    let sightings = &mut facts.sightings;
    sightings.since = sightings.since.min(now);
    for probe in sightings.probes.values_mut() {
        probe.at = probe.at.min(now);
        for sighting in probe.seen.values_mut() {
            sighting.at = sighting.at.min(now);
            sighting.same_since = sighting.same_since.min(now);
            for since in sighting.since.values_mut() {
                *since = (*since).min(now);
            }
        }
    }
}
