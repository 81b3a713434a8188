//! What somebody should know, class by class; each alert is enough by itself.

mod expiry;
mod hosts;
mod install;

use certwell_issuer::{
    cli::args::Cli,
    plan::{
        alert::{Alert, Class, Severity, alerts},
        facts::FleetFacts,
        words,
    },
};
use clap::Parser as _;
use jiff::Timestamp;

/// A change of a fleet on which all is well.
pub(crate) type Change = fn(&mut FleetFacts, Timestamp);

/// Verbs of `certwell-agent` that an alert may ask for on a host; that they exist is tested with that program.
const ON_HOSTS: &[&str] = &["doctor", "status", "inventory"];

/// All alerts, each of them looked at for being whole.
pub(crate) fn told(facts: &FleetFacts, now: Timestamp) -> Vec<Alert> {
    let told = alerts(facts, now);
    for alert in &told {
        is_whole(alert, now);
    }
    let mut keys: Vec<_> = told.iter().map(|alert| &alert.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), told.len(), "a cause is told twice: {told:#?}");
    told
}

/// Class, subject and severity of each.
pub(crate) fn keys(told: &[Alert]) -> Vec<(Class, &str, Severity)> {
    told.iter()
        .map(|alert| (alert.key.class, alert.key.subject.as_str(), alert.severity))
        .collect()
}

pub(crate) fn of(told: &[Alert], class: Class) -> &Alert {
    let found: Vec<&Alert> = told
        .iter()
        .filter(|alert| alert.key.class == class)
        .collect();
    assert_eq!(found.len(), 1, "{class}: {told:#?}");
    found[0]
}

/// The hosts that it is on.
pub(crate) fn on(alert: &Alert) -> Vec<&str> {
    let hosts = alert
        .members
        .iter()
        .filter_map(|member| member.host.as_ref());
    hosts.map(|host| host.as_str()).collect()
}

/// As a person reads it, with nothing else at hand.
fn text(alert: &Alert, now: Timestamp) -> String {
    let mut lines = vec![alert.title.clone(), alert.cause.clone()];
    if let Some(since) = alert.since {
        lines.push(format!("since {}", words::dated(since, now)));
    }
    lines.extend(alert.members.iter().take(1).map(|member| {
        let until = member.served_not_after;
        let until = until.map_or(String::new(), |at| {
            format!(" until {}", words::dated(at, now))
        });
        format!("{}: serves {}{until}", member.text, member.served)
    }));
    lines.extend([alert.next.clone(), alert.command.clone()]);
    lines.join("\n")
}

fn is_whole(alert: &Alert, now: Timestamp) {
    let text = text(alert, now);
    for (what, field) in [
        ("title", &alert.title),
        ("cause", &alert.cause),
        ("next", &alert.next),
        ("command", &alert.command),
    ] {
        assert!(!field.trim().is_empty(), "{what}: {text}");
        assert!(!field.contains('\n'), "{what}: {text}");
    }
    assert!(alert.cause.ends_with(['.', '?', '…']), "{text}");
    assert!(alert.next.ends_with(['.', '?', '…']), "{text}");
    assert!(!text.contains(".."), "{text}");
    assert!(!text.contains("  "), "{text}");
    assert!(
        text.chars().count() <= 1_500,
        "{} characters: {text}",
        text.chars().count()
    );
    for member in &alert.members {
        assert!(!member.text.is_empty(), "{text}");
        assert!(
            member.host.is_some() || member.certificate.is_some(),
            "{text}"
        );
    }
    assert!(alert.since.is_none_or(|since| since <= now), "{text}");
    types(&alert.command);
}

/// The command exists, with these arguments.
pub(crate) fn types(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["certwell", ..] => {
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
        ["ssh", host, "certwell-agent", verb] => {
            assert!(
                host.parse::<certwell_proto::HostName>().is_ok(),
                "{command}"
            );
            assert!(ON_HOSTS.contains(verb), "{command}");
        }
        _ => panic!("{command:?} is of no program that is known"),
    }
}

#[test]
fn nothing_is_told_of_a_fleet_that_is_well() {
    let now = crate::fleet::noon();
    assert_eq!(told(&crate::fleet::fleet(now), now), []);
}
