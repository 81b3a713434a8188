use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400;
const HOOK: Receiver<'_> = Receiver {
    name: "hook",
    resend: None,
    is_busy: false,
};
const AM: Receiver<'_> = Receiver {
    name: "am",
    resend: Some(Duration::from_secs(60)),
    is_busy: false,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// One leaf of 90 days, from 0.
fn facts(reach: Reach) -> Facts {
    Facts {
        reach,
        lives: vec![(at(0), at(90 * DAY))],
    }
}

/// The first instant of its last quarter is day 67.5.
fn unreached(record: Option<Record>, facts: &Facts, second: i64) -> Step {
    step(
        Cause::IssuerUnreachable,
        record,
        facts,
        &[HOOK],
        at(second),
        0.5,
    )
}

fn opened(second: i64) -> (Record, Facts) {
    let facts = facts(Reach::Lost(at(second - 3_600)));
    (unreached(None, &facts, second).record.unwrap(), facts)
}

#[test]
fn it_is_raised_when_what_is_served_gets_old_and_the_issuer_is_away() {
    let old = 68 * DAY;
    let table = [
        (
            "away, and old",
            facts(Reach::Lost(at(old - 3_600))),
            old,
            true,
        ),
        (
            "away, and young",
            facts(Reach::Lost(at(0))),
            60 * DAY,
            false,
        ),
        ("there", facts(Reach::Reached), old, false),
        ("not tried yet", facts(Reach::Unknown), old, false),
        (
            "away for a moment",
            facts(Reach::Lost(at(old - 60))),
            old,
            false,
        ),
        ("away, and over", facts(Reach::Lost(at(0))), 91 * DAY, true),
    ];
    for (what, facts, now, expected) in table {
        assert_eq!(
            unreached(None, &facts, now).record.is_some(),
            expected,
            "{what}"
        );
    }
    let none = Facts {
        reach: Reach::Lost(at(0)),
        lives: Vec::new(),
    };
    assert_eq!(unreached(None, &none, old), Step::default());
    // It is asked again when the last quarter begins, and when the moment is over.
    let young = unreached(None, &facts(Reach::Lost(at(0))), 60 * DAY);
    assert_eq!(young.wake.unwrap().as_second(), 67 * DAY + DAY / 2);
    let moment = unreached(None, &facts(Reach::Lost(at(old - 60))), old);
    assert_eq!(moment.wake, Some(at(old - 60 + 300)));
}

#[test]
fn what_is_over_is_told_though_the_issuer_is_there() {
    let expired = |reach, second| {
        step(
            Cause::ServedExpired,
            None,
            &facts(reach),
            &[HOOK],
            at(second),
            0.0,
        )
    };
    assert!(expired(Reach::Reached, 90 * DAY + 61).record.is_some());
    assert!(
        expired(Reach::Reached, 90 * DAY + 30).record.is_none(),
        "a moment"
    );
    assert!(expired(Reach::Reached, 89 * DAY).record.is_none());
    assert!(
        expired(Reach::Lost(at(0)), 91 * DAY).record.is_none(),
        "that is the other alarm's"
    );
}

#[test]
fn a_fleet_is_spread_and_each_is_told_once() {
    let second = 68 * DAY;
    let facts = facts(Reach::Lost(at(second - 3_600)));
    let first = |jitter| {
        let opened = step(
            Cause::IssuerUnreachable,
            None,
            &facts,
            &[HOOK],
            at(second),
            jitter,
        );
        opened.record.unwrap().not_before.as_second() - second
    };
    assert_eq!((first(0.0), first(0.5), first(1.0)), (0, 30, 60));
    let (record, facts) = opened(second);
    let early = unreached(Some(record.clone()), &facts, second + 29);
    assert!(early.due.is_empty());
    assert_eq!(early.wake, Some(at(second + 30)));
    let due = unreached(Some(record), &facts, second + 30).due;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].number, due[0].resolved), (1, false));
}

