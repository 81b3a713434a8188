//! How far a leaf's life has gone, in fractions: certificates of 90 days and of 3 minutes are treated alike.

use certwell_proto::{Generation, v1};
use jiff::{SignedDuration, Timestamp};

use crate::{
    plan::{facts::CertificateFacts, words},
    store::StoredLeaf,
};

/// How far a life has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    /// More than a quarter of it is left.
    Young,
    /// A quarter or less.
    Quarter,
    /// An eighth or less.
    Eighth,
    /// Nothing.
    Over,
}

/// Something that is served, from when to when it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// "generation 6".
    pub(super) what: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Served {
    pub(super) fn age(&self, now: Timestamp) -> Age {
        age(self.not_before, self.not_after, now)
    }

    /// When it became as old as it is.
    pub(super) fn since(&self, now: Timestamp) -> Timestamp {
        match self.age(now) {
            Age::Young => self.not_before,
            // What is over began to be told when a quarter was left.
            Age::Quarter | Age::Eighth | Age::Over => {
                self.not_after - self.not_after.duration_since(self.not_before) / 4
            }
        }
    }

    /// Whatever ends sooner, against its life, goes first.
    pub(super) fn sooner(self, other: Self, now: Timestamp) -> Self {
        let key = |served: &Self| (served.age(now), std::cmp::Reverse(served.not_after));
        if key(&other) > key(&self) {
            other
        } else {
            self
        }
    }
}

/// How far the life of a leaf has gone at `now`. One that never was valid is over.
pub(super) fn age(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Age {
    let left = now.duration_until(not_after);
    let life = not_before.duration_until(not_after);
    if left <= SignedDuration::ZERO || life <= SignedDuration::ZERO {
        Age::Over
    } else if left <= life / 8 {
        Age::Eighth
    } else if left <= life / 4 {
        Age::Quarter
    } else {
        Age::Young
    }
}

/// "less than a quarter of its 90 days is left".
pub(super) fn words_of(served: &Served, now: Timestamp) -> String {
    let life = served.not_before.duration_until(served.not_after);
    let life = words::span(life.as_secs());
    match served.age(now) {
        Age::Young => format!("more than a quarter of its {life} is left"),
        Age::Quarter => format!("no more than a quarter of its {life} is left"),
        Age::Eighth => format!("no more than an eighth of its {life} is left"),
        Age::Over => "users are refused by their browsers".to_owned(),
    }
}

/// The leaf of each generation that is known, the oldest first.
pub(super) struct Leaves(Vec<(Generation, StoredLeaf)>);

impl Leaves {
    pub(super) fn of(known: &CertificateFacts) -> Self {
        let older = known.older.iter().map(|(number, leaf)| (*number, *leaf));
        let newest = known.issued.as_ref();
        let newest = newest.map(|issued| (issued.generation, issued.leaf()));
        Self(older.chain(newest).collect())
    }

    /// What an agent's own handshakes found: of all its listeners the leaf that ends first, as far as its dates are known.
    pub(super) fn served(&self, served: &v1::StatusServed, now: Timestamp) -> Option<Served> {
        let lowest = served.generation.filter(|generation| *generation > 0);
        let lowest = lowest.map(Generation);
        let of_lowest =
            lowest.and_then(|generation| Some((generation, self.of_generation(generation)?)));
        let by_fingerprint = served.listeners.iter().filter_map(|listener| {
            let mut leaves = self.0.iter();
            leaves
                .find(|(_, leaf)| leaf.fingerprint.0 == *listener.fingerprint)
                .copied()
        });
        of_lowest
            .into_iter()
            .chain(by_fingerprint)
            .map(|(generation, leaf)| Served {
                what: format!("generation {generation}"),
                not_before: leaf.not_before,
                not_after: leaf.not_after,
            })
            .reduce(|one, other| one.sooner(other, now))
    }

    /// Of one so old that the store has let go of it the oldest one that is known: it ends no later than that.
    fn of_generation(&self, generation: Generation) -> Option<StoredLeaf> {
        let (oldest, first) = self.0.first()?;
        if generation < *oldest {
            return Some(*first);
        }
        let mut leaves = self.0.iter();
        leaves
            .find(|(number, _)| *number == generation)
            .map(|(_, leaf)| *leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn fractions_are_the_same_for_every_life() {
        const DAY: i64 = 86_400;
        for life in [90 * DAY, 45 * DAY, 6 * DAY, 180] {
            for (eighths_left, expected) in [
                (8, Age::Young),
                (3, Age::Young),
                (2, Age::Quarter),
                (1, Age::Eighth),
                (0, Age::Over),
                (-4, Age::Over),
            ] {
                let now = at(life - eighths_left * life / 8);
                assert_eq!(age(at(0), at(life), now), expected, "{life} {eighths_left}");
            }
            let just_before = at(life - life / 4 - 1);
            assert_eq!(age(at(0), at(life), just_before), Age::Young, "{life}");
        }
    }

    #[test]
    fn a_life_that_never_was_is_over() {
        assert_eq!(age(at(10), at(10), at(5)), Age::Over);
        assert_eq!(age(at(20), at(10), at(5)), Age::Over);
    }
}
