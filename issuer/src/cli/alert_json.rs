//! The JSON of `certwell alerts`, described in docs/cli.md. Fields are added, never changed or taken.

use certwell_proto::v1;
use serde::Serialize;

use super::json::{millis, seconds, text};

/// `certwell alerts list --json`.
#[derive(Debug, Serialize)]
pub(super) struct List {
    pub(super) alerts: Vec<Alert>,
    pub(super) silences: Vec<Silence>,
}

/// `certwell alerts show|ack|drill --json`.
#[derive(Debug, Serialize)]
pub(super) struct One {
    pub(super) alert: Alert,
}

/// `certwell alerts silences --json`.
#[derive(Debug, Serialize)]
pub(super) struct Silences {
    pub(super) silences: Vec<Silence>,
}

/// `certwell alerts silence --json`.
#[derive(Debug, Serialize)]
pub(super) struct Silenced {
    pub(super) silence: Silence,
}

/// `certwell alerts unsilence --json`.
#[derive(Debug, Serialize)]
pub(super) struct Ended {
    pub(super) ended: u64,
}

/// `certwell alerts test --json`.
#[derive(Debug, Serialize)]
pub(super) struct Tested {
    pub(super) notifiers: Vec<Answer>,
}

#[derive(Debug, Serialize)]
pub(super) struct Alert {
    id: u64,
    class: String,
    subject: Option<String>,
    severity: &'static str,
    title: String,
    cause: String,
    next: String,
    command: String,
    section: String,
    since: Option<String>,
    opened_at: String,
    resolved_at: Option<String>,
    drill: bool,
    acknowledgement: Option<Acknowledgement>,
    silenced_until: Option<String>,
    members: Vec<Member>,
    deliveries: Vec<Delivery>,
}

#[derive(Debug, Serialize)]
struct Acknowledgement {
    at: String,
    until: String,
    by: String,
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct Member {
    host: Option<String>,
    address: Option<String>,
    certificate: Option<String>,
    text: String,
    served: Option<String>,
    served_not_after: Option<String>,
}

#[derive(Debug, Serialize)]
struct Delivery {
    notifier: String,
    accepted: u32,
    accepted_at: Option<String>,
    next_at: Option<String>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Silence {
    id: u64,
    host: Option<String>,
    certificate: Option<String>,
    class: Option<String>,
    since: String,
    until: String,
    by: String,
    note: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    notifier: String,
    accepted: bool,
    text: String,
    took_ms: u32,
}

impl From<v1::Alert> for Alert {
    fn from(alert: v1::Alert) -> Self {
        Self {
            severity: severity_word(alert.severity()),
            id: alert.id,
            section: format!("docs/operations.md#{}", alert.class),
            class: alert.class,
            subject: text(alert.subject),
            title: alert.title,
            cause: alert.cause,
            next: alert.next,
            command: alert.command,
            since: Some(alert.since_ms).filter(|since| *since != 0).map(millis),
            opened_at: millis(alert.opened_ms),
            resolved_at: alert.resolved_ms.map(millis),
            drill: alert.drill,
            acknowledgement: alert.acknowledgement.map(|made| Acknowledgement {
                at: millis(made.at_ms),
                until: millis(made.until_ms),
                by: made.by,
                note: text(made.note),
            }),
            silenced_until: alert.silenced_until_ms.map(millis),
            members: alert.members.into_iter().map(Member::from).collect(),
            deliveries: alert.deliveries.into_iter().map(Delivery::from).collect(),
        }
    }
}

impl From<v1::AlertMember> for Member {
    fn from(member: v1::AlertMember) -> Self {
        Self {
            host: text(member.host),
            address: text(member.address),
            certificate: text(member.certificate),
            text: member.text,
            served: text(member.served),
            served_not_after: member.served_not_after.map(seconds),
        }
    }
}

impl From<v1::AlertDelivery> for Delivery {
    fn from(delivery: v1::AlertDelivery) -> Self {
        Self {
            notifier: delivery.notifier,
            accepted: delivery.accepted,
            accepted_at: delivery.accepted_at_ms.map(millis),
            next_at: delivery.next_ms.map(millis),
            problem: text(delivery.problem),
        }
    }
}

impl From<v1::Silence> for Silence {
    fn from(silence: v1::Silence) -> Self {
        Self {
            id: silence.id,
            host: text(silence.host),
            certificate: text(silence.certificate),
            class: text(silence.class),
            since: millis(silence.since_ms),
            until: millis(silence.until_ms),
            by: silence.by,
            note: text(silence.note),
        }
    }
}

impl From<v1::NotifierAnswer> for Answer {
    fn from(answer: v1::NotifierAnswer) -> Self {
        Self {
            notifier: answer.notifier,
            accepted: answer.accepted,
            text: answer.text,
            took_ms: answer.took_ms,
        }
    }
}

/// The word for how much an alert presses.
pub(super) fn severity_word(severity: v1::AlertSeverity) -> &'static str {
    match severity {
        v1::AlertSeverity::Page => "page",
        v1::AlertSeverity::Warning | v1::AlertSeverity::Unspecified => "warning",
    }
}
