//! Tables of what is raised and told, and what holds for any course of things.

mod back;
mod messages;
mod silences;

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{
    config::Alerts,
    plan::alert::{Alert, Class, Key, Member, Severity},
    store::{AlertRecord, DeliveryRecord, SilenceRecord},
};

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn on(hosts: &[&str]) -> Vec<Member> {
    let member = |host: &&str| Member {
        host: Some(host.parse().unwrap()),
        address: None,
        certificate: Some("media.example".parse().unwrap()),
        text: "refused".into(),
        served: "generation 6".into(),
        served_not_after: None,
    };
    hosts.iter().map(member).collect()
}

fn found(class: Class, severity: Severity, hosts: &[&str]) -> Alert {
    Alert {
        key: Key {
            class,
            subject: "media.example".into(),
        },
        severity,
        members: on(hosts),
        title: "one line".into(),
        cause: "why".into(),
        next: "next".into(),
        command: "certwell explain media.example".into(),
        since: None,
        ends: None,
    }
}

fn warning(hosts: &[&str]) -> Alert {
    found(Class::InstallFailing, Severity::Warning, hosts)
}

/// What the task does, without its store: ids are given, changes taken over.
#[derive(Default)]
struct Course {
    known: Vec<AlertRecord>,
    standing: Standing,
    silences: Vec<SilenceRecord>,
    deliveries: BTreeMap<(u64, String), DeliveryRecord>,
    released: Option<Timestamp>,
    trial: bool,
    settings: Alerts,
}

impl Course {
    fn evaluate(&mut self, found: &[Alert], whole: bool, second: i64) -> Vec<Kind> {
        let changes = reconcile(
            found.to_vec(),
            &self.known,
            &mut self.standing,
            &self.settings,
            whole,
            at(second),
        );
        let mut kinds = Vec::new();
        for mut change in changes {
            kinds.push(change.kind);
            if change.alert.id == 0 {
                change.alert.id = self.known.len() as u64 + 1;
                self.known.push(change.alert);
            } else {
                let id = change.alert.id;
                let place = self.known.iter().position(|known| known.id == id).unwrap();
                self.known[place] = change.alert;
            }
        }
        kinds
    }

    fn due(&self, notifier: &str, place: usize, second: i64) -> Option<Due> {
        let alert = self.known.last()?;
        let delivery = self.deliveries.get(&(alert.id, notifier.to_owned()));
        let told = Told {
            place,
            resend: (notifier == "alertmanager").then_some(Duration::from_secs(60)),
            delivery,
            tried: None,
            released: self.released,
            trial: self.trial,
        };
        due(alert, &told, &self.silences, &self.settings, at(second))
    }

    /// Seconds until something is due; negative when it is late.
    fn next(&self, notifier: &str, place: usize, second: i64) -> Option<i64> {
        let due = self.due(notifier, place, second)?;
        Some(due.at.duration_since(at(second)).as_secs())
    }

    fn accept(&mut self, notifier: &str, say: Say, second: i64) {
        let alert = self.known.last().unwrap();
        let key = (alert.id, notifier.to_owned());
        let before = self.deliveries.get(&key);
        let record = accepted(alert, notifier, before, say, &self.silences, at(second));
        self.deliveries.insert(key, record);
    }

    /// Tells one notifier all that is due, looking every second; returns when.
    fn tell(&mut self, notifier: &str, place: usize, seconds: std::ops::Range<i64>) -> Vec<i64> {
        let mut times = Vec::new();
        for second in seconds {
            let due = self.due(notifier, place, second);
            if let Some(due) = due.filter(|due| due.at <= at(second)) {
                self.accept(notifier, due.say, second);
                times.push(second);
            }
        }
        times
    }

    fn acknowledge(&mut self, for_seconds: i64, second: i64) {
        let until = at(second + for_seconds);
        let alert = self.known.last_mut().unwrap();
        *alert = acknowledge(alert, "root".into(), String::new(), until, at(second));
    }
}

fn silence(host: Option<&str>, class: Option<Class>, until: i64) -> SilenceRecord {
    SilenceRecord {
        id: 1,
        host: host.map(|host| host.parse().unwrap()),
        certificate: None,
        class,
        since: at(0),
        until: at(until),
        by: "root".into(),
        note: String::new(),
    }
}

