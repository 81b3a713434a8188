//! Notifiers that accept nothing, as alerts: they go by the other notifiers.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::later;
use crate::{
    config::Alerts,
    plan::alert::{Alert, Class, Key, Severity},
    store::AlertRecord,
};

/// Fewer refusals in a row may be chance.
const ATTEMPTS: u32 = 3;

/// How a notifier has fared since the issuer's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it accepted anything after its last refusal.
    pub accepts: bool,
    /// When its refusals in a row began; `None`: none since it last accepted something.
    pub refusing_since: Option<Timestamp>,
    /// How many there were.
    pub refusals: u32,
    /// What came back from the last, one sentence.
    pub problem: String,
}

/// One alert for each notifier that hasn't accepted a message for too long. One that is open already stays until the
/// notifier accepts something: a restart proves nothing.
pub fn failing(
    notifiers: &BTreeMap<String, Health>,
    open: &[AlertRecord],
    settings: &Alerts,
    now: Timestamp,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (name, health) in notifiers {
        let key = Key {
            class: Class::NotifierFailing,
            subject: name.clone(),
        };
        let known = open
            .iter()
            .find(|alert| alert.resolved.is_none() && alert.last.key == key);
        let begins = health.refusing_since.is_some_and(|since| {
            health.refusals >= ATTEMPTS && now >= later(since, settings.settle)
        });
        match known {
            Some(known) if !health.accepts && health.refusing_since.is_none() => {
                alerts.push(known.last.clone());
            }
            known if begins || (known.is_some() && !health.accepts) => {
                alerts.push(alert(key, name, health));
            }
            _ => {}
        }
    }
    alerts
}

fn alert(key: Key, name: &str, health: &Health) -> Alert {
    Alert {
        key,
        severity: Severity::Warning,
        members: Vec::new(),
        title: format!("the notifier {name} accepts no messages"),
        cause: format!(
            "{name} has accepted nothing since then; its last answer: {}",
            health.problem
        ),
        next: format!(
            "certwell goes on trying {name}, tells the next notifier at once of what is sent to {name}, and takes this \
             back when {name} accepts a message."
        ),
        command: format!("certwell alerts test {name}"),
        since: health.refusing_since,
        ends: None,
    }
}
