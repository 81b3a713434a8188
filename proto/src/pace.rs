//! How often anything is done, given what life remains.

use std::time::Duration;

/// `min(setting, a tenth of the remaining life)`: 90-day and 3-minute certificates run the same code.
///
/// `remaining` is the life left of what is served, zero when it has expired; `None` when nothing is served,
/// which hurries nobody. The result is never under 200 ms, so that nothing spins.
pub fn pace(setting: Duration, remaining: Option<Duration>) -> Duration {
    let floor = Duration::from_millis(200).min(setting);
    remaining
        .map_or(setting, |life| setting.min(life / 10))
        .max(floor)
}

/// A full-jitter back-off: a random instant within `first * 2^attempt`, at most `cap`.
///
/// `attempt` counts from 0; `jitter` lies in `0.0..=1.0` and is the caller's randomness.
pub fn backoff(first: Duration, cap: Duration, attempt: u32, jitter: f64) -> Duration {
    let ceiling = first
        .saturating_mul(1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX))
        .min(cap);
    ceiling.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn short_lives_hurry_and_long_ones_do_not() {
        assert_eq!(pace(MINUTE, Some(Duration::from_secs(90 * 86_400))), MINUTE);
        assert_eq!(
            pace(MINUTE, Some(Duration::from_secs(180))),
            Duration::from_secs(18)
        );
        assert_eq!(
            pace(MINUTE, Some(Duration::ZERO)),
            Duration::from_millis(200)
        );
        assert_eq!(pace(MINUTE, None), MINUTE);
    }

    proptest! {
        #[test]
        fn never_longer_than_the_setting_and_never_spinning(setting in 200_u64..1_000_000, life in proptest::option::of(0_u64..10_000_000)) {
            let setting = Duration::from_millis(setting);
            let paced = pace(setting, life.map(Duration::from_millis));
            prop_assert!(paced <= setting && paced >= Duration::from_millis(200));
        }

        #[test]
        fn backoff_stays_under_its_cap(attempt in 0_u32..200, jitter in 0.0..=1.0_f64) {
            prop_assert!(backoff(Duration::from_secs(1), MINUTE, attempt, jitter) <= MINUTE);
        }
    }
}
