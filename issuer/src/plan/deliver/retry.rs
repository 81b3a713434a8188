//! After a refusal.

use std::time::Duration;

use certwell_proto::pace::{backoff, pace};
use jiff::Timestamp;

use super::{later, left};
use crate::{config::Alerts, store::AlertRecord};

/// The first pause, unless evaluations come faster.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause, and so is `repeat-min`. A receiver that wants to be left alone for longer isn't: somebody has to
/// learn of it.
const LONGEST: Duration = Duration::from_secs(300);

/// Refusals in a row of what is due of one alert to one notifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// How many.
    pub failures: u32,
    /// When it may be tried again.
    pub not_before: Timestamp,
    /// Why the last try failed, one sentence.
    pub problem: String,
}

/// One more refusal, at `now`; `jitter` lies in `0.0..=1.0`.
pub fn after_refusal(
    alert: &AlertRecord,
    before: Option<&Tried>,
    problem: String,
    settings: &Alerts,
    now: Timestamp,
    jitter: f64,
) -> Tried {
    let failures = before.map_or(0, |before| before.failures);
    let first = FIRST.min(settings.every);
    let longest = LONGEST.min(settings.repeat_min).max(first);
    // Between half of the pause and all of it, and a tenth of the life that is left at most.
    let pause = backoff(first, longest, failures, 0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    let pause = pace(pause, left(alert.last.ends, now));
    Tried {
        failures: failures.saturating_add(1),
        not_before: later(now, pause),
        problem,
    }
}

/// Until when a receiver wants nothing more of anybody, whatever it is about.
pub fn left_alone_until(retry_after: Duration, now: Timestamp) -> Timestamp {
    later(now, retry_after.min(LONGEST))
}

/// The end of a pause, not further ahead than pauses are. By a clock that was set back since, it could be years.
pub fn not_later(end: Timestamp, now: Timestamp) -> Timestamp {
    end.min(later(now, LONGEST))
}

/// Takes instants that have passed, and lie in the future by a clock that was set back since, for `now`.
pub fn not_after(alert: &mut AlertRecord, now: Timestamp) {
    alert.opened = alert.opened.min(now);
    alert.escalates = alert.escalates.min(now);
    alert.resolved = alert.resolved.map(|resolved| resolved.min(now));
}
