//! When the identity is renewed: at half its life, spread a little, and then again and again until it works.

use std::time::Duration;

use certwell_proto::pace::{backoff, pace};
use jiff::{SignedDuration, Timestamp};

/// When to renew an identity. `jitter` in `0.0..=1.0` spreads it over a tenth of its life before its half.
pub fn renew_at(not_before: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let life = Duration::try_from(not_after.duration_since(not_before)).unwrap_or_default();
    let wait = life.mul_f64(0.5 - 0.1 * jitter.clamp(0.0, 1.0));
    SignedDuration::try_from(wait)
        .ok()
        .and_then(|wait| not_before.checked_add(wait).ok())
        .unwrap_or(not_before)
}

/// What is over, perhaps only by this machine's clock, isn't saved by asking oftener than this.
const OVER: Duration = Duration::from_secs(60);

/// How long to wait after so many attempts that failed, at least 1.
pub fn retry(attempts: u32, remaining: Duration, jitter: f64) -> Duration {
    let cap = if remaining.is_zero() {
        OVER
    } else {
        pace(Duration::from_secs(3_600), Some(remaining))
    };
    backoff(
        Duration::from_secs(5),
        cap,
        attempts.saturating_sub(1),
        jitter,
    )
    .max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_seems_to_be_over_is_not_asked_for_all_the_time() {
        let waits = (1..=10).map(|attempts| retry(attempts, Duration::ZERO, 1.0));
        assert_eq!(waits.max(), Some(OVER));
        assert_eq!(retry(1, Duration::ZERO, 1.0), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn renewed_before_half_of_its_life_and_after_two_fifths(begin in 0_i64..4_000_000_000, life in 10_i64..10_000_000, jitter in 0.0..=1.0_f64) {
            let at = |second| Timestamp::from_second(second).unwrap();
            let due = renew_at(at(begin), at(begin + life), jitter).duration_since(at(begin)).as_secs_f64();
            let life = life as f64;
            prop_assert!(due <= life * 0.5 + 0.001 && due >= life * 0.4 - 0.001);
        }

        #[test]
        fn a_retry_leaves_time_for_more(attempts in 1_u32..50, remaining in 100_u64..1_000_000, jitter in 0.0..=1.0_f64) {
            let remaining = Duration::from_secs(remaining);
            let wait = retry(attempts, remaining, jitter);
            prop_assert!(wait >= Duration::from_secs(1) && wait <= remaining / 10);
        }
    }
}
