//! How an install ended, from what was found on its way. Total: whatever was found, there is an outcome.

use certwell_proto::v1;

use super::{confirm::Verdict, install::Host};

/// Regressions after which a generation is given up.
pub const REGRESSIONS: u32 = 3;

/// How an install ended. See the design's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is served, on every listener.
    Converged,
    /// It is not taken again unless asked: the only NACK.
    Rejected,
    /// The host stands in the way; retried for ever.
    Held,
    /// Tested and on disk, but the old workers stay.
    NotApplied,
    /// It made something worse, and was rolled back.
    Regressed,
}

/// What was found. What wasn't come to is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Something of this host that has nothing to do with the certificate: disk full, issuer unreachable.
    pub stopped_early: bool,
    /// Whether verifying passed.
    pub verified: Option<bool>,
    /// Whether nginx took it alone.
    pub candidate: Option<bool>,
    /// The host's nginx.
    pub host: Host,
    /// Whether `live/NAME` was pointed at it.
    pub activated: bool,
    /// Nothing was changed in this round: what was active already was looked at again.
    pub resumed: bool,
    /// Whether the test after activation passed.
    pub tested: Option<bool>,
    /// Whether the test after rolling back passed.
    pub tested_again: Option<bool>,
    /// Whether the reload could be asked for.
    pub reloaded: Option<bool>,
    /// What the handshakes said.
    pub verdict: Option<Verdict>,
    /// How often this generation regressed before.
    pub regressions: u32,
}

/// How it ended.
pub fn outcome(found: &Found) -> Outcome {
    if found.verified == Some(false) || found.candidate == Some(false) {
        return Outcome::Rejected;
    }
    if found.stopped_early || !found.activated {
        return Outcome::Held;
    }
    let regressed = if found.resumed {
        // It isn't this generation that changed anything.
        Outcome::NotApplied
    } else if found.regressions + 1 >= REGRESSIONS {
        Outcome::Rejected
    } else {
        Outcome::Regressed
    };
    match found.tested {
        // Rolled back, and the configuration passes again: it was this generation.
        Some(false) if found.tested_again == Some(true) => return regressed,
        Some(false) | None => return Outcome::Held,
        Some(true) => {}
    }
    if found.host == Host::Stopped {
        return Outcome::Held;
    }
    match (found.reloaded, found.verdict) {
        (Some(true), Some(Verdict::Converged)) => Outcome::Converged,
        // Rolled back, and the configuration fails without it as well: the host is to blame.
        (Some(true), Some(Verdict::Regressed)) if found.tested_again == Some(false) => {
            Outcome::Held
        }
        (Some(true), Some(Verdict::Regressed)) => regressed,
        // Waiting that ended without a verdict is a deadline that passed.
        _ => Outcome::NotApplied,
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Converged => Self::Converged,
            Outcome::Rejected => Self::Rejected,
            Outcome::Held => Self::Held,
            Outcome::NotApplied => Self::NotApplied,
            Outcome::Regressed => Self::Regressed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An install on which everything went well.
    fn good() -> Found {
        Found {
            stopped_early: false,
            verified: Some(true),
            candidate: Some(true),
            host: Host::Sound,
            activated: true,
            resumed: false,
            tested: Some(true),
            tested_again: None,
            reloaded: Some(true),
            verdict: Some(Verdict::Converged),
            regressions: 0,
        }
    }

    #[test]
    fn the_design_s_table() {
        let table = [
            (good(), Outcome::Converged),
            (
                Found {
                    verified: Some(false),
                    activated: false,
                    ..good()
                },
                Outcome::Rejected,
            ),
            (
                Found {
                    candidate: Some(false),
                    activated: false,
                    ..good()
                },
                Outcome::Rejected,
            ),
            (
                Found {
                    host: Host::Broken,
                    activated: false,
                    tested: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    host: Host::Editing,
                    activated: false,
                    tested: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    stopped_early: true,
                    activated: false,
                    verified: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    stopped_early: true,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    host: Host::Stopped,
                    reloaded: None,
                    verdict: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    host: Host::Absent,
                    tested: None,
                    reloaded: None,
                    verdict: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    tested: Some(false),
                    tested_again: Some(false),
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    tested: Some(false),
                    tested_again: Some(true),
                    ..good()
                },
                Outcome::Regressed,
            ),
            // Something fails since, and goes on failing without this generation.
            (
                Found {
                    verdict: Some(Verdict::Regressed),
                    tested_again: Some(false),
                    regressions: 2,
                    ..good()
                },
                Outcome::Held,
            ),
            // The test couldn't be made: nothing is counted, and nothing given up.
            (
                Found {
                    tested: None,
                    tested_again: Some(true),
                    regressions: 2,
                    reloaded: None,
                    verdict: None,
                    ..good()
                },
                Outcome::Held,
            ),
            (
                Found {
                    verdict: Some(Verdict::NotApplied),
                    ..good()
                },
                Outcome::NotApplied,
            ),
            (
                Found {
                    reloaded: Some(false),
                    verdict: None,
                    ..good()
                },
                Outcome::NotApplied,
            ),
            (
                Found {
                    verdict: Some(Verdict::Regressed),
                    ..good()
                },
                Outcome::Regressed,
            ),
            (
                Found {
                    verdict: Some(Verdict::Regressed),
                    regressions: 1,
                    ..good()
                },
                Outcome::Regressed,
            ),
            (
                Found {
                    verdict: Some(Verdict::Regressed),
                    resumed: true,
                    ..good()
                },
                Outcome::NotApplied,
            ),
            (
                Found {
                    verdict: Some(Verdict::Regressed),
                    regressions: 2,
                    ..good()
                },
                Outcome::Rejected,
            ),
            (
                Found {
                    tested: Some(false),
                    tested_again: Some(true),
                    regressions: 2,
                    ..good()
                },
                Outcome::Rejected,
            ),
        ];
        for (found, wanted) in table {
            assert_eq!(outcome(&found), wanted, "{found:?}");
        }
    }

    fn host() -> impl Strategy<Value = Host> {
        prop_oneof![
            Just(Host::Unknown),
            Just(Host::Sound),
            Just(Host::Broken),
            Just(Host::Editing),
            Just(Host::Stopped),
            Just(Host::Absent)
        ]
    }

    fn verdict() -> impl Strategy<Value = Option<Verdict>> {
        proptest::option::of(prop_oneof![
            Just(Verdict::Wait),
            Just(Verdict::Converged),
            Just(Verdict::NotApplied),
            Just(Verdict::Regressed)
        ])
    }

    proptest! {
        #[test]
        fn total_and_converged_only_when_all_went_well(
            (stopped_early, activated, resumed) in any::<(bool, bool, bool)>(),
            (verified, candidate, tested, tested_again, reloaded) in any::<(Option<bool>, Option<bool>, Option<bool>, Option<bool>, Option<bool>)>(),
            host in host(),
            verdict in verdict(),
            regressions in 0_u32..10,
        ) {
            let found = Found { stopped_early, verified, candidate, host, activated, resumed, tested, tested_again, reloaded, verdict, regressions };
            let outcome = outcome(&found);
            if outcome == Outcome::Converged {
                prop_assert!(!stopped_early && activated && tested == Some(true) && reloaded == Some(true));
                prop_assert!(verified != Some(false) && candidate != Some(false));
                prop_assert_eq!(verdict, Some(Verdict::Converged));
            }
            if outcome == Outcome::Rejected {
                // The host alone never makes a generation rejected.
                prop_assert!(verified == Some(false) || candidate == Some(false) || regressions + 1 >= REGRESSIONS);
            }
        }
    }
}
