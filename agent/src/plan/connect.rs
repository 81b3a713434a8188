//! When to dial the issuer. Only a lost established stream spreads over a window, so that a restarted issuer isn't
//! dialled by all at once; a host in need never waits.

use std::time::Duration;

use certwell_proto::pace::{backoff, pace};

/// Why the agent isn't connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The process has just started.
    Started,
    /// Its identity was renewed: the stream is made anew with it.
    NewIdentity,
    /// A stream that had delivered was lost.
    LostStream,
    /// So many attempts in a row came to nothing, at least 1.
    Failed(u32),
}

/// How soon a started process, or one in need, connects at the latest.
const SOON: Duration = Duration::from_secs(5);
const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);
/// An issuer that is away isn't brought back by dialling it oftener than this, on average.
const NEEDY_CAP: Duration = Duration::from_secs(5);
/// Between attempts that fail, at least this long.
const FLOOR: Duration = Duration::from_millis(200);

/// How long to wait before dialling.
///
/// `window` is what the issuer last named; `remaining` the least life left of what is served here, zero when a
/// certificate is absent or expired, `None` when that isn't known yet; `jitter` lies in `0.0..=1.0`.
pub fn wait(why: Why, window: Duration, remaining: Option<Duration>, jitter: f64) -> Duration {
    let jitter = jitter.clamp(0.0, 1.0);
    let needy = remaining == Some(Duration::ZERO);
    match why {
        Why::NewIdentity => Duration::ZERO,
        Why::Started => pace(SOON, remaining).mul_f64(jitter),
        Why::LostStream if needy => pace(SOON.min(window), remaining).mul_f64(jitter),
        Why::LostStream => pace(window, remaining).mul_f64(jitter),
        Why::Failed(attempts) => {
            let cap = pace(CAP, remaining).max(NEEDY_CAP);
            backoff(FIRST, cap, attempts.saturating_sub(1), jitter).max(FLOOR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const MONTH: Option<Duration> = Some(Duration::from_secs(30 * 86_400));

    #[test]
    fn only_a_lost_stream_spreads_over_the_window() {
        assert_eq!(wait(Why::LostStream, MINUTE, MONTH, 1.0), MINUTE);
        assert_eq!(wait(Why::LostStream, MINUTE, MONTH, 0.5), MINUTE / 2);
        assert_eq!(wait(Why::Started, MINUTE, MONTH, 1.0), SOON);
        assert_eq!(wait(Why::NewIdentity, MINUTE, MONTH, 1.0), Duration::ZERO);
    }

    #[test]
    fn a_host_in_need_does_not_wait() {
        for why in [Why::Started, Why::LostStream] {
            assert!(
                wait(why, MINUTE, Some(Duration::ZERO), 1.0) <= FLOOR,
                "{why:?}"
            );
        }
        // A certificate of three minutes is short of life soon.
        assert_eq!(
            wait(Why::LostStream, MINUTE, Some(Duration::from_secs(100)), 1.0),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn failures_back_off_with_full_jitter() {
        assert_eq!(
            wait(Why::Failed(1), MINUTE, MONTH, 1.0),
            Duration::from_secs(1)
        );
        assert_eq!(
            wait(Why::Failed(4), MINUTE, MONTH, 1.0),
            Duration::from_secs(8)
        );
        assert_eq!(wait(Why::Failed(40), MINUTE, MONTH, 1.0), CAP);
        assert_eq!(wait(Why::Failed(40), MINUTE, MONTH, 0.0), FLOOR);
        assert_eq!(
            wait(Why::Failed(40), MINUTE, Some(Duration::ZERO), 1.0),
            NEEDY_CAP
        );
    }

    proptest! {
        #[test]
        fn never_longer_than_window_or_cap(attempts in 1_u32..100, window in 0_u64..100_000, life in proptest::option::of(0_u64..10_000_000), jitter in 0.0..=1.0_f64) {
            let (window, life) = (Duration::from_millis(window), life.map(Duration::from_millis));
            prop_assert!(wait(Why::LostStream, window, life, jitter) <= window.max(FLOOR));
            prop_assert!(wait(Why::Started, window, life, jitter) <= SOON);
            let failed = wait(Why::Failed(attempts), window, life, jitter);
            prop_assert!(failed >= FLOOR && failed <= CAP);
        }
    }
}
