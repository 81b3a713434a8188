//! When a certificate is ordered: pure.

use std::time::Duration;

use certwell_proto::fingerprint::sha256;
use jiff::{SignedDuration, Timestamp};

use crate::{
    config::Renewal,
    store::{Issued, OrderFailure},
};

/// How many failures in a row make the next of a certificate's authorities try.
const FAILURES_PER_AUTHORITY: usize = 3;
/// The pause after the CA tried to validate and failed: two in an hour, well under what CAs limit.
const AFTER_VALIDATION: Duration = Duration::from_secs(30 * 60);
/// The longest that a CA's `Retry-After` is obeyed, where a tenth of the remaining life isn't less.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);
/// How much of its lifetime a renewal may be moved earlier by jitter.
const JITTER_FRACTION: f64 = 0.05;

/// What the decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct RenewFacts<'a> {
    /// The newest issued generation.
    pub issued: Option<&'a Issued>,
    /// The configuration asks for other identifiers than it covers.
    pub changed: bool,
    /// `certwell certificates renew` asked for a generation higher than the issued one.
    pub forced: bool,
    /// An order is unfinished.
    pub pending: bool,
    /// Failures since the last success, oldest first.
    pub failures: &'a [OrderFailure],
    /// The next attempt goes to another authority than the last failure came from, whose `Retry-After` then says
    /// nothing.
    pub other_authority: bool,
    /// The CA's suggested window (RFC 9773 4.2), when it gives one.
    pub window: Option<(Timestamp, Timestamp)>,
    /// Stable for one generation, `0.0..1.0`.
    pub jitter: f64,
}

/// When to order next; an instant that has passed means now.
pub fn order_at(facts: &RenewFacts<'_>, settings: &Renewal, now: Timestamp) -> Timestamp {
    let due = due_at(facts, settings);
    match facts.failures.last() {
        Some(last) => due.max(retry_at(facts, last, settings, now)),
        None => due,
    }
}

/// When it is due, failures aside.
pub fn due_at(facts: &RenewFacts<'_>, settings: &Renewal) -> Timestamp {
    let Some(issued) = facts.issued else {
        return Timestamp::UNIX_EPOCH;
    };
    if facts.changed || facts.forced || facts.pending {
        return Timestamp::UNIX_EPOCH;
    }
    let life = issued.not_after.duration_since(issued.not_before);
    let by_fraction = issued.not_before
        + life.mul_f(settings.at_fraction - facts.jitter.clamp(0.0, 1.0) * JITTER_FRACTION);
    let latest = issued.not_before + life.mul_f(0.9);
    match facts.window {
        Some((start, end)) if start < end => (start
            + end
                .duration_since(start)
                .mul_f(facts.jitter.clamp(0.0, 1.0)))
        .min(latest),
        _ => by_fraction.min(latest),
    }
}

/// When to try again after a failure. Never abandoned: the pause is bounded, by what life remains too.
fn retry_at(
    facts: &RenewFacts<'_>,
    last: &OrderFailure,
    settings: &Renewal,
    now: Timestamp,
) -> Timestamp {
    let attempt = u32::try_from(facts.failures.len().saturating_sub(1)).unwrap_or(u32::MAX);
    // Half of it fixed, so that a CA is never asked twice at once.
    let jitter = 0.5 + 0.5 * facts.jitter.clamp(0.0, 1.0);
    let mut pause =
        certwell_proto::pace::backoff(settings.retry_first, settings.retry_max, attempt, jitter);
    if last.validation {
        pause = pause.max(AFTER_VALIDATION);
    }
    let asked = last.retry_at.filter(|_| !facts.other_authority);
    let mut asked = asked.map_or(Duration::ZERO, |until| {
        positive(until.duration_since(last.at)).min(LONGEST_RETRY_AFTER)
    });
    if let Some(issued) = facts.issued {
        pause = pause.min(longest_pause(issued, settings, last.validation, now));
        // What a CA asks for is obeyed as patiently as what it refused to validate.
        asked = asked.min(longest_pause(issued, settings, true, now));
    }
    last.at + SignedDuration::try_from(pause.max(asked)).unwrap_or(SignedDuration::MAX)
}

/// When a certificate may be ordered after the CA failed to validate one of its identifiers, for whichever certificate
/// that was: CAs count by name.
pub fn after_shared_failure(
    failed: Timestamp,
    issued: Option<&Issued>,
    settings: &Renewal,
    now: Timestamp,
) -> Timestamp {
    let pace = issued.map(|issued| longest_pause(issued, settings, true, now));
    let pause = pace.map_or(AFTER_VALIDATION, |pace| pace.min(AFTER_VALIDATION));
    failed + SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX)
}