#[test]
fn a_cause_is_raised_when_it_has_stood_for_a_while_and_an_expiry_that_pages_at_once() {
    let mut course = Course::default();
    let cause = [warning(&["sally"])];
    assert_eq!(course.evaluate(&cause, true, 0), []);
    assert_eq!(course.evaluate(&[], true, 30), [], "it was a moment's");
    assert_eq!(course.evaluate(&cause, true, 60), []);
    assert_eq!(course.evaluate(&cause, true, 119), []);
    assert_eq!(course.evaluate(&cause, true, 120), [Kind::Raised]);
    assert_eq!(course.known[0].last.since, Some(at(60)));
    let page = [found(Class::Expiry, Severity::Page, &["sally"])];
    assert_eq!(Course::default().evaluate(&page, true, 0), [Kind::Raised]);
    // However long the facts say that it has been so: other hosts may follow.
    let old = [Alert {
        since: Some(at(-600)),
        ..warning(&["sally"])
    }];
    let mut course = Course::default();
    assert_eq!(course.evaluate(&old, true, 0), []);
    assert_eq!(course.evaluate(&old, true, 60), [Kind::Raised]);
    assert_eq!(course.known[0].last.since, Some(at(-600)));
    // With three minutes to live nobody waits for one.
    let short = [Alert {
        ends: Some(at(100)),
        ..warning(&["sally"])
    }];
    let mut course = Course::default();
    course.evaluate(&short, true, 0);
    assert_eq!(course.evaluate(&short, true, 10), [Kind::Raised]);
}

#[test]
fn an_alert_is_over_when_its_cause_has_been_gone_for_a_while_and_not_before_all_was_looked_at() {
    let mut course = Course::default();
    let cause = [warning(&["sally"])];
    course.evaluate(&cause, true, 0);
    course.evaluate(&cause, true, 60);
    assert_eq!(course.evaluate(&[], false, 100), []);
    assert_eq!(course.evaluate(&[], false, 500), []);
    assert_eq!(course.evaluate(&[], true, 501), []);
    assert_eq!(course.evaluate(&cause, true, 530), []);
    assert_eq!(course.evaluate(&[], true, 540), []);
    assert_eq!(course.evaluate(&[], true, 599), []);
    assert_eq!(course.evaluate(&[], true, 600), [Kind::Resolved]);
    assert_eq!(course.evaluate(&[], true, 700), []);
}

#[test]
fn a_cause_that_comes_and_goes_is_one_alert_and_fewer_and_fewer_messages() {
    let mut course = Course::default();
    let mut told = Vec::new();
    // Five minutes there, five minutes gone, for a day.
    for second in (0..DAY).step_by(30) {
        let there = (second / 300) % 2 == 0;
        let cause = if there {
            vec![warning(&["sally"])]
        } else {
            vec![]
        };
        course.evaluate(&cause, true, second);
        if let Some(due) = course.due("discord", 0, second)
            && due.at <= at(second)
        {
            course.accept("discord", due.say, second);
            told.push((second, due.say));
        }
    }
    assert_eq!(course.known.len(), 1, "one alert, one id");
    let over = told.iter().filter(|(_, say)| *say == Say::Resolved).count();
    assert_eq!(over, 3, "{told:?}");
    let early = told.iter().filter(|(second, _)| *second < 3_600).count();
    assert!(early <= 8, "{told:?}");
}

#[test]
fn repetitions_come_faster_and_faster_down_to_the_shortest_pause() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    let times = course.tell("discord", 0, 0..DAY);
    let hours: Vec<i64> = times.iter().map(|second| second / 900).take(9).collect();
    // In quarters of an hour: 4 h, 2 h, 1 h, 30 min, then 15 min for ever.
    assert_eq!(hours, [0, 16, 24, 28, 30, 31, 32, 33, 34]);
}

#[test]
fn the_nearer_the_end_the_more_often_but_what_has_expired_is_no_storm() {
    let mut course = Course::default();
    let page = Alert {
        ends: Some(at(3_600)),
        ..found(Class::Expiry, Severity::Page, &["sally"])
    };
    course.evaluate(&[page], true, 0);
    let times = course.tell("discord", 0, 0..3_600);
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((320..=361).contains(&pauses[0]), "{pauses:?}");
    assert!(
        pauses.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{pauses:?}"
    );
    assert!(pauses.iter().all(|pause| *pause >= 9), "{pauses:?}");
    assert!(times.len() < 60, "{}", times.len());
    let after = course.tell("discord", 0, 3_600..7_200);
    assert!((3..=5).contains(&after.len()), "{after:?}");
}

#[test]
fn the_next_notifier_is_told_when_nobody_acknowledged_and_the_first_goes_on() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    assert_eq!(course.next("discord", 0, 0), Some(0));
    assert_eq!(course.next("mail", 1, 0), Some(900));
    assert_eq!(course.next("pager", 2, 0), Some(1_800));
    course.accept("discord", Say::Firing, 0);
    assert_eq!(course.next("discord", 0, 0), Some(4 * 3_600));
    course.acknowledge(3_600, 100);
    // Nobody, until the acknowledgement ends; then one after the other, and those who know first.
    assert_eq!(course.next("discord", 0, 100), Some(3_600));
    assert_eq!(course.next("mail", 1, 100), Some(3_600));
    assert_eq!(course.next("mail", 1, 3_700), Some(900));
}

