//! What to put back on disk: only what is missing, older, expired, broken, or ours altered. A valid certificate of
//! another hand that ends later stays, and is reported.

use certwell_proto::Generation;
use jiff::Timestamp;

/// What lies at `live/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A link to one of our generations.
    Ours {
        /// Which.
        generation: Generation,
        /// Whether every file is as it was written.
        whole: bool,
    },
    /// Of another hand: a directory, or a link to one.
    Foreign {
        /// When its leaf ends; absent when it can't be read, or doesn't cover the names.
        valid_until: Option<Timestamp>,
    },
}

/// The facts of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What lies there.
    pub found: Found,
    /// What the issuer wants here; 0 when nothing is issued.
    pub desired: Generation,
    /// When the desired generation ends; absent when nothing is issued.
    pub desired_until: Option<Timestamp>,
    /// What [`staged`] chose.
    pub staged: Option<Generation>,
    /// Whether the desired one was given up on, or may not be taken.
    pub rejected: bool,
    /// Whether there is a connection to draw through.
    pub reachable: bool,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be.
    Nothing,
    /// Nothing real is there, nor to be had: the placeholder goes there.
    Placeholder,
    /// This generation, which is whole on disk, is to be active.
    Relink(Generation),
    /// The desired generation has to be drawn.
    Draw,
    /// Another hand's certificate stays.
    KeepForeign,
}

/// Our best generation on disk: the desired one first, then from the newest on; never one that was given up on, nor one
/// that isn't whole. `on_disk` is in ascending order; whether one is whole costs reading it, so it is asked sparingly.
pub fn staged(
    desired: Generation,
    on_disk: impl DoubleEndedIterator<Item = Generation> + Clone,
    given_up: impl Fn(Generation) -> bool,
    whole: impl Fn(Generation) -> bool,
) -> Option<Generation> {
    let fits = |generation: &Generation| {
        !generation.is_none() && !given_up(*generation) && whole(*generation)
    };
    on_disk
        .clone()
        .find(|generation| *generation == desired)
        .filter(fits)
        .or_else(|| on_disk.rev().find(fits))
}

