//! Alertmanager, by the OpenAPI description of its API v2.

use certwell_notice::{Member, Message, State, alertmanager};
use serde_json::Value;

use super::{at, golden_json, message};

fn alerts(message: &Message) -> Vec<Value> {
    let body = alertmanager::body(message, at("2023-02-26T09:00:00Z"));
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn each_member_is_an_alert_of_its_own() {
    let body = alertmanager::body(&message(), at("2023-02-26T09:00:00Z"));
    let value = golden_json("alertmanager.json", &body);
    assert_eq!(value.as_array().unwrap().len(), 2);
}

#[test]
fn what_is_told_again_and_what_is_over_has_the_same_labels() {
    let first = alerts(&message());
    let again = alerts(&Message {
        number: 9,
        cause: "Other words.".into(),
        next: "Another time.".into(),
        state: State::Resolved,
        ..message()
    });
    for (one, other) in first.iter().zip(&again) {
        assert_eq!(one["labels"], other["labels"]);
        assert_eq!(one["endsAt"], "2023-02-26T09:05:00Z");
        assert_eq!(other["endsAt"], "2023-02-26T09:00:00Z");
        assert_eq!(one["startsAt"], other["startsAt"]);
    }
}

#[test]
fn two_addresses_of_nobody_are_two_alerts() {
    let at = |address: &str| Member {
        address: Some(address.into()),
        ..Member::default()
    };
    let told = alerts(&Message {
        members: vec![at("203.0.113.7:443"), at("[2001:db8::7]:443")],
        ..message()
    });
    let labels = |at: usize| told[at]["labels"].clone();
    assert_eq!(labels(0)["address"], "203.0.113.7:443");
    assert_ne!(labels(0), labels(1));
}

#[test]
fn labels_are_never_empty_and_nothing_starts_after_it_ends() {
    let message = Message {
        members: Vec::new(),
        subject: String::new(),
        since: Some(at("2023-02-26T09:00:30Z")),
        state: State::Test,
        ..message()
    };
    let alerts = alerts(&message);
    assert_eq!(alerts.len(), 1, "it is told though it is on nobody");
    let labels = alerts[0]["labels"].as_object().unwrap();
    assert!(
        labels
            .values()
            .all(|value| !value.as_str().unwrap().is_empty())
    );
    assert!(labels.contains_key("alertname"));
    assert_eq!(alerts[0]["startsAt"], alerts[0]["endsAt"]);
}
