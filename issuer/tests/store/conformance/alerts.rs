//! Alerts, what was accepted of them, silences.

use std::collections::BTreeSet;

use certwell_issuer::{
    plan::alert::{Alert, Class, Key, Member, Severity},
    store::{AcknowledgementRecord, AlertRecord, DeliveryRecord, SilenceRecord},
};
use jiff::Timestamp;

use super::super::records::*;
use super::{Any, is_conflict, with_memory, with_sqlite};

behaviours! {
    an_alert_comes_back_as_it_was_put_and_keeps_its_id
    two_alerts_of_one_cause_are_not_open_at_once
    several_alerts_are_put_together_or_not_at_all
    what_was_accepted_replaces_what_was_accepted_before
    a_silence_lasts_until_it_is_ended
    the_last_evaluation_is_remembered
    pruning_takes_what_is_over_and_leaves_what_is_open
}

fn alert(class: Class, subject: &str) -> AlertRecord {
    AlertRecord {
        id: 0,
        last: Alert {
            key: Key {
                class,
                subject: subject.into(),
            },
            severity: Severity::Warning,
            members: vec![
                Member {
                    host: Some(host("sally")),
                    address: None,
                    certificate: Some(name("a.example")),
                    text: "no word for a day".into(),
                    served: "generation 6".into(),
                    served_not_after: Some(Timestamp::from_second(1_790_000_000).unwrap()),
                },
                Member {
                    host: None,
                    address: None,
                    certificate: None,
                    text: String::new(),
                    served: String::new(),
                    served_not_after: None,
                },
            ],
            title: "one line".into(),
            cause: "why".into(),
            next: "what next".into(),
            command: "certwell explain a.example".into(),
            since: Some(minute(1)),
            ends: Some(minute(90)),
        },
        opened: minute(2),
        escalates: minute(3),
        rounds: 1,
        resolved: None,
        acknowledged: None,
    }
}

