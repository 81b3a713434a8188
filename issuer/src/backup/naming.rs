//! How backups are called, and which of them go: pure.

use jiff::Timestamp;

const PREFIX: &str = "certwell-";
/// While it is being made; never taken for a backup.
const UNFINISHED: &str = ".new";

/// The name of a backup made at this instant, the `again`-th of its second.
pub(super) fn name(at: Timestamp, again: u32) -> String {
    let stem = format!("{PREFIX}{}", at.strftime("%Y%m%dT%H%M%SZ"));
    match again {
        0 => stem,
        again => format!("{stem}-{again}"),
    }
}

/// What a backup is called until it is whole.
pub(super) fn unfinished(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

/// Whether a run that was cut off left this.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|name| name.strip_suffix(UNFINISHED))
        .is_some_and(is_backup)
}

/// Whether this is a backup by its name, as `certwell-20261128T031500Z`.
pub(super) fn is_backup(name: &str) -> bool {
    parts(name).is_some()
}

/// The instant, as written, and which of its second.
fn parts(name: &str) -> Option<(&str, u32)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (instant, again) = match rest.split_once('-') {
        None => (rest, 0),
        Some((instant, again)) => (instant, again.parse().ok()?),
    };
    let form = "00000000T000000Z";
    let fits = instant.len() == form.len()
        && instant.chars().zip(form.chars()).all(|(c, form)| {
            if form == '0' {
                c.is_ascii_digit()
            } else {
                c == form
            }
        });
    fits.then_some((instant, again))
}

/// The newest backup of these entries of a directory.
pub(super) fn newest(entries: &[String]) -> Option<&String> {
    entries
        .iter()
        .filter(|name| is_backup(name))
        .max_by_key(|name| parts(name))
}

/// When a backup was made, by its name; `None` where that is no instant.
pub(super) fn made_at(name: &str) -> Option<Timestamp> {
    let (instant, _) = parts(name)?;
    let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", instant).ok()?;
    jiff::tz::Offset::UTC.to_timestamp(parsed).ok()
}

/// The backups that are called by a time after this one: the clock went back, and their order says nothing.
pub(super) fn later(entries: &[String], now: Timestamp) -> Vec<&String> {
    let now = name(now, u32::MAX);
    entries
        .iter()
        .filter(|name| is_backup(name) && parts(name) > parts(&now))
        .collect()
}

/// Which of these entries of a directory go: backups by their names, all but the newest `kept`. The one that was just
/// made is among these whatever the clock said.
pub(super) fn surplus<'a>(entries: &'a [String], kept: usize, made: &str) -> Vec<&'a String> {
    let others = |name: &&String| is_backup(name) && *name != made;
    let mut backups: Vec<&String> = entries.iter().filter(others).collect();
    backups.sort_by_key(|name| parts(name));
    let is_there = usize::from(entries.iter().any(|name| name == made));
    let go = backups.len().saturating_sub(kept.saturating_sub(is_there));
    backups.truncate(go);
    backups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn names_tell_the_instant_and_are_known_again() {
        assert_eq!(name(at(0), 0), "certwell-19700101T000000Z");
        assert_eq!(name(at(0), 2), "certwell-19700101T000000Z-2");
        assert_eq!(made_at("certwell-19701332T000000Z"), None);
        assert_eq!(made_at("certwell-mine"), None);
        for again in [0, 2, 10] {
            let name = name(at(1_800_000_000), again);
            assert_eq!(made_at(&name), Some(at(1_800_000_000)), "{name}");
            assert!(is_backup(&name) && !is_unfinished(&name), "{name}");
            let unfinished = unfinished(&name);
            assert!(
                is_unfinished(&unfinished) && !is_backup(&unfinished),
                "{unfinished}"
            );
        }
    }

    #[test]
    fn what_was_just_made_stays_though_the_clock_went_back() {
        let all: Vec<String> = [10, 11, 12].map(|second| name(at(second), 0)).to_vec();
        assert_eq!(surplus(&all, 2, &all[0]), [&all[1]]);
        assert_eq!(surplus(&all, 1, &all[0]), [&all[1], &all[2]]);
        assert_eq!(later(&all, at(10)), [&all[1], &all[2]]);
        assert!(later(&all, at(12)).is_empty());
    }

    #[test]
    fn the_oldest_of_our_own_go_and_nothing_of_others() {
        let ours: Vec<String> = [(10, 0), (11, 0), (11, 2), (11, 10), (12, 0)]
            .map(|(second, again)| name(at(second), again))
            .to_vec();
        let others = [
            "revoked.log",
            "certwell-mine",
            "certwell-19700101T000000Z.tar",
            "certwell-1970010aT000000Z",
            "certwell-19700101T000000Z-x",
            ".certwell-19700101T000001Z.new",
        ]
        .map(str::to_owned);
        let mut all: Vec<String> = others.iter().chain(ours.iter().rev()).cloned().collect();
        for (kept, gone) in [(1, &ours[..4]), (3, &ours[..2]), (5, &[]), (9, &[])] {
            let go: Vec<String> = surplus(&all, kept, &ours[4]).into_iter().cloned().collect();
            assert_eq!(go, gone, "{kept} kept");
        }
        assert_eq!(newest(&all), ours.last());
        all.retain(|name| !ours.contains(name));
        assert_eq!((surplus(&all, 1, "").len(), newest(&all)), (0, None));
    }
}
