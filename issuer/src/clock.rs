//! The only place that reads the clock.

use jiff::Timestamp;

/// 2020-01-01: a clock before it was never set.
const EARLIEST: i64 = 1_577_836_800;

/// A clock that can't be right.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine's clock says {0}, which can't be right: certificates would be judged and issued by it; \
     set the clock (is an NTP client running?), then start again"
)]
pub struct ClockUnset(Timestamp);

/// The present instant.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The present instant, in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    now().as_millisecond()
}

/// Refuses to go on with a clock before 2020.
///
/// # Errors
/// When the clock was never set.
pub fn check() -> Result<(), ClockUnset> {
    let now = now();
    if now.as_second() < EARLIEST {
        Err(ClockUnset(now))
    } else {
        Ok(())
    }
}
