//! When a certificate that didn't converge is tried again: for ever, less and less often, never too late.

use std::time::Duration;

use certwell_proto::pace::{backoff, pace};

use super::outcome::Outcome;

const FIRST: Duration = Duration::from_secs(2);
const CAP: Duration = Duration::from_secs(300);
/// Where nginx has loaded what is on disk and serves another all the same, only its configuration can help; and each
/// reload leaves workers behind that drain for long.
const CAP_LOADED: Duration = Duration::from_secs(3_600);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// As what.
    pub outcome: Outcome,
    /// Whether nginx has new workers since.
    pub new_workers: bool,
    /// Which in a row it was, from 1.
    pub attempts: u32,
}

/// How long to wait; `None`: not by time, only when asked. `remaining` is the life left of what is active.
pub fn wait(ended: Ended, remaining: Duration, jitter: f64) -> Option<Duration> {
    let cap = match ended.outcome {
        Outcome::Converged | Outcome::Rejected => return None,
        Outcome::NotApplied if ended.new_workers => CAP_LOADED,
        Outcome::Held | Outcome::NotApplied | Outcome::Regressed => CAP,
    };
    // With nothing valid served, ten seconds apart is as hurried as a host stands.
    let cap = pace(cap, Some(remaining)).max(Duration::from_secs(10));
    // The lower half of the jitter is cut off: a host that stands in the way isn't gone in an instant.
    Some(backoff(
        FIRST,
        cap,
        ended.attempts.saturating_sub(1),
        jitter.mul_add(0.5, 0.5),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ended(outcome: Outcome, attempts: u32) -> Ended {
        Ended {
            outcome,
            new_workers: false,
            attempts,
        }
    }

    #[test]
    fn converged_and_rejected_are_left_alone() {
        assert_eq!(
            wait(ended(Outcome::Converged, 1), Duration::ZERO, 0.5),
            None
        );
        assert_eq!(wait(ended(Outcome::Rejected, 1), Duration::ZERO, 0.5), None);
    }

    #[test]
    fn a_reload_that_brings_nothing_new_is_asked_for_hourly_and_oftener_when_expiry_presses() {
        let loaded = Ended {
            new_workers: true,
            ..ended(Outcome::NotApplied, 100)
        };
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(wait(loaded, month, 1.0), Some(CAP_LOADED));
        let press = Duration::from_secs(600);
        assert_eq!(wait(loaded, press, 1.0), Some(press / 10));
    }

    #[test]
    fn a_host_with_nothing_valid_to_serve_is_not_tried_without_a_pause() {
        for (attempts, jitter, seconds) in [(1, 0.0, 1), (1, 1.0, 2), (40, 0.0, 5), (40, 1.0, 10)] {
            assert_eq!(
                wait(ended(Outcome::Held, attempts), Duration::ZERO, jitter),
                Some(Duration::from_secs(seconds)),
                "{attempts} {jitter}"
            );
        }
    }

    proptest! {
        #[test]
        fn others_are_tried_again_within_five_minutes(attempts in 1_u32..1000, remaining in 0_u64..10_000_000, jitter in 0.0..=1.0_f64) {
            for outcome in [Outcome::Held, Outcome::NotApplied, Outcome::Regressed] {
                let wait = wait(ended(outcome, attempts), Duration::from_secs(remaining), jitter).unwrap();
                prop_assert!(wait >= FIRST / 2 && wait <= CAP);
            }
        }
    }
}