#[test]
fn it_is_repeated_at_a_rising_pace() {
    let (mut record, facts) = opened(68 * DAY);
    let mut now = 68 * DAY + 30;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let step = unreached(Some(record.clone()), &facts, now);
        let due = step
            .due
            .first()
            .unwrap_or_else(|| panic!("{step:?}"))
            .clone();
        answered(&mut record, &due, None, &facts, at(now), 0.5);
        let next = unreached(Some(record.clone()), &facts, now);
        assert!(next.due.is_empty());
        let wake = next.wake.unwrap().as_second();
        pauses.push(wake - now);
        now = wake;
    }
    assert_eq!(pauses, [14_400, 7_200, 3_600, 1_800, 900, 900, 900, 900]);
}

#[test]
fn short_lives_hurry_and_nobody_is_told_all_the_time() {
    let pause = |left: i64, whole: i64| {
        let facts = Facts {
            reach: Reach::Lost(at(0)),
            lives: vec![(at(0), at(whole))],
        };
        interval(1, &facts, at(whole - left)).as_secs_f64()
    };
    assert!(
        (pause(40, 180) - 9.0).abs() < 0.01,
        "a twentieth of the whole"
    );
    assert!((pause(600, 90 * DAY) - 60.0).abs() < 0.01);
    assert!(
        (pause(36_000, 90 * DAY) - 3_600.0).abs() < 0.01,
        "a tenth of what is left"
    );
    assert!(
        (pause(-60, 90 * DAY) - 14_400.0).abs() < 0.01,
        "over: by what it had"
    );
    assert!((pause(-60, 180) - 18.0).abs() < 0.01);
}

#[test]
fn an_alertmanager_is_told_again_before_it_forgets() {
    let (mut record, facts) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    for receiver in ["am", "hook"] {
        let due = Due {
            notifier: receiver.into(),
            resolved: false,
            number: 1,
        };
        answered(&mut record, &due, None, &facts, at(now), 0.5);
    }
    let cause = Cause::IssuerUnreachable;
    let next = step(cause, Some(record), &facts, &[AM, HOOK], at(now + 60), 0.5);
    let names: Vec<&str> = next.due.iter().map(|due| due.notifier.as_str()).collect();
    assert_eq!(names, ["am"]);
}

#[test]
fn who_refuses_is_asked_again_and_holds_up_nobody() {
    let (mut record, facts) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let due = unreached(Some(record.clone()), &facts, now).due[0].clone();
    for (failures, pause) in [(1, 15), (2, 30), (3, 60), (9, 300)] {
        while record.sent.get("hook").map_or(0, |sent| sent.failures) < failures {
            let why = Some(("no".to_owned(), None));
            answered(&mut record, &due, why, &facts, at(now), 1.0);
        }
        assert_eq!(
            record.sent["hook"].again,
            Some(at(now + pause)),
            "{failures}"
        );
    }
    let why = Some(("429".to_owned(), Some(Duration::from_secs(3_000))));
    answered(&mut record, &due, why, &facts, at(now), 1.0);
    assert_eq!(
        record.sent["hook"].again,
        Some(at(now + 300)),
        "a service may wish for less than an alarm waits by itself, no more"
    );
    assert_eq!(record.sent["hook"].problem, "429");
    let cause = Cause::IssuerUnreachable;
    let next = step(cause, Some(record), &facts, &[AM, HOOK], at(now), 0.5);
    let names: Vec<&str> = next.due.iter().map(|due| due.notifier.as_str()).collect();
    assert_eq!(names, ["am"]);
}