/// What to do.
pub fn action(facts: &Facts, now: Timestamp) -> Action {
    let desired = facts.desired;
    // What the host could have now, best first.
    let best = || {
        if desired.is_none() || facts.rejected {
            facts.staged.map_or(Action::Nothing, Action::Relink)
        } else if facts.staged == Some(desired) {
            Action::Relink(desired)
        } else {
            Action::Draw
        }
    };
    match facts.found {
        // What is whole on disk comes first, so that there is something while the desired one is drawn.
        Found::Nothing => match facts.staged.map_or_else(best, Action::Relink) {
            Action::Nothing => Action::Placeholder,
            action => action,
        },
        Found::Ours {
            generation,
            whole: true,
        } if generation > Generation::NONE && generation >= desired => Action::Nothing,
        Found::Ours {
            generation: Generation::NONE,
            whole: true,
        } => facts.staged.map_or_else(best, Action::Relink),
        Found::Ours {
            generation,
            whole: true,
        } => match best() {
            // Never to something older than what is there.
            Action::Relink(staged) if staged <= generation => Action::Nothing,
            action => action,
        },
        Found::Ours {
            generation,
            whole: false,
        } => match best() {
            Action::Nothing if generation.is_none() => Action::Placeholder,
            // An older one that is whole is better than half a newer one that can't be had now.
            Action::Draw if !facts.reachable => facts.staged.map_or(Action::Draw, Action::Relink),
            // Damaged, and nothing that may be taken is on offer: that is said, and no more can be done.
            action => action,
        },
        Found::Foreign { valid_until } => {
            let keeps = match (valid_until, facts.desired_until) {
                // Ours is no better where it is over as well, which may be the clock's fault.
                (Some(theirs), Some(ours)) => theirs > ours && (theirs > now || ours <= now),
                // Nothing of ours to put there: any of theirs is better than the placeholder, and isn't touched.
                (_, None) => true,
                (None, Some(_)) => false,
            };
            if keeps { Action::KeepForeign } else { best() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn facts(found: Found, desired: u64, staged: Option<u64>) -> Facts {
        Facts {
            found,
            desired: Generation(desired),
            desired_until: (desired > 0).then(|| at(1_000)),
            staged: staged.map(Generation),
            rejected: false,
            reachable: true,
        }
    }

    fn ours(generation: u64, whole: bool) -> Found {
        Found::Ours {
            generation: Generation(generation),
            whole,
        }
    }

    #[test]
    fn what_is_put_back() {
        let relink = |n| Action::Relink(Generation(n));
        let table = [
            (facts(Found::Nothing, 0, None), Action::Placeholder),
            (facts(Found::Nothing, 3, None), Action::Draw),
            (facts(Found::Nothing, 3, Some(3)), relink(3)),
            (facts(Found::Nothing, 3, Some(2)), relink(2)),
            (facts(Found::Nothing, 0, Some(2)), relink(2)),
            (facts(ours(3, true), 3, Some(3)), Action::Nothing),
            (facts(ours(2, true), 3, Some(2)), Action::Draw),
            (facts(ours(2, true), 3, Some(3)), relink(3)),
            (facts(ours(3, false), 3, None), Action::Draw),
            (facts(ours(4, true), 3, Some(4)), Action::Nothing),
            (facts(ours(3, false), 0, None), Action::Nothing),
            (facts(ours(3, false), 0, Some(2)), relink(2)),
            (facts(ours(0, true), 0, None), Action::Nothing),
            (facts(ours(0, true), 1, None), Action::Draw),
            (facts(ours(0, true), 3, Some(2)), relink(2)),
            (facts(ours(0, false), 0, None), Action::Placeholder),
            (
                facts(Found::Foreign { valid_until: None }, 3, None),
                Action::Draw,
            ),
            (
                facts(
                    Found::Foreign {
                        valid_until: Some(at(900)),
                    },
                    3,
                    Some(3),
                ),
                relink(3),
            ),
            (
                facts(
                    Found::Foreign {
                        valid_until: Some(at(2_000)),
                    },
                    3,
                    Some(3),
                ),
                Action::KeepForeign,
            ),
            (
                facts(
                    Found::Foreign {
                        valid_until: Some(at(50)),
                    },
                    3,
                    None,
                ),
                Action::Draw,
            ),
            (
                facts(Found::Foreign { valid_until: None }, 0, None),
                Action::KeepForeign,
            ),
        ];
        // By a clock that is ten days ahead both are over.
        let both_over = |theirs, ours| Facts {
            desired_until: Some(at(ours)),
            ..facts(
                Found::Foreign {
                    valid_until: Some(at(theirs)),
                },
                3,
                Some(3),
            )
        };
        let over = [
            (both_over(90, 80), Action::KeepForeign),
            (both_over(80, 90), relink(3)),
            (both_over(90, 110), relink(3)),
        ];
        for (facts, wanted) in table.into_iter().chain(over) {
            assert_eq!(action(&facts, at(100)), wanted, "{facts:?}");
        }
    }

    #[test]
    fn while_the_issuer_is_away_what_is_whole_takes_the_place_of_what_is_damaged() {
        let away = |found, staged| Facts {
            reachable: false,
            ..facts(found, 3, staged)
        };
        let relink = |n| Action::Relink(Generation(n));
        for (facts, wanted) in [
            (away(ours(3, false), Some(2)), relink(2)),
            (away(ours(3, false), None), Action::Draw),
            (away(ours(2, true), Some(2)), Action::Draw),
            (facts(ours(3, false), 3, Some(2)), Action::Draw),
        ] {
            assert_eq!(action(&facts, at(100)), wanted, "{facts:?}");
        }
    }

    #[test]
    fn a_rejected_generation_is_not_drawn_again() {
        let facts = Facts {
            rejected: true,
            ..facts(ours(2, true), 3, Some(2))
        };
        assert_eq!(action(&facts, at(100)), Action::Nothing);
        let damaged = Facts {
            found: ours(2, false),
            staged: None,
            ..facts
        };
        assert_eq!(action(&damaged, at(100)), Action::Nothing);
    }

    #[test]
    fn what_was_given_up_on_is_not_what_could_be_put_back() {
        let best = |desired, given_up: &[u64], damaged: &[u64]| {
            staged(
                Generation(desired),
                [0, 1, 2, 3].map(Generation).into_iter(),
                |g| given_up.contains(&g.0),
                |g| !damaged.contains(&g.0),
            )
            .map(|generation| generation.0)
        };
        assert_eq!(best(3, &[], &[]), Some(3));
        assert_eq!(best(2, &[], &[]), Some(2), "the desired one first");
        assert_eq!(best(3, &[3], &[]), Some(2), "given up on");
        assert_eq!(best(0, &[3], &[2]), Some(1), "nothing on offer");
        assert_eq!(best(3, &[], &[1, 2, 3]), None, "never the placeholder");
    }

    proptest! {
        #[test]
        fn neither_what_was_given_up_on_nor_what_is_damaged_is_ever_relinked(
            found in proptest::option::of((0_u64..5, any::<bool>())), desired in 0_u64..5,
            marks in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 5)
        ) {
            let mark = |g: Generation| marks[g.0 as usize];
            let on_disk: Vec<Generation> = (0..5).map(Generation).filter(|g| mark(*g).0).collect();
            let best = staged(Generation(desired), on_disk.into_iter(), |g| mark(g).1, |g| mark(g).2);
            let facts = Facts {
                staged: best,
                rejected: mark(Generation(desired)).1,
                ..facts(found.map_or(Found::Nothing, |(g, whole)| ours(g, whole)), desired, None)
            };
            if let Action::Relink(generation) = action(&facts, at(100)) {
                prop_assert!(mark(generation).0 && !mark(generation).1 && mark(generation).2);
            }
        }

        #[test]
        fn a_whole_generation_is_never_left_for_an_older_one(active in 1_u64..9, desired in 0_u64..9, staged in proptest::option::of(0_u64..9), rejected: bool) {
            let facts = Facts { rejected, ..facts(ours(active, true), desired, staged) };
            if let Action::Relink(generation) = action(&facts, at(100)) {
                prop_assert!(generation > Generation(active));
            }
        }
    }
}