/// A tenth of the remaining life; when that is gone, still enough not to hammer the CA: a twentieth of the
/// lifetime, or the shortest pause that the settings know (half an hour where the CA has reason to mind).
fn longest_pause(issued: &Issued, settings: &Renewal, minds: bool, now: Timestamp) -> Duration {
    let lifetime = positive(issued.not_after.duration_since(issued.not_before));
    let remaining = positive(issued.not_after.duration_since(now));
    let least = if minds {
        AFTER_VALIDATION
    } else {
        settings.retry_first
    };
    (remaining / 10).max(least.min(lifetime / 20))
}

/// The life left, zero when it has expired.
pub fn remaining(issued: &Issued, now: Timestamp) -> Duration {
    positive(issued.not_after.duration_since(now))
}

/// Whether less than a sixth of the life is left: then an order is placed whatever the preflight says.
pub fn is_pressing(issued: Option<&Issued>, now: Timestamp) -> bool {
    issued.is_some_and(|issued| {
        remaining(issued, now) < positive(issued.not_after.duration_since(issued.not_before)) / 6
    })
}

/// Which of a certificate's authorities the next order goes to: the first, and after every three failures in a
/// row the next one. `authorities` is how many there are, at least one.
pub fn authority_index(failures: usize, authorities: usize) -> usize {
    (failures / FAILURES_PER_AUTHORITY) % authorities.max(1)
}

/// A fraction in `0.0..1.0` that stays the same for one generation of one certificate, so that a restart plans
/// the same instant.
pub fn stable_jitter(certificate: &str, generation: u64) -> f64 {
    let digest = sha256(format!("{certificate}\0{generation}").as_bytes());
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(head) / (f64::from(u32::MAX) + 1.0)
}

