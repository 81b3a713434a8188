//! `[alerts]`: what it says, and its mistakes.

use std::time::Duration;

use certwell_issuer::config::Alerts;

use super::mistakes::{tells, with};

const HOOKS: &str = "[notifier.mend]\ntype = \"webhook\"\nurl = \"https://a.example/\"\n\
                     [notifier.hook]\ntype = \"webhook\"\nurl = \"https://b.example/\"\n";

#[test]
fn everybody_is_told_by_name_unless_an_order_is_given() {
    let config = with(HOOKS).load().unwrap();
    let all = ["hook".to_owned(), "mend".to_owned()];
    assert_eq!(
        config.alerts,
        Alerts {
            notify: all.to_vec(),
            ..Alerts::default()
        }
    );
    let ordered = format!(
        "[alerts]\nnotify = [\"mend\", \"hook\"]\nescalate-after = \"5m\"\nrepeat-first = \"1h\"\nrepeat-min = \"10m\"\n\
         every = \"10s\"\nsettle = \"20s\"\nheartbeat-url = \"https://hc.example/secret\"\nheartbeat-every = \"2m\"\n{HOOKS}"
    );
    let alerts = with(&ordered).load().unwrap().alerts;
    assert_eq!(alerts.notify, ["mend", "hook"]);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(
        (
            alerts.escalate_after,
            alerts.repeat_first,
            alerts.repeat_min
        ),
        (minutes(5), minutes(60), minutes(10))
    );
    assert_eq!(
        (alerts.every, alerts.settle, alerts.heartbeat_every),
        (Duration::from_secs(10), Duration::from_secs(20), minutes(2))
    );
    let shown = format!("{alerts:?}");
    assert!(
        shown.contains("hc.example") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn mistakes_of_alerts_are_shown_where_they_are() {
    for (alerts, parts) in [
        (
            "notify = [\"hok\"]",
            &[
                "no notifier is declared by the name \"hok\"",
                "did you mean \"hook\"?",
                "^^^^^",
            ][..],
        ),
        ("notify = [\"hook\", \"hook\"]", &["is named twice"]),
        ("notify = []", &["notify is empty: nobody would be told"]),
        (
            "repeat-min = \"5h\"",
            &["repeat-min must not be longer than repeat-first"],
        ),
        ("every = \"1h\"", &["every is longer than 10 minutes"]),
        ("settle = \"0s\"", &["settle must be longer than nothing"]),
        (
            "escalate-afer = \"5m\"",
            &["unknown key \"escalate-afer\" in [alerts]", "did you mean"],
        ),
        (
            "heartbeat-url = \"ftp://hc.example/secret\"",
            &["heartbeat-url: a URL begins with https://"],
        ),
    ] {
        tells(&with(&format!("[alerts]\n{alerts}\n{HOOKS}")), parts);
    }
    // What is wrong with a notifier is told of it alone.
    let broken = "[alerts]\nnotify = [\"hook\"]\n[notifier.hook]\ntype = \"pigeon\"\n";
    assert_eq!(with(broken).load().unwrap_err().mistakes.len(), 1);
}
