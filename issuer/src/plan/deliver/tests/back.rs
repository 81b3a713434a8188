//! What comes back, what lasts, and what is kept of either.

use super::*;

/// Raised at 0, told to Discord.
fn told(settings: Alerts) -> Course {
    let mut course = Course {
        settings,
        ..Course::default()
    };
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    course.accept("discord", Say::Firing, 0);
    course
}

fn is_raised(course: &mut Course, found: &[Alert], second: i64) {
    course.evaluate(found, true, second - 60);
    assert_eq!(course.evaluate(found, true, second), [Kind::Raised]);
}

#[test]
fn what_comes_back_is_told_at_once_and_to_one_notifier_after_the_other() {
    for end_was_told in [true, false] {
        let mut course = told(Alerts::default());
        course.evaluate(&[], true, 10);
        assert_eq!(course.evaluate(&[], true, 70), [Kind::Resolved]);
        if end_was_told {
            course.accept("discord", Say::Resolved, 71);
        }
        is_raised(&mut course, &[warning(&["sally"])], 200);
        assert_eq!(course.known.len(), 1);
        assert_eq!(course.known[0].opened, at(0), "it is the same alert");
        let due = course.due("discord", 0, 200).unwrap();
        assert!(
            due.say == Say::Firing && due.at <= at(200),
            "{end_was_told} {due:?}"
        );
        assert_eq!(course.next("mail", 1, 200), Some(900));
    }
}

#[test]
fn an_acknowledgement_outlasts_a_moment_of_rest() {
    let mut course = told(Alerts::default());
    course.acknowledge(DAY, 5);
    course.evaluate(&[], true, 10);
    assert_eq!(course.evaluate(&[], true, 70), [Kind::Resolved]);
    course.accept("discord", Say::Resolved, 71);
    is_raised(&mut course, &[warning(&["sally"])], 200);
    // Whoever heard that it is over hears once that it isn't; the others don't.
    assert_eq!(course.next("mail", 1, 200), Some(DAY - 195));
    assert_eq!(course.tell("discord", 0, 200..3_600), [200]);
    assert_eq!(course.next("discord", 0, 200), Some(DAY - 195));
    // After ten times `settle` it is another alert, and nobody knows of it.
    course.evaluate(&[], true, 210);
    assert_eq!(course.evaluate(&[], true, 330), [Kind::Resolved]);
    is_raised(&mut course, &[warning(&["sally"])], 930);
    assert_eq!(course.known.len(), 2);
    assert_eq!(course.next("discord", 0, 930), Some(0));
}

#[test]
fn what_has_expired_is_raised_and_resolved_no_faster_than_what_lives() {
    let expired = Alert {
        ends: Some(at(-DAY)),
        ..warning(&["sally"])
    };
    let mut course = Course::default();
    assert_eq!(course.evaluate(std::slice::from_ref(&expired), true, 0), []);
    assert_eq!(
        course.evaluate(std::slice::from_ref(&expired), true, 59),
        []
    );
    let raised = course.evaluate(std::slice::from_ref(&expired), true, 60);
    assert_eq!(raised, [Kind::Raised]);
    // Away for a moment in the middle of an incident.
    assert_eq!(course.evaluate(&[], true, 100), []);
    assert_eq!(course.evaluate(&[], true, 159), []);
    assert_eq!(course.evaluate(&[expired], true, 159), []);
    assert_eq!(course.evaluate(&[], true, 200), []);
    assert_eq!(course.evaluate(&[], true, 260), [Kind::Resolved]);
}

#[test]
fn an_absence_counts_after_a_tenth_of_what_life_is_left_and_after_an_hour_at_most() {
    let short = Alert {
        ends: Some(at(310)),
        ..warning(&["sally"])
    };
    let mut course = Course::default();
    course.evaluate(std::slice::from_ref(&short), true, -60);
    course.evaluate(&[short], true, 0);
    assert_eq!(course.evaluate(&[], true, 10), []);
    assert_eq!(course.evaluate(&[], true, 35), []);
    assert_eq!(course.evaluate(&[], true, 40), [Kind::Resolved]);
    // Twice as long each time would be more than an hour by now.
    let mut course = told(Alerts::default());
    course.known[0].rounds = 9;
    course.evaluate(&[], true, 10);
    assert_eq!(course.evaluate(&[], true, 3_609), []);
    assert_eq!(course.evaluate(&[], true, 3_610), [Kind::Resolved]);
}