#[test]
fn it_is_resolved_to_those_that_heard_of_it() {
    let (mut record, lost) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let cause = Cause::IssuerUnreachable;
    let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
    answered(&mut record, &due, None, &lost, at(now), 0.5);
    let reached = facts(Reach::Reached);
    let over = step(
        cause,
        Some(record),
        &reached,
        &[AM, HOOK],
        at(now + 100),
        0.5,
    );
    assert!(over.due.is_empty(), "that is spread too");
    let over = step(
        cause,
        over.record,
        &reached,
        &[AM, HOOK],
        at(now + 130),
        0.5,
    );
    assert_eq!(over.due.len(), 1);
    assert!(over.due[0].resolved && over.due[0].notifier == "hook");
    let mut record = over.record.unwrap();
    let refused = Some(("no".to_owned(), None));
    answered(
        &mut record,
        &over.due[0],
        refused,
        &reached,
        at(now + 131),
        0.0,
    );
    let later = step(
        cause,
        Some(record.clone()),
        &reached,
        &[HOOK],
        at(now + 200),
        0.5,
    );
    assert_eq!(later.due.len(), 1, "until it is accepted");
    answered(
        &mut record,
        &later.due[0],
        None,
        &reached,
        at(now + 200),
        0.0,
    );
    let done = step(
        cause,
        Some(record.clone()),
        &reached,
        &[HOOK],
        at(now + 201),
        0.5,
    );
    assert_eq!(done, Step::default());
    // Somebody who takes nothing doesn't keep it open for ever.
    record.sent.get_mut("hook").unwrap().resolved = false;
    let late = step(cause, Some(record), &reached, &[HOOK], at(now + 4_000), 0.5);
    assert_eq!(late, Step::default());
}

#[test]
fn a_restart_of_the_agent_repeats_nothing() {
    let (mut record, lost) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
    answered(&mut record, &due, None, &lost, at(now), 0.5);
    let kept: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
    // Nothing is known of the issuer yet …
    let started = unreached(Some(kept), &facts(Reach::Unknown), now + 10);
    assert!(started.due.is_empty());
    // … and then it is lost since a moment ago: the alarm is the same one, and no repetition is due.
    let lost = facts(Reach::Lost(at(now + 11)));
    let on = unreached(started.record, &lost, now + 12);
    assert!(on.due.is_empty());
    assert_eq!(on.record.unwrap().opened, record.opened);
}

#[test]
fn an_issuer_that_comes_and_goes_is_one_alarm() {
    let (mut record, lost) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
    answered(&mut record, &due, None, &lost, at(now), 0.5);
    let back = unreached(Some(record), &facts(Reach::Reached), now + 1);
    let gone = unreached(back.record, &facts(Reach::Lost(at(now + 5))), now + 6);
    assert!(gone.due.is_empty());
    let record = gone.record.unwrap();
    assert_eq!((record.over, record.sent["hook"].accepted), (None, 1));
}

/// The alarm of day 68, accepted once by the hook, and over since a minute later.
fn told_and_over() -> (Record, Facts) {
    let (mut record, lost) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
    answered(&mut record, &due, None, &lost, at(now), 0.5);
    let over = unreached(Some(record), &facts(Reach::Reached), now + 60);
    (over.record.unwrap(), lost)
}

#[test]
fn who_heard_that_it_is_over_hears_that_it_stands_again_once_that_has_settled() {
    // Somebody else wasn't told yet, so that it is the same alarm.
    let (mut record, lost) = told_and_over();
    let now = 68 * DAY + 200;
    let over = Due {
        notifier: "hook".into(),
        resolved: true,
        number: 2,
    };
    answered(
        &mut record,
        &over,
        None,
        &facts(Reach::Reached),
        at(now),
        0.5,
    );
    let moment = unreached(
        Some(record.clone()),
        &facts(Reach::Lost(at(now + 5))),
        now + 10,
    );
    assert!(moment.due.is_empty(), "an issuer that is restarted");
    assert_eq!(moment.wake, Some(at(now + 5 + 300)));
    let again = unreached(Some(record.clone()), &lost, now + 10);
    assert_eq!(again.due.len(), 1, "{again:?}");
    assert_eq!((again.due[0].resolved, again.due[0].number), (false, 2));
    let mut record = again.record.unwrap();
    answered(&mut record, &again.due[0], None, &lost, at(now + 10), 0.5);
    let once = unreached(Some(record.clone()), &lost, now + 11);
    assert!(once.due.is_empty(), "{once:?}");
    let over = unreached(Some(record), &facts(Reach::Reached), now + 300);
    let over = unreached(over.record, &facts(Reach::Reached), now + 400);
    assert!(over.due[0].resolved, "and that it is over once more");
}

