//! What a notifier is sent, and what people are shown.

use certwell_notice as notice;

use super::*;

/// Open, since 0, on one host.
fn open() -> AlertRecord {
    let mut last = found(Class::Expiry, Severity::Page, &["sally"]);
    last.members[0].served_not_after = Some(at(600));
    AlertRecord {
        id: 7,
        last,
        opened: at(0),
        escalates: at(0),
        rounds: 1,
        resolved: None,
        acknowledged: None,
    }
}

fn sent(alert: &AlertRecord, say: Say, before: Option<&DeliveryRecord>) -> notice::Message {
    message(&"hachyderm".parse().unwrap(), alert, say, before)
}

#[test]
fn a_message_holds_all_that_is_known_and_counts_those_before_it() {
    let alert = open();
    let first = sent(&alert, Say::Firing, None);
    assert_eq!(first.key, "certwell/hachyderm/expiry/media.example");
    assert_eq!(first.state, notice::State::Firing);
    assert_eq!(first.severity, Severity::Page);
    assert_eq!((first.id, first.number), (7, 1));
    assert_eq!(first.section, "expiry");
    assert_eq!(
        first.acknowledge.as_deref(),
        Some("certwell alerts ack 7 --for 4h")
    );
    let member = &first.members[0];
    assert_eq!(member.host.as_deref(), Some("sally"));
    assert_eq!(member.certificate.as_deref(), Some("media.example"));
    assert_eq!(member.served, "generation 6");
    assert_eq!(member.served_not_after, Some(at(600)));
    let before = accepted(&alert, "discord", None, Say::Firing, &[], at(1));
    assert_eq!(sent(&alert, Say::Firing, Some(&before)).number, 2);

    let mut warning = alert.clone();
    warning.last.severity = Severity::Warning;
    let warning = sent(&warning, Say::Firing, None);
    assert_eq!(warning.severity, Severity::Warning);
}

#[test]
fn an_end_asks_for_no_acknowledgement_nor_does_what_no_store_holds_and_a_drill_says_that_it_is_one()
{
    let mut alert = open();
    let over = sent(&alert, Say::Resolved, None);
    assert_eq!(over.state, notice::State::Resolved);
    assert_eq!(over.acknowledge, None);
    alert.id = 0;
    assert_eq!(sent(&alert, Say::Firing, None).acknowledge, None);
    alert.last.key = Key {
        class: Class::Drill,
        subject: String::new(),
    };
    let drill = sent(&alert, Say::Firing, None);
    assert_eq!(drill.state, notice::State::Drill);
    assert_eq!(drill.key, "certwell/hachyderm/drill");
    let over = sent(&alert, Say::Resolved, None);
    assert_eq!(over.state, notice::State::Resolved);
}

#[test]
fn an_acknowledgement_is_shown_while_it_holds_and_of_what_is_over() {
    let alert = acknowledge(&open(), "alice".into(), "mine".into(), at(60), at(10));
    let shown = |alert: &AlertRecord, second| {
        let made = view(alert, Vec::new(), &[], at(second)).acknowledgement;
        made.map(|made| made.by)
    };
    assert_eq!(shown(&alert, 59).as_deref(), Some("alice"));
    assert_eq!(shown(&alert, 60), None);
    let over = AlertRecord {
        resolved: Some(at(40)),
        ..alert
    };
    assert_eq!(shown(&over, 600).as_deref(), Some("alice"));
}

#[test]
fn what_is_open_is_shown_as_silenced_and_stands_before_what_is_over_pages_first() {
    let mut late = open();
    late.last.key.class = Class::HostSilent;
    let silences = [silence(Some("sally"), None, DAY)];
    let until = |alert: &AlertRecord| view(alert, Vec::new(), &silences, at(1)).silenced_until_ms;
    assert_eq!(until(&late), Some(at(DAY).as_millisecond()));
    let over = AlertRecord {
        id: 8,
        resolved: Some(at(1)),
        opened: at(-900),
        ..late.clone()
    };
    assert_eq!(until(&over), None);
    let mut warning = AlertRecord {
        id: 9,
        opened: at(-600),
        ..late.clone()
    };
    warning.last.severity = Severity::Warning;
    let ids: Vec<u64> = sorted(vec![over, warning, late])
        .iter()
        .map(|alert| alert.id)
        .collect();
    assert_eq!(ids, [7, 9, 8]);
}
