//! Alertmanager's API v2: one alert for each member, known by its labels.
//!
//! An Alertmanager forgets what isn't sent again (`endsAt`), and takes what is sent again for the same alert as long as its
//! labels are the same: they hold what doesn't change, annotations hold the rest.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    Member, Message, State, json,
    text::{name, parts, words},
};

/// Below an Alertmanager's base URL.
pub const PATH: &str = "/api/v2/alerts";
/// So often it is to be sent again while it fires.
pub const RESEND: Duration = Duration::from_secs(60);
/// So long it fires there without a word of ours: a restart isn't taken for an end, nor is a try or two that fail.
pub const STAYS: SignedDuration = SignedDuration::from_secs(5 * 60);
/// So many members at most.
const MEMBERS: usize = json::MEMBERS;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

/// A message; a test is over as soon as it is there.
pub fn body(message: &Message, now: Timestamp) -> Vec<u8> {
    let nobody = [Member::default()];
    let members = if message.members.is_empty() {
        &nobody
    } else {
        message.members.as_slice()
    };
    let starts_at = message.since.unwrap_or(message.opened).min(now);
    let ends_at = match message.state {
        State::Firing | State::Drill => now.saturating_add(STAYS).unwrap_or(Timestamp::MAX),
        State::Resolved | State::Test => now,
    };
    let alerts: Vec<Alert> = members
        .iter()
        .take(MEMBERS)
        .map(|member| Alert {
            labels: labels(message, member),
            annotations: annotations(message, member),
            starts_at,
            ends_at,
            generator_url: message.link.clone(),
        })
        .collect();
    json::bytes(&alerts)
}

/// Without empty ones, which an Alertmanager takes for absent.
fn labels(message: &Message, member: &Member) -> BTreeMap<&'static str, String> {
    let word = |word: &Option<String>| word.clone().unwrap_or_default();
    let mut labels = BTreeMap::from([
        ("alertname", alert_name(&message.class)),
        ("class", message.class.clone()),
        ("severity", message.severity.word().to_owned()),
        ("fleet", message.fleet.clone()),
        ("key", message.key.clone()),
        ("subject", message.subject.clone()),
        ("host", word(&member.host)),
        ("address", word(&member.address)),
        ("certificate", word(&member.certificate)),
    ]);
    labels.retain(|_, value| !value.is_empty());
    labels
}

fn annotations(message: &Message, member: &Member) -> BTreeMap<&'static str, String> {
    let said = match (name(member), words(member)) {
        (name, words) if name.is_empty() => words,
        (name, words) => format!("{name}: {words}"),
    };
    let mut annotations = BTreeMap::from([
        ("summary", message.title.clone()),
        ("description", message.cause.clone()),
        ("member", said),
        ("next", message.next.clone()),
        ("command", message.command.clone()),
        (
            "acknowledge",
            message.acknowledge.clone().unwrap_or_default(),
        ),
    ]);
    for part in parts(message) {
        if part.name == "To read" {
            annotations.insert("runbook", part.text);
        }
    }
    annotations.retain(|_, value| !value.is_empty());
    annotations
}

/// `host-silent` is `CertwellHostSilent`, as names of alerts are written there.
fn alert_name(class: &str) -> String {
    let words = class.split(['-', '_', ' ']);
    let capital = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    format!("Certwell{}", capital.collect::<String>())
}