#[test]
fn what_is_on_its_way_when_it_ends_is_told_to_be_over_too() {
    let (record, lost) = opened(68 * DAY);
    let now = 68 * DAY + 30;
    let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
    let busy = Receiver {
        is_busy: true,
        ..HOOK
    };
    let cause = Cause::IssuerUnreachable;
    let reached = facts(Reach::Reached);
    let ended = step(cause, Some(record), &reached, &[busy], at(now + 1), 0.0);
    assert!(ended.due.is_empty());
    let kept = ended.record.unwrap();
    let mut accepted = kept.clone();
    answered(&mut accepted, &due, None, &reached, at(now + 2), 0.0);
    let next = unreached(Some(accepted), &reached, now + 2);
    assert!(next.due[0].resolved, "{next:?}");
    let mut refused = kept;
    let why = Some(("no".to_owned(), None));
    answered(&mut refused, &due, why, &reached, at(now + 2), 0.0);
    let next = unreached(Some(refused), &reached, now + 2);
    assert_eq!(next, Step::default(), "who never heard of it");
}

#[test]
fn nobody_waits_for_what_was_written_by_a_clock_that_was_ahead() {
    let ahead = 6 * 3_600;
    let (told, lost) = {
        let (mut record, lost) = opened(68 * DAY + ahead);
        let now = 68 * DAY + ahead + 30;
        let due = unreached(Some(record.clone()), &lost, now).due[0].clone();
        answered(&mut record, &due, None, &lost, at(now), 0.5);
        (record, lost)
    };
    let lost = Facts {
        reach: Reach::Lost(at(68 * DAY - 3_600)),
        ..lost
    };
    let next = unreached(Some(told.clone()), &lost, 68 * DAY).wake;
    assert_eq!(next, Some(at(68 * DAY + 4 * 3_600)), "as if told just now");
    // The same of one that refused, and of one that nobody was told of yet.
    let mut refused = told;
    let due = Due {
        notifier: "hook".into(),
        resolved: false,
        number: 1,
    };
    refused.sent.clear();
    let why = Some(("no".to_owned(), None));
    answered(&mut refused, &due, why, &lost, at(68 * DAY + ahead), 0.5);
    let next = unreached(Some(refused), &lost, 68 * DAY).wake.unwrap();
    assert!(next <= at(68 * DAY + 300), "{next}");
    let (fresh, _) = opened(68 * DAY + ahead);
    let next = unreached(Some(fresh), &lost, 68 * DAY).wake.unwrap();
    assert!(next <= at(68 * DAY + 60), "{next}");
}

proptest! {
    /// However often it is asked, and whatever became of earlier messages.
    #[test]
    fn nobody_is_told_oftener_than_the_spacing(
        left in 0_i64..30 * DAY,
        asked in proptest::collection::vec((1_i64..4_000, any::<bool>()), 1..40),
        jitter in 0.0..=1.0_f64,
    ) {
        let begin = 90 * DAY - left.min(22 * DAY);
        let facts = facts(Reach::Lost(at(0)));
        let mut now = begin;
        let mut record = None;
        let mut last: Option<i64> = None;
        for (pause, accepted) in asked {
            let made = step(Cause::IssuerUnreachable, record, &facts, &[HOOK], at(now), jitter);
            record = made.record;
            for due in &made.due {
                if let Some(last) = last {
                    prop_assert!(now - last >= 60, "{} s", now - last);
                }
                let refused = (!accepted).then(|| ("no".to_owned(), None));
                if accepted {
                    last = Some(now);
                }
                answered(record.as_mut().unwrap(), due, refused, &facts, at(now), jitter);
            }
            now += pause;
        }
    }
}
