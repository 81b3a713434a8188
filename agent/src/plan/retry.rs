//! When a certificate that didn't converge is tried again: for ever, less and less often, never too late.

use std::time::Duration;

use certwell_proto::pace::{backoff, pace};

use super::outcome::Outcome;

const FIRST: Duration = Duration::from_secs(2);
const CAP: Duration = Duration::from_secs(300);
const FLOOR: Duration = Duration::from_millis(500);

/// How long to wait after the `attempts`-th attempt (from 1) ended so; `None`: not by time, only when asked.
pub fn wait(outcome: Outcome, attempts: u32, remaining: Duration, jitter: f64) -> Option<Duration> {
    match outcome {
        Outcome::Converged | Outcome::Rejected => None,
        Outcome::Held | Outcome::NotApplied | Outcome::Regressed => {
            // With nothing valid served, ten seconds apart is as hurried as a host stands.
            let cap = pace(CAP, Some(remaining)).max(Duration::from_secs(10));
            // The lower half of the jitter is cut off: a host that stands in the way isn't gone in an instant.
            Some(
                backoff(
                    FIRST,
                    cap,
                    attempts.saturating_sub(1),
                    jitter.mul_add(0.5, 0.5),
                )
                .max(FLOOR),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn converged_and_rejected_are_left_alone() {
        assert_eq!(wait(Outcome::Converged, 1, Duration::ZERO, 0.5), None);
        assert_eq!(wait(Outcome::Rejected, 1, Duration::ZERO, 0.5), None);
    }

    proptest! {
        #[test]
        fn others_are_tried_again_within_five_minutes(attempts in 1_u32..1000, remaining in 0_u64..10_000_000, jitter in 0.0..=1.0_f64) {
            for outcome in [Outcome::Held, Outcome::NotApplied, Outcome::Regressed] {
                let wait = wait(outcome, attempts, Duration::from_secs(remaining), jitter).unwrap();
                prop_assert!(wait >= FLOOR && wait <= CAP);
            }
        }
    }
}
