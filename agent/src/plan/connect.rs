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
    /// A stream that had delivered was lost before it had lived for a while.
    ShortStream,
    /// So many attempts in a row came to nothing, at least 1.
    Failed(u32),
}

/// How soon a started process, or one in need, connects at the latest.
const SOON: Duration = Duration::from_secs(5);
/// Where the issuer named no window.
const LEAST_WINDOW: Duration = Duration::from_secs(1);
/// A stream that lived so long was an established one.
const ESTABLISHED: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);
/// An issuer that is away isn't brought back by dialling it oftener than this, on average.
const NEEDY_CAP: Duration = Duration::from_secs(5);
/// Between attempts that fail, at least this long.
const FLOOR: Duration = Duration::from_millis(200);

/// What the end of a stream is to be taken for: one that had delivered nothing is a failed attempt; one that hardly
/// lived waits for a moment each time, so that an issuer that drops every stream isn't dialled without a pause, and one
/// that is restarted twice isn't left alone for a minute.
pub fn ended(lived: Option<Duration>) -> Why {
    match lived {
        Some(lived) if lived >= ESTABLISHED => Why::LostStream,
        Some(_) => Why::ShortStream,
        None => Why::Failed(1),
    }
}

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
        // A fleet in need all at once is a storm as well: it spreads, if over less.
        Why::LostStream if needy => SOON.mul_f64(jitter),
        Why::ShortStream => SOON.mul_f64(jitter).max(FLOOR),
        Why::LostStream => pace(window.max(LEAST_WINDOW), remaining).mul_f64(jitter),
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
    fn a_host_in_need_waits_for_a_moment_at_most_but_not_all_for_the_same() {
        let need = Some(Duration::ZERO);
        assert_eq!(wait(Why::LostStream, MINUTE, need, 1.0), SOON);
        assert_eq!(wait(Why::LostStream, MINUTE, need, 0.5), SOON / 2);
        assert_eq!(wait(Why::LostStream, Duration::ZERO, need, 1.0), SOON);
        assert!(wait(Why::Started, MINUTE, need, 1.0) <= SOON);
        // A certificate of three minutes is short of life soon.
        assert_eq!(
            wait(Why::LostStream, MINUTE, Some(Duration::from_secs(100)), 1.0),
            Duration::from_secs(10)
        );
    }

    #[test]
    fn no_window_is_a_small_one() {
        assert_eq!(
            wait(Why::LostStream, Duration::ZERO, MONTH, 1.0),
            LEAST_WINDOW
        );
    }

    #[test]
    fn a_stream_that_hardly_lived_waits_for_a_moment_and_one_that_delivered_nothing_backs_off() {
        assert_eq!(ended(None), Why::Failed(1));
        assert_eq!(ended(Some(Duration::from_secs(9))), Why::ShortStream);
        assert_eq!(wait(Why::ShortStream, MINUTE, MONTH, 1.0), SOON);
        assert_eq!(wait(Why::ShortStream, MINUTE, MONTH, 0.0), FLOOR);
        assert_eq!(ended(Some(ESTABLISHED)), Why::LostStream);
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
            prop_assert!(wait(Why::LostStream, window, life, jitter) <= window.max(SOON));
            prop_assert!(wait(Why::Started, window, life, jitter) <= SOON);
            let failed = wait(Why::Failed(attempts), window, life, jitter);
            prop_assert!(failed >= FLOOR && failed <= CAP);
        }
    }
}