fn positive(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

trait MulF {
    fn mul_f(self, factor: f64) -> Self;
}

impl MulF for SignedDuration {
    fn mul_f(self, factor: f64) -> Self {
        Self::try_from_secs_f64(self.as_secs_f64() * factor).unwrap_or(Self::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn issued(not_before: i64, not_after: i64) -> Issued {
        Issued {
            certificate: "media.hachyderm.io".parse().unwrap(),
            generation: 1.into(),
            identifiers: vec![],
            authority: "pebble".into(),
            fullchain: vec![],
            root: vec![],
            not_before: at(not_before),
            not_after: at(not_after),
            at: at(not_before),
        }
    }

    fn settings() -> Renewal {
        Renewal {
            at_fraction: 2.0 / 3.0,
            preflight_wait: Duration::from_secs(30),
            retry_first: Duration::from_secs(60),
            retry_max: Duration::from_secs(6 * 3600),
        }
    }

    fn facts<'a>(issued: Option<&'a Issued>, failures: &'a [OrderFailure]) -> RenewFacts<'a> {
        RenewFacts {
            issued,
            changed: false,
            forced: false,
            pending: false,
            failures,
            other_authority: false,
            window: None,
            jitter: 0.5,
        }
    }

    fn failure(second: i64, validation: bool) -> OrderFailure {
        OrderFailure {
            at: at(second),
            validation,
            problem: "no".into(),
            retry_at: None,
        }
    }

    #[test]
    fn nothing_issued_is_ordered_now() {
        assert!(order_at(&facts(None, &[]), &settings(), at(DAY)) <= at(DAY));
    }

    #[test]
    fn ninety_days_are_renewed_about_day_sixty() {
        let issued = issued(0, 90 * DAY);
        let due = order_at(&facts(Some(&issued), &[]), &settings(), at(0));
        assert!(due > at(55 * DAY) && due <= at(60 * DAY), "{due}");
    }

    #[test]
    fn three_minutes_are_renewed_about_second_120() {
        let issued = issued(0, 180);
        let due = order_at(&facts(Some(&issued), &[]), &settings(), at(0));
        assert!(due > at(108) && due <= at(120), "{due}");
    }

    #[test]
    fn forced_changed_and_pending_are_now() {
        let issued = issued(0, 90 * DAY);
        for (forced, changed, pending) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            let facts = RenewFacts {
                forced,
                changed,
                pending,
                ..facts(Some(&issued), &[])
            };
            assert!(order_at(&facts, &settings(), at(10)) <= at(10));
        }
    }

    #[test]
    fn the_window_of_the_authority_goes_before_the_fraction() {
        let issued = issued(0, 90 * DAY);
        let facts = RenewFacts {
            window: Some((at(10 * DAY), at(20 * DAY))),
            ..facts(Some(&issued), &[])
        };
        assert_eq!(order_at(&facts, &settings(), at(0)), at(15 * DAY));
    }

    #[test]
    fn failed_validation_waits_half_an_hour_with_long_lives_and_seconds_with_short_ones() {
        let long = issued(0, 90 * DAY);
        let now = at(80 * DAY);
        let failures = [failure(80 * DAY, true)];
        assert_eq!(
            order_at(&facts(Some(&long), &failures), &settings(), now),
            now + SignedDuration::from_mins(30)
        );
        let short = issued(0, 180);
        let failures = [failure(120, true)];
        let again = order_at(&facts(Some(&short), &failures), &settings(), at(120));
        assert!(again > at(120) && again <= at(130), "{again}");
    }

    #[test]
    fn retry_after_of_the_authority_is_honoured() {
        let asked = OrderFailure {
            retry_at: Some(at(5_000)),
            ..failure(0, false)
        };
        assert_eq!(
            order_at(&facts(None, &[asked]), &settings(), at(0)),
            at(5_000)
        );
    }

    #[test]
    fn retry_after_of_the_authority_never_outlasts_a_day_or_a_tenth_of_the_life() {
        let asked = |second, seconds| OrderFailure {
            retry_at: Some(at(seconds)),
            ..failure(second, false)
        };
        let in_a_week = [asked(0, 7 * DAY)];
        let never = [asked(0, 4_000_000_000)];
        for failures in [&in_a_week, &never] {
            let again = order_at(&facts(None, failures), &settings(), at(0));
            assert_eq!(again, at(DAY));
        }
        let short = issued(0, 180);
        let failures = [asked(120, 7 * DAY)];
        let again = order_at(&facts(Some(&short), &failures), &settings(), at(120));
        assert!(again > at(120) && again <= at(130), "{again}");
        // Expired: obeyed, but for half an hour at most.
        let long = issued(0, 90 * DAY);
        let failures = [asked(91 * DAY, 95 * DAY)];
        let again = order_at(&facts(Some(&long), &failures), &settings(), at(91 * DAY));
        assert_eq!(again, at(91 * DAY + 1_800));
    }

    #[test]
    fn retry_after_of_one_authority_does_not_hold_up_another() {
        let asked = [OrderFailure {
            retry_at: Some(at(DAY)),
            ..failure(0, false)
        }];
        let facts = RenewFacts {
            other_authority: true,
            ..facts(None, &asked)
        };
        assert!(order_at(&facts, &settings(), at(0)) <= at(60));
    }

    #[test]
    fn what_failed_for_another_certificate_waits_like_an_own_failure() {
        let long = issued(0, 90 * DAY);
        let short = issued(0, 180);
        for (issued, failed) in [(None, 0), (Some(&long), 80 * DAY), (Some(&short), 120)] {
            let own = [failure(failed, true)];
            let own = order_at(&facts(issued, &own), &settings(), at(failed));
            let shared = after_shared_failure(at(failed), issued, &settings(), at(failed));
            assert_eq!(shared, own);
            assert!(shared > at(failed));
        }
    }

    #[test]
    fn every_third_failure_goes_to_the_next_authority_and_round_again() {
        let picks: Vec<usize> = (0..8)
            .map(|failures| authority_index(failures, 2))
            .collect();
        assert_eq!(picks, [0, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(authority_index(5, 1), 0);
    }

    #[test]
    fn below_a_sixth_it_presses() {
        let issued = issued(0, 180);
        assert!(!is_pressing(Some(&issued), at(149)));
        assert!(is_pressing(Some(&issued), at(151)));
        assert!(is_pressing(Some(&issued), at(1_000)));
        assert!(!is_pressing(None, at(0)));
    }

    proptest! {
        #[test]
        fn a_renewal_is_never_later_than_expiry_allows(
            life in 60_i64..400 * DAY, fraction in 0.1..=0.9_f64, jitter in 0.0..1.0_f64,
            window in proptest::option::of((0_i64..500 * DAY, 1_i64..500 * DAY)),
        ) {
            let issued = issued(0, life);
            let settings = Renewal { at_fraction: fraction, ..settings() };
            let facts = RenewFacts {
                jitter,
                window: window.map(|(start, length)| (at(start), at(start + length))),
                ..facts(Some(&issued), &[])
            };
            let due = order_at(&facts, &settings, at(0));
            prop_assert!(due <= issued.not_before + SignedDuration::from_secs(life).mul_f(0.9));
        }

        #[test]
        fn a_retry_is_never_abandoned_and_never_at_once(
            life in 60_i64..400 * DAY, now in 0_i64..800 * DAY, count in 1_usize..50,
            validation in any::<bool>(), jitter in 0.0..1.0_f64, is_issued in any::<bool>(),
            asked in proptest::option::of(
                Timestamp::MIN.as_second() + DAY..Timestamp::MAX.as_second() - DAY
            ),
        ) {
            let issued = issued(0, life);
            let last = OrderFailure { retry_at: asked.map(at), ..failure(now, validation) };
            let failures = vec![last; count];
            let facts = RenewFacts { jitter, ..facts(is_issued.then_some(&issued), &failures) };
            let again = retry_at(&facts, &failures[count - 1], &settings(), at(now));
            prop_assert!(again >= at(now) + SignedDuration::from_secs(1));
            let longest = if asked.is_some() { 24 } else { 6 };
            prop_assert!(again <= at(now) + SignedDuration::from_hours(longest));
            if is_issued && now < life {
                let least = SignedDuration::from_mins(30).min(SignedDuration::from_secs(life) / 20);
                let pace = (SignedDuration::from_secs(life - now) / 10).max(least);
                prop_assert!(again <= at(now) + pace);
            }
        }
    }
}