#[test]
fn its_beginning_is_the_earliest_that_is_known_and_another_end_is_stored() {
    let mut course = told(Alerts::default());
    let began = course.known[0].last.since;
    assert_eq!(began, Some(at(-60)));
    let later = Alert {
        since: Some(at(20)),
        ..warning(&["sally"])
    };
    course.evaluate(&[later], true, 30);
    assert_eq!(course.known[0].last.since, began);
    let earlier = Alert {
        since: Some(at(-600)),
        ..warning(&["sally"])
    };
    course.evaluate(&[earlier], true, 60);
    assert_eq!(course.known[0].last.since, Some(at(-600)));
    let ending = Alert {
        ends: Some(at(DAY)),
        ..warning(&["sally"])
    };
    assert_eq!(course.evaluate(&[ending], true, 90), [Kind::Changed]);
}

#[test]
fn the_end_is_tried_for_a_day() {
    let mut course = told(Alerts::default());
    course.evaluate(&[], true, 10);
    assert_eq!(course.evaluate(&[], true, 70), [Kind::Resolved]);
    let end = course.due("discord", 0, 70 + DAY - 1).unwrap();
    assert_eq!(end.say, Say::Resolved);
    assert_eq!(course.due("discord", 0, 70 + DAY), None);
}

#[test]
fn a_host_that_was_told_of_before_is_no_news() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["esme", "sally"])], true, -60);
    course.evaluate(&[warning(&["esme", "sally"])], true, 0);
    course.accept("discord", Say::Firing, 0);
    course.evaluate(&[warning(&["esme"])], true, 100);
    course.accept("discord", Say::Firing, 4 * 3_600);
    course.evaluate(&[warning(&["esme", "sally"])], true, 4 * 3_600 + 30);
    assert_eq!(course.next("discord", 0, 4 * 3_600), Some(2 * 3_600));
}

#[test]
fn what_ends_soon_goes_to_the_next_notifier_sooner_and_what_is_over_is_told_at_the_shortest_pause()
{
    let mut course = Course::default();
    let page = Alert {
        ends: Some(at(600)),
        ..found(Class::Expiry, Severity::Page, &["sally"])
    };
    course.evaluate(&[page], true, 0);
    assert_eq!(course.next("mail", 1, 0), Some(60));
    // However little it was told before.
    course.accept("discord", Say::Firing, 700);
    assert_eq!(course.next("discord", 0, 700), Some(900));
}

#[test]
fn a_receiver_is_left_alone_for_five_minutes_at_most_and_pauses_end_before_an_end_comes() {
    let asked = |seconds| left_alone_until(Duration::from_secs(seconds), at(0));
    assert_eq!(asked(60), at(60));
    assert_eq!(asked(3_600), at(300), "somebody has to learn of it");
    let mut course = told(Alerts::default());
    let often = Tried {
        failures: 20,
        not_before: at(0),
        problem: "no".into(),
    };
    course.known[0].last.ends = Some(at(100));
    let settings = Alerts::default();
    let alert = &course.known[0];
    let next = after_refusal(alert, Some(&often), "no".into(), &settings, at(0), 1.0);
    assert_eq!(next.not_before, at(10));
}

#[test]
fn an_expiry_is_heard_of_again_when_half_of_what_was_left_is_over() {
    for (class, held) in [
        (Class::Expiry, 3_600),
        (Class::UnmanagedExpiring, 3_600),
        (Class::InstallFailing, DAY),
    ] {
        let mut course = Course::default();
        let page = Alert {
            ends: Some(at(7_200)),
            ..found(class, Severity::Page, &["sally"])
        };
        course.evaluate(std::slice::from_ref(&page), true, -60);
        course.evaluate(&[page], true, 0);
        course.accept("discord", Say::Firing, 0);
        course.acknowledge(DAY, 0);
        assert_eq!(course.next("discord", 0, 1), Some(held - 1), "{class}");
        // What is over already has no half left.
        course.acknowledge(DAY, 7_300);
        assert_eq!(course.next("discord", 0, 7_300), Some(DAY), "{class}");
    }
}

