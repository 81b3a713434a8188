//! The one place that reads the clock. Everything that decides takes `now` as an argument.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// 2020-01-01T00:00:00Z. A machine that believes in an earlier time has lost its clock.
const EARLIEST_SECOND: i64 = 1_577_836_800;

/// A clock that certificates can't be judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock says {0}, before 2020: every certificate would look not yet valid; set it (timedatectl, chrony) and start again"
)]
pub struct ClockError(pub Timestamp);

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Since the machine booted, without the time that it slept: nobody sets this clock, and the service manager tells times
/// by it too.
pub fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// `now`, if it can be true.
///
/// # Errors
/// When it lies before 2020.
pub fn plausible(now: Timestamp) -> Result<Timestamp, ClockError> {
    if now.as_second() < EARLIEST_SECOND {
        Err(ClockError(now))
    } else {
        Ok(now)
    }
}

/// How long from `now` until `then`; zero when it is past.
pub fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_2020_is_refused() {
        let lost: Timestamp = "2019-12-31T23:59:59Z".parse().unwrap();
        assert_eq!(plausible(lost), Err(ClockError(lost)));
        assert!(plausible("2020-01-01T00:00:00Z".parse().unwrap()).is_ok());
    }
}