#[test]
fn an_acknowledgement_made_for_less_ends() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    course.accept("discord", Say::Firing, 0);
    course.acknowledge(DAY, 10);
    assert_eq!(course.next("discord", 0, 20), Some(DAY - 10));
    // Other words, fewer hosts: it holds.
    let mut reworded = warning(&["sally"]);
    reworded.title = "another".into();
    assert_eq!(course.evaluate(&[reworded], true, 25), [Kind::Reworded]);
    assert!(acknowledgement(&course.known[0], at(26)).is_some());
    // One more host: told within a settle, and the others a while after.
    let wider = warning(&["esme", "sally"]);
    assert_eq!(course.evaluate(&[wider], true, 30), [Kind::Changed]);
    assert!(acknowledgement(&course.known[0], at(30)).is_none());
    assert_eq!(course.next("discord", 0, 30), Some(30));
    assert_eq!(course.next("mail", 1, 30), Some(900));
    course.accept("discord", Say::Firing, 60);
    course.acknowledge(DAY, 70);
    // It presses more: at once.
    let mut page = warning(&["esme", "sally"]);
    page.severity = Severity::Page;
    assert_eq!(course.evaluate(&[page], true, 80), [Kind::Changed]);
    assert!(course.next("discord", 0, 80).unwrap() <= 0);
}

#[test]
fn a_silence_holds_back_what_it_matches_and_never_an_expiry_that_pages() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["esme", "sally"])], true, -60);
    course.evaluate(&[warning(&["esme", "sally"])], true, 0);
    course.silences = vec![silence(Some("sally"), None, 7_200)];
    assert_eq!(course.next("discord", 0, 0), Some(0), "esme isn't silenced");
    course.silences.push(silence(Some("esme"), None, 3_600));
    assert_eq!(course.next("discord", 0, 0), Some(3_600));
    let last = &course.known[0].last;
    assert_eq!(
        silenced_until(last, &course.silences, at(0)),
        Some(at(3_600))
    );
    // A host that was silenced when the message went is news when its silence ends.
    course.silences.pop();
    course.accept("discord", Say::Firing, 0);
    assert_eq!(course.next("discord", 0, 7_199), Some(4 * 3_600 - 7_199));
    assert!(course.next("discord", 0, 7_200).unwrap() <= 0);

    course.silences = vec![silence(None, Some(Class::Expiry), DAY)];
    for (severity, held) in [(Severity::Warning, Some(at(DAY))), (Severity::Page, None)] {
        let alert = found(Class::Expiry, severity, &["sally"]);
        assert_eq!(silenced_until(&alert, &course.silences, at(0)), held);
    }
}

#[test]
fn who_was_told_is_told_that_it_is_over_once_and_nobody_else() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    course.accept("discord", Say::Firing, 0);
    course.acknowledge(DAY, 5);
    course.silences = vec![silence(Some("sally"), None, DAY)];
    course.evaluate(&[], true, 10);
    assert_eq!(course.evaluate(&[], true, 70), [Kind::Resolved]);
    let due = course.due("discord", 0, 70).unwrap();
    assert_eq!((due.say, due.at), (Say::Resolved, at(70)));
    assert_eq!(course.due("mail", 1, 5_000), None, "mail never heard of it");
    course.accept("discord", Say::Resolved, 71);
    assert_eq!(course.due("discord", 0, 72), None);
}

#[test]
fn what_forgets_is_told_again_at_its_own_pace_and_acknowledged_or_not() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    course.accept("alertmanager", Say::Firing, 0);
    assert_eq!(course.next("alertmanager", 0, 0), Some(60));
    course.acknowledge(DAY, 5);
    assert_eq!(course.next("alertmanager", 0, 5), Some(55));
}