fn told(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

async fn put(store: &Any, alert: AlertRecord) -> AlertRecord {
    let ids = store
        .put_alerts(std::slice::from_ref(&alert))
        .await
        .unwrap();
    AlertRecord {
        id: ids[0],
        ..alert
    }
}

async fn an_alert_comes_back_as_it_was_put_and_keeps_its_id(store: Any) {
    let first = put(&store, alert(Class::Expiry, "a.example")).await;
    let mut second = put(&store, alert(Class::IssuerDisk, "")).await;
    assert!(0 < first.id && first.id < second.id);
    assert_eq!(
        store.alerts(minute(0)).await.unwrap(),
        [first.clone(), second.clone()]
    );
    second.last.severity = Severity::Page;
    second.last.members.clear();
    second.last.since = None;
    second.last.ends = None;
    second.rounds = 2;
    second.resolved = Some(minute(9));
    second.acknowledged = Some(AcknowledgementRecord {
        at: minute(4),
        until: minute(44),
        by: "root".into(),
        note: "on it".into(),
        severity: Severity::Page,
        members: told(&["sally -", "esme -"]),
    });
    assert_eq!(put(&store, second.clone()).await.id, second.id);
    assert_eq!(
        store.alerts(minute(9)).await.unwrap(),
        [first.clone(), second]
    );
    assert_eq!(store.alerts(minute(10)).await.unwrap(), [first]);
}

async fn two_alerts_of_one_cause_are_not_open_at_once(store: Any) {
    let mut first = put(&store, alert(Class::Expiry, "a.example")).await;
    let again = alert(Class::Expiry, "a.example");
    is_conflict(store.put_alerts(std::slice::from_ref(&again)).await);
    put(&store, alert(Class::Expiry, "b.example")).await;
    first.resolved = Some(minute(5));
    put(&store, first.clone()).await;
    let second = put(&store, again).await;
    assert!(second.id > first.id, "an id was given twice");
}

async fn several_alerts_are_put_together_or_not_at_all(store: Any) {
    put(&store, alert(Class::Expiry, "a.example")).await;
    let both = [
        alert(Class::Expiry, "b.example"),
        alert(Class::Expiry, "a.example"),
    ];
    is_conflict(store.put_alerts(&both).await);
    assert_eq!(store.alerts(minute(0)).await.unwrap().len(), 1);
    assert_eq!(store.put_alerts(&[]).await.unwrap(), [0_u64; 0]);
}

async fn what_was_accepted_replaces_what_was_accepted_before(store: Any) {
    let mut open = put(&store, alert(Class::Expiry, "a.example")).await;
    let delivery = DeliveryRecord {
        alert: open.id,
        notifier: "discord".into(),
        accepted: 1,
        accepted_at: minute(5),
        severity: Severity::Warning,
        members: told(&["sally a.example"]),
        round: 1,
        over: false,
    };
    let other = DeliveryRecord {
        notifier: "mail".into(),
        ..delivery.clone()
    };
    for one in [&other, &delivery] {
        store.put_delivery(one).await.unwrap();
    }
    let later = DeliveryRecord {
        accepted: 2,
        accepted_at: minute(8),
        severity: Severity::Page,
        members: told(&["sally a.example", "esme a.example"]),
        round: 2,
        over: true,
        ..delivery
    };
    store.put_delivery(&later).await.unwrap();
    let both = [later, other];
    assert_eq!(store.deliveries(minute(0)).await.unwrap(), both);
    open.resolved = Some(minute(9));
    put(&store, open).await;
    assert_eq!(store.deliveries(minute(9)).await.unwrap(), both);
    assert_eq!(store.deliveries(minute(10)).await.unwrap(), []);
}

async fn a_silence_lasts_until_it_is_ended(store: Any) {
    let of_host = SilenceRecord {
        id: 0,
        host: Some(host("sally")),
        certificate: None,
        class: None,
        since: minute(1),
        until: minute(121),
        by: "root".into(),
        note: "new disk".into(),
    };
    let of_class = SilenceRecord {
        host: None,
        certificate: Some(name("a.example")),
        class: Some(Class::UrlBroken),
        note: String::new(),
        ..of_host.clone()
    };
    let mut stored = Vec::new();
    for silence in [of_host, of_class] {
        let id = store.add_silence(&silence).await.unwrap();
        stored.push(SilenceRecord { id, ..silence });
    }
    assert_eq!(store.silences().await.unwrap(), stored);
    assert!(store.end_silence(stored[0].id).await.unwrap());
    assert!(!store.end_silence(stored[0].id).await.unwrap());
    assert_eq!(store.silences().await.unwrap(), stored[1..]);
    let third = store.add_silence(&stored[1]).await.unwrap();
    assert!(third > stored[1].id, "an id was given twice");
}

async fn the_last_evaluation_is_remembered(store: Any) {
    assert_eq!(store.last_evaluation().await.unwrap(), None);
    for at in [minute(3), minute(4)] {
        store.evaluated(at).await.unwrap();
        assert_eq!(store.last_evaluation().await.unwrap(), Some(at));
    }
}

async fn pruning_takes_what_is_over_and_leaves_what_is_open(store: Any) {
    let open = put(&store, alert(Class::Expiry, "a.example")).await;
    let mut delivery = DeliveryRecord {
        alert: open.id,
        notifier: "discord".into(),
        accepted: 1,
        accepted_at: minute(5),
        severity: Severity::Page,
        members: told(&[]),
        round: 1,
        over: false,
    };
    store.put_delivery(&delivery).await.unwrap();
    for (subject, resolved) in [("old", 10), ("new", 20)] {
        let over = AlertRecord {
            resolved: Some(minute(resolved)),
            ..alert(Class::OrderFailing, subject)
        };
        delivery.alert = put(&store, over).await.id;
        store.put_delivery(&delivery).await.unwrap();
        let silence = SilenceRecord {
            id: 0,
            host: None,
            certificate: None,
            class: Some(Class::Expiry),
            since: minute(0),
            until: minute(resolved),
            by: "root".into(),
            note: String::new(),
        };
        store.add_silence(&silence).await.unwrap();
    }
    assert_eq!(store.prune_alerts(minute(20)).await.unwrap(), 2);
    let left: Vec<String> = store
        .alerts(minute(0))
        .await
        .unwrap()
        .into_iter()
        .map(|alert| alert.last.key.subject)
        .collect();
    assert_eq!(left, ["a.example", "new"]);
    assert_eq!(store.deliveries(minute(0)).await.unwrap().len(), 2);
    assert_eq!(store.silences().await.unwrap().len(), 1);
    assert_eq!(store.prune_alerts(minute(20)).await.unwrap(), 0);
}
