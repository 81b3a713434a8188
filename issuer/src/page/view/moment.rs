//! Instants: how far they are, in few letters, and when they are exactly.

use jiff::Timestamp;

use crate::plan::words;

/// An instant as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// "3 h ago", "in 46 d", "now".
    pub near: String,
    /// "2026-11-24 13:14:09 UTC".
    pub exact: String,
    /// RFC 3339, for programs.
    pub machine: String,
}

impl Moment {
    /// An instant, seen from `now`.
    pub fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            near: near(at, now),
            exact: words::instant(at),
            machine: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }
    }

    /// From milliseconds on the wire.
    pub fn of_millis(at: i64, now: Timestamp) -> Self {
        Self::new(words::from_millis(at), now)
    }

    /// From seconds on the wire.
    pub fn of_seconds(at: i64, now: Timestamp) -> Self {
        Self::new(words::from_seconds(at), now)
    }
}

fn near(at: Timestamp, now: Timestamp) -> String {
    match at.as_second() - now.as_second() {
        -2..=0 => "now".to_owned(),
        later if later > 0 => format!("in {}", span(later)),
        earlier => format!("{} ago", span(-earlier)),
    }
}

/// A span in few letters, rounded down: "89 d", "47 h", "5 min", "1 s".
pub fn span(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match seconds.max(0) {
        days if days >= 2 * DAY => format!("{} d", days / DAY),
        hours if hours >= 2 * HOUR => format!("{} h", hours / HOUR),
        minutes if minutes >= 2 * MINUTE => format!("{} min", minutes / MINUTE),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_near_in_few_letters_and_never_too_far() {
        let now = words::from_seconds(1_000_000);
        for (offset, near) in [
            (0, "now"),
            (-2, "now"),
            (-3, "3 s ago"),
            (1, "in 1 s"),
            (-120, "2 min ago"),
            (2 * 3600 - 1, "in 119 min"),
            (2 * 86_400 - 1, "in 47 h"),
            (90 * 86_400 - 1, "in 89 d"),
        ] {
            let moment = Moment::of_seconds(1_000_000 + offset, now);
            assert_eq!(moment.near, near);
        }
        let moment = Moment::of_millis(1_000_000_000, now);
        assert_eq!(moment.exact, "1970-01-12 13:46:40 UTC");
        assert_eq!(moment.machine, "1970-01-12T13:46:40Z");
    }
}
