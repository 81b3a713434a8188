//! Whether a certificate is held by hand: while it is, the agent changes nothing of it on disk and reloads nothing for
//! its sake.

use certwell_proto::{CertificateName, HELD_BY_HAND};
use jiff::Timestamp;

use super::age;
use crate::disk::holds::{Hold, Read};

/// Why the agent keeps its hands off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    /// Somebody asked for it.
    Asked(Hold),
    /// What somebody may have asked for can't be read. It may be about any certificate, and hands that were to be kept
    /// off can't be taken back, so all are held: what is served goes on being served, and it is said for each.
    Unreadable(String),
}

/// What holds a certificate now, if anything does.
pub fn of(holds: &Read, name: &CertificateName, now: Timestamp) -> Option<ByHand> {
    match holds {
        Read::Unreadable(why) => Some(ByHand::Unreadable(why.clone())),
        Read::Known(holds) => {
            let hold = holds.of(name).filter(|hold| hold.until > now)?;
            Some(ByHand::Asked(hold.clone()))
        }
    }
}

/// When the next hold lapses, of those that are in force.
pub fn next_end(holds: &Read, now: Timestamp) -> Option<Timestamp> {
    let Read::Known(holds) = holds else {
        return None;
    };
    let ends = holds.certificates.values().map(|hold| hold.until);
    ends.filter(|until| *until > now).min()
}

/// What is told while it is held. `validity` is that of what is active, `damage` what is wrong with it on disk.
pub fn sentence(
    by_hand: &ByHand,
    name: &CertificateName,
    validity: Option<(Timestamp, Timestamp)>,
    damage: &str,
    now: Timestamp,
) -> String {
    let mut text = match by_hand {
        ByHand::Asked(Hold { until, note, .. }) => {
            let note = match note {
                Some(note) => format!(" ({note})"),
                None => String::new(),
            };
            format!(
                "{HELD_BY_HAND} until {until}{note}: certwell-agent hold {name} --release lets it go on"
            )
        }
        ByHand::Unreadable(why) => format!("held, since nobody knows what is held by hand: {why}"),
    };
    match validity {
        Some((_, not_after)) if not_after <= now => {
            text.push_str(&format!("; what is active expired at {not_after}"));
        }
        Some((not_before, not_after)) if age::is_old(not_before, not_after, now) => {
            text.push_str(&format!(
                "; less than a quarter of its life is left, it ends at {not_after}"
            ));
        }
        _ => {}
    }
    if !damage.is_empty() {
        text.push_str(&format!("; what is active is damaged: {damage}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::holds::Holds;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn hold(until: i64, note: Option<&str>) -> Hold {
        Hold {
            since: at(0),
            until: at(until),
            note: note.map(str::to_owned),
        }
    }

    fn name(text: &str) -> CertificateName {
        text.parse().unwrap()
    }

    fn holds(list: &[(&str, i64)]) -> Read {
        let mut holds = Holds::default();
        for (of, until) in list {
            holds.set(&name(of), hold(*until, None));
        }
        Read::Known(holds)
    }

    #[test]
    fn a_hold_is_of_one_certificate_and_ends() {
        let holds = holds(&[("a.example", 100), ("b.example", 50)]);
        assert_eq!(
            of(&holds, &name("a.example"), at(99)),
            Some(ByHand::Asked(hold(100, None)))
        );
        assert_eq!(of(&holds, &name("a.example"), at(100)), None);
        assert_eq!(of(&holds, &name("c.example"), at(1)), None);
        assert_eq!(next_end(&holds, at(1)), Some(at(50)));
        assert_eq!(next_end(&holds, at(50)), Some(at(100)), "lapsed is no news");
        assert_eq!(next_end(&holds, at(100)), None);
    }

    #[test]
    fn what_cannot_be_read_holds_all() {
        let unreadable = Read::Unreadable("it is damaged".into());
        let by_hand = of(&unreadable, &name("a.example"), at(1)).unwrap();
        assert_eq!(by_hand, ByHand::Unreadable("it is damaged".into()));
        assert_eq!(next_end(&unreadable, at(1)), None);
        let said = sentence(&by_hand, &name("a.example"), None, "", at(1));
        assert!(said.contains("it is damaged"), "{said}");
    }

    #[test]
    fn the_sentence_names_the_way_out_and_what_presses() {
        let said = |note, validity: Option<(i64, i64)>, damage, now| {
            let by_hand = ByHand::Asked(hold(10, note));
            let validity = validity.map(|(from, until)| (at(from), at(until)));
            sentence(&by_hand, &name("a.example"), validity, damage, at(now))
        };
        let plain = "held by hand until 1970-01-01T00:00:10Z: certwell-agent hold a.example --release lets it go on";
        assert_eq!(said(None, Some((0, 100)), "", 5), plain);
        assert_eq!(said(None, None, "", 5), plain);
        assert!(said(Some("moving disks"), None, "", 5).contains("10Z (moving disks): "));
        assert!(said(None, Some((0, 6)), "", 5).ends_with("it ends at 1970-01-01T00:00:06Z"));
        assert!(said(None, Some((0, 5)), "", 5).ends_with("expired at 1970-01-01T00:00:05Z"));
        assert!(said(None, None, "key.pem is gone", 5).ends_with("damaged: key.pem is gone"));
    }
}
