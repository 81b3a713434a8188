//! Times, spans and lists in words, the same in every sentence that a person reads.

use certwell_proto::v1;
use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A span in its fitting unit, rounded down: "89 days", "47 hours", "5 minutes", "1 second".
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    if seconds >= 2 * DAY {
        format!("{} days", seconds / DAY)
    } else if seconds >= 2 * HOUR {
        format!("{} hours", seconds / HOUR)
    } else if seconds >= 2 * MINUTE {
        format!("{} minutes", seconds / MINUTE)
    } else {
        count(usize::try_from(seconds).unwrap_or(0), "second")
    }
}

/// "in 3 hours", "3 hours ago", "now".
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    match at.as_second() - now.as_second() {
        0 => "now".to_owned(),
        later if later > 0 => format!("in {}", span(later)),
        earlier => format!("{} ago", span(-earlier)),
    }
}

/// "2026-11-24 13:14:09 UTC".
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An instant and how far it is: "2026-11-24 13:14:09 UTC (in 3 hours)".
pub fn dated(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", instant(at), relative(at, now))
}

/// "1 host", "4 hosts".
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}

/// "once", "4 times".
pub fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

/// "a", "a and b", "a, b and c".
pub fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.pop() {
        None => "nothing".to_owned(),
        Some(only) if items.is_empty() => only,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}

/// From the wire; an instant that can't be is taken for the epoch, since only people read it.
pub fn from_millis(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// From the wire; see [`from_millis`].
pub fn from_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or_default()
}

/// The word for a kind of event.
pub fn kind_word(kind: v1::EventKind) -> &'static str {
    use v1::EventKind as Kind;
    match kind {
        Kind::Preflight => "preflight",
        Kind::Order => "order",
        Kind::Challenge => "challenge",
        Kind::Issued => "issued",
        Kind::OrderFailed => "order-failed",
        Kind::Fetched => "fetched",
        Kind::Installed => "installed",
        Kind::Served => "served",
        Kind::HostProblem => "host-problem",
        Kind::Host => "host",
        Kind::Config => "config",
        Kind::Admin => "admin",
        Kind::Recovery => "recovery",
        Kind::Alert => "alert",
        Kind::Unspecified => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_take_the_unit_that_fits_and_never_promise_too_much() {
        for (seconds, words) in [
            (-5, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (2 * HOUR - 1, "119 minutes"),
            (2 * DAY - 1, "47 hours"),
            (90 * DAY - 1, "89 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }

    #[test]
    fn instants_are_said_from_now() {
        let now = from_seconds(1_000_000);
        assert_eq!(relative(from_seconds(1_000_000 + 7_200), now), "in 2 hours");
        assert_eq!(
            relative(from_seconds(1_000_000 - 180), now),
            "3 minutes ago"
        );
        assert_eq!(relative(now, now), "now");
        assert_eq!(dated(now, now), "1970-01-12 13:46:40 UTC (now)");
    }

    #[test]
    fn lists_read_like_speech() {
        assert_eq!(list(["a", "b", "c"]), "a, b and c");
        assert_eq!(list(["a", "b"]), "a and b");
        assert_eq!(list(["a"]), "a");
        assert_eq!(list::<&str>([]), "nothing");
        assert_eq!(
            count(1, "host") + ", " + &count(2, "host"),
            "1 host, 2 hosts"
        );
    }
}
