//! From when on what is served is old: without the issuer that is an alarm.

use jiff::Timestamp;

/// The last moment at which a quarter of the life of a leaf is left.
pub fn old_from(not_before: Timestamp, not_after: Timestamp) -> Timestamp {
    not_after - not_after.duration_since(not_before) / 4
}

/// Whether less than a quarter of the life of a leaf is left.
pub fn is_old(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    now > old_from(not_before, not_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_quarter_is_old() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(!is_old(at(0), at(100), at(75)));
        assert!(is_old(at(0), at(100), at(76)));
        assert!(is_old(at(0), at(100), at(200)));
    }
}
