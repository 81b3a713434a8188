//! Whether an operator's edit in progress makes us wait: a reload of ours would load it half-done.

use std::time::Duration;

use certwell_proto::pace::pace;
use jiff::Timestamp;

/// Worker start times are known to about 20 ms, and files are written just before nginx is started.
const TOLERANCE: Duration = Duration::from_millis(500);

/// Whether a configuration file is newer than the workers.
pub fn in_progress(changed: Option<Timestamp>, serving_since: Option<Timestamp>) -> bool {
    changed.zip(serving_since).is_some_and(|(changed, since)| {
        since
            .checked_add(TOLERANCE)
            .is_ok_and(|tolerated| changed > tolerated)
    })
}

/// Until when to wait; `None` to go on.
///
/// `changed` is the newest change of a configuration file, `serving_since` when the workers started, `setting` the
/// longest wait, `remaining` the life left of what is served.
pub fn hold_until(
    changed: Option<Timestamp>,
    serving_since: Option<Timestamp>,
    setting: Duration,
    remaining: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    if !in_progress(changed, serving_since) {
        return None;
    }
    let until = changed?.checked_add(pace(setting, Some(remaining))).ok()?;
    (until > now).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_file_written_just_before_the_workers_began_is_no_edit() {
        let ms = |ms| Some(Timestamp::from_millisecond(ms).unwrap());
        assert!(!in_progress(ms(1_500), ms(1_000)));
        assert!(in_progress(ms(1_501), ms(1_000)));
        assert!(!in_progress(None, ms(1_000)) && !in_progress(ms(1_501), None));
    }

    #[test]
    fn a_file_newer_than_the_workers_holds_for_a_while() {
        let hour = Duration::from_secs(3_600);
        let month = Duration::from_secs(30 * 86_400);
        let hold = |changed, since, remaining, now: i64| {
            hold_until(at(changed), at(since), hour, remaining, at(now).unwrap())
        };
        assert_eq!(hold(100, 200, month, 300), None, "older than the workers");
        assert_eq!(hold(200, 100, month, 300), at(3_800));
        assert_eq!(hold(200, 100, month, 3_800), None, "an hour is enough");
        assert_eq!(
            hold(200, 100, Duration::from_secs(100), 205),
            at(210),
            "less when expiry presses"
        );
        assert_eq!(
            hold(200, 100, Duration::ZERO, 201),
            None,
            "not at all when nothing valid is served"
        );
        assert_eq!(hold_until(None, at(1), hour, month, at(1).unwrap()), None);
    }
}