#[test]
fn a_refusal_is_followed_by_longer_and_longer_pauses() {
    let mut course = Course::default();
    course.evaluate(&[warning(&["sally"])], true, -60);
    course.evaluate(&[warning(&["sally"])], true, 0);
    let alert = &course.known[0];
    let settings = Alerts::default();
    let mut pauses = Vec::new();
    let mut tried: Option<Tried> = None;
    for _ in 0..9 {
        let next = after_refusal(alert, tried.as_ref(), "500".into(), &settings, at(0), 1.0);
        pauses.push(next.not_before.duration_since(at(0)).as_secs());
        tried = Some(next);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    let told = Told {
        place: 0,
        resend: None,
        delivery: None,
        tried: tried.as_ref(),
        released: None,
        trial: false,
    };
    let due = due(alert, &told, &[], &settings, at(0)).unwrap();
    assert_eq!(due.at, at(300));
}

#[test]
fn a_drill_is_over_when_somebody_acknowledges_it_or_after_a_day() {
    let drill = AlertRecord {
        id: 1,
        last: found(Class::Drill, Severity::Page, &[]),
        opened: at(0),
        escalates: at(0),
        rounds: 1,
        resolved: None,
        acknowledged: None,
    };
    let mut course = Course {
        known: vec![drill],
        ..Course::default()
    };
    assert_eq!(course.evaluate(&[], true, DAY - 1), []);
    let mut late = Course {
        known: course.known.clone(),
        ..Course::default()
    };
    assert_eq!(late.evaluate(&[], true, DAY), [Kind::Resolved]);
    course.acknowledge(3_600, 60);
    assert_eq!(course.known[0].resolved, Some(at(60)));
}

#[test]
fn a_notifier_that_accepts_nothing_for_long_is_an_alert_until_it_accepts_something() {
    let settings = Alerts::default();
    let refusing = |refusals, since| Health {
        accepts: false,
        refusing_since: Some(at(since)),
        refusals,
        problem: "500".into(),
    };
    let of = |health: Health, open: &[AlertRecord], now| {
        let notifiers = BTreeMap::from([("discord".to_owned(), health)]);
        failing(&notifiers, open, &settings, at(now))
    };
    assert_eq!(of(refusing(2, 0), &[], 600), []);
    assert_eq!(of(refusing(9, 0), &[], 59), []);
    let raised = of(refusing(3, 0), &[], 60);
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].command, "certwell alerts test discord");
    let open = [AlertRecord {
        id: 1,
        last: raised[0].clone(),
        opened: at(60),
        escalates: at(60),
        rounds: 1,
        resolved: None,
        acknowledged: None,
    }];
    // A restart proves nothing, nor does a first refusal after it.
    assert_eq!(of(Health::default(), &open, 90).len(), 1);
    assert_eq!(of(refusing(1, 90), &open, 91).len(), 1);
    let well = Health {
        accepts: true,
        ..Health::default()
    };
    assert_eq!(of(well, &open, 100), []);
}

/// Anything that may happen within a minute.
#[derive(Debug, Clone)]
enum Step {
    Found(u8, bool),
    Silence(u8),
    Acknowledge,
    Refuse,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..16, any::<bool>()).prop_map(|(hosts, page)| Step::Found(hosts, page)),
        1 => (0_u8..4).prop_map(Step::Silence),
        1 => Just(Step::Acknowledge),
        1 => Just(Step::Refuse),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// However things go: an expiry that pages is told within the next evaluation unless it was acknowledged at that
    /// severity and for those hosts, or was told within the shortest pause or the settle.
    #[test]
    fn an_expiry_that_pages_is_never_kept_from_the_first_notifier(steps in proptest::collection::vec(step(), 1..60)) {
        let hosts = ["a", "b", "c", "d"];
        let mut course = Course::default();
        let mut refusing = false;
        for (minute, step) in steps.into_iter().enumerate() {
            let second = 60 * minute as i64;
            match step {
                Step::Silence(host) => course.silences.push(silence(Some(hosts[usize::from(host)]), None, second + 1_200)),
                Step::Acknowledge if !course.known.is_empty() => course.acknowledge(1_200, second),
                Step::Refuse => refusing = true,
                Step::Restart => course.standing = Standing::default(),
                _ => refusing = false,
            }
            let cause = match step {
                Step::Found(set, page) if set > 0 => {
                    let members: Vec<&str> = hosts.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0).map(|(_, host)| *host).collect();
                    let severity = if page { Severity::Page } else { Severity::Warning };
                    vec![found(Class::Expiry, severity, &members)]
                }
                _ => vec![],
            };
            course.evaluate(&cause, true, second);
            let Some(open) = course.known.iter().position(|alert| alert.resolved.is_none()) else { continue };
            prop_assert_eq!(course.known.iter().filter(|alert| alert.resolved.is_none()).count(), 1);
            // `due` looks at the last.
            let last = course.known.len() - 1;
            course.known.swap(open, last);
            let alert = course.known[last].clone();
            let due = course.due("discord", 0, second);
            prop_assert!(due.is_some());
            let due = due.unwrap();
            let quiet = acknowledgement(&alert, at(second)).is_some();
            let told = course.deliveries.get(&(alert.id, "discord".to_owned())).cloned();
            let page = alert.last.severity == Severity::Page;
            if page && !quiet {
                let knows = told.as_ref().is_some_and(|told| {
                    !told.over && told.severity == Severity::Page && alert.last.members.iter().all(|member| told.members.contains(&member.label()))
                });
                prop_assert!(knows || due.at <= at(second) + SignedDuration::from_secs(60), "{:?} {:?}", alert, due);
            }
            if due.at <= at(second) && !refusing {
                course.accept("discord", due.say, second);
            }
            course.known.swap(open, last);
        }
    }
}