#[test]
fn what_is_still_wrong_when_nobody_holds_it_back_any_more_is_told_then() {
    let mut course = told(Alerts::default());
    course.acknowledge(600, 10);
    assert_eq!(course.next("discord", 0, 10), Some(600));
    assert_eq!(course.tell("discord", 0, 10..2_000), [610]);
    let mut course = told(Alerts::default());
    course.silences = vec![silence(Some("sally"), None, 600)];
    assert_eq!(course.next("discord", 0, 10), Some(590));
    course.silences.clear();
    course.released = Some(at(300));
    assert_eq!(course.tell("discord", 0, 300..2_000), [300]);
}

#[test]
fn who_forgets_is_told_again_though_it_is_silenced() {
    let mut course = told(Alerts::default());
    course.accept("alertmanager", Say::Firing, 0);
    course.silences = vec![silence(Some("sally"), None, 6_000)];
    assert_eq!(course.next("alertmanager", 0, 0), Some(60));
    assert_eq!(course.next("discord", 0, 0), Some(6_000));
}

#[test]
fn a_clock_that_was_ahead_and_is_set_right_silences_nobody() {
    const AHEAD: i64 = 30 * DAY;
    let cause = [warning(&["sally"])];
    let mut course = Course::default();
    course.evaluate(&cause, true, AHEAD - 60);
    course.evaluate(&cause, true, AHEAD);
    course.accept("discord", Say::Firing, AHEAD);
    course.acknowledge(600, AHEAD);
    course.silences = vec![SilenceRecord {
        since: at(AHEAD),
        ..silence(None, None, AHEAD + 600)
    }];
    // What the book does before anything is judged.
    not_after(&mut course.known[0], at(0));
    for delivery in course.deliveries.values_mut() {
        delivery.accepted_at = delivery.accepted_at.min(at(0));
    }
    assert_eq!(
        course.tell("discord", 0, 0..27_500),
        [4 * 3_600, 6 * 3_600, 7 * 3_600, 7 * 3_600 + 1_800]
    );
    assert_eq!(course.tell("mail", 1, 0..1_000), [900]);
    assert_eq!(not_later(at(AHEAD), at(0)), at(300));
    // What was found by that clock, or missed, isn't waited for until then.
    course.evaluate(&[], true, AHEAD + 10);
    course.evaluate(&[], true, 0);
    assert_eq!(course.evaluate(&[], true, 60), [Kind::Resolved]);
    let mut course = Course::default();
    course.evaluate(&cause, true, AHEAD);
    assert_eq!(course.evaluate(&cause, true, 0), []);
    assert_eq!(course.evaluate(&cause, true, 60), [Kind::Raised]);
}

#[test]
fn when_a_silence_ends_one_notifier_is_told_after_the_other() {
    let mut course = Course {
        silences: vec![silence(Some("sally"), None, 6_000)],
        ..Course::default()
    };
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    assert_eq!(course.next("discord", 0, 0), Some(6_000));
    course.silences.clear();
    course.released = Some(at(5_000));
    assert_eq!(course.next("discord", 0, 5_000), Some(0));
    assert_eq!(course.next("mail", 1, 5_000), Some(900));
}

#[test]
fn a_silence_ends_when_it_holds_no_more_and_not_when_there_is_more_than_it_holds() {
    let sally = [silence(Some("sally"), None, 600)];
    let both = warning(&["esme", "sally"]);
    let mut held = Held::default();
    assert!(!held.ends(&warning(&["sally"]), &sally, at(0)));
    assert!(!held.ends(&both, &sally, at(30)), "esme is news of her own");
    assert!(
        !held.ends(&warning(&["sally"]), &sally, at(60)),
        "silenced again"
    );
    assert!(held.ends(&warning(&["sally"]), &sally, at(600)));
    assert!(!held.ends(&warning(&["sally"]), &sally, at(630)), "once");
    // Nor when it presses more.
    let page = found(Class::InstallFailing, Severity::Page, &["sally"]);
    let class = [silence(None, Some(Class::InstallFailing), 600)];
    assert!(!held.ends(&warning(&["sally"]), &class, at(0)));
    assert!(!held.ends(&page, &[], at(30)));
}

#[test]
fn nothing_holds_a_trial_back() {
    let mut course = Course {
        silences: vec![silence(None, None, 6_000)],
        ..Course::default()
    };
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    course.acknowledge(DAY, 0);
    assert_eq!(course.next("discord", 0, 0), Some(DAY));
    course.trial = true;
    assert_eq!(course.next("discord", 0, 0), Some(0));
}
