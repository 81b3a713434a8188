//! Alerts, what notifiers accepted of them, and silences: the outbox. An alert that is stored is sent until a notifier
//! accepted it, and what was accepted is stored before anything else of it is sent.

use std::collections::BTreeSet;

use certwell_proto::{CertificateName, HostName, v1};
use jiff::Timestamp;

use super::Result;
use crate::plan::alert::{Alert, Class, Key, Member, Severity};

/// What a store keeps of alerts. As in [`super::Store`], every method is one transaction.
#[async_trait::async_trait]
pub trait AlertStore: Send + Sync + 'static {
    /// Inserts those whose id is 0 and replaces the others; returns the id of each, in their order. Conflict when an
    /// open one of the same class and subject is there already.
    async fn put_alerts(&self, alerts: &[AlertRecord]) -> Result<Vec<u64>>;
    /// All that are open, and those that were resolved at or after `since`, by their ids.
    async fn alerts(&self, since: Timestamp) -> Result<Vec<AlertRecord>>;
    /// Notes what a notifier accepted; replaces what it accepted before of the same alert.
    async fn put_delivery(&self, delivery: &DeliveryRecord) -> Result<()>;
    /// What was accepted of the alerts that [`AlertStore::alerts`] gives, by alert and notifier.
    async fn deliveries(&self, since: Timestamp) -> Result<Vec<DeliveryRecord>>;
    /// Stores a silence and returns its id.
    async fn add_silence(&self, silence: &SilenceRecord) -> Result<u64>;
    /// Every silence that is stored, over or not, by their ids.
    async fn silences(&self) -> Result<Vec<SilenceRecord>>;
    /// Removes a silence; false when there is none of this id.
    async fn end_silence(&self, id: u64) -> Result<bool>;
    /// Notes when all was evaluated last.
    async fn evaluated(&self, at: Timestamp) -> Result<()>;
    /// What was noted; `None`: nothing yet.
    async fn last_evaluation(&self) -> Result<Option<Timestamp>>;
    /// Removes alerts that were resolved before `before`, with their deliveries, and silences that ended before it;
    /// returns how many went.
    async fn prune_alerts(&self, before: Timestamp) -> Result<u64>;
}

/// A cause that was raised.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRecord {
    /// 0 before it is stored.
    pub id: u64,
    /// What was last known of it.
    pub last: Alert,
    /// When it was raised first.
    pub opened: Timestamp,
    /// From when on its escalation is counted.
    pub escalates: Timestamp,
    /// How often it was raised.
    pub rounds: u32,
    /// When it was over; `None` while it is open.
    pub resolved: Option<Timestamp>,
    /// The last one, whether or not it still holds.
    pub acknowledged: Option<AcknowledgementRecord>,
}

/// Somebody knows, and sees to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementRecord {
    /// When.
    pub at: Timestamp,
    /// Until when it holds.
    pub until: Timestamp,
    /// A user's name.
    pub by: String,
    /// What he says.
    pub note: String,
    /// How much the alert pressed.
    pub severity: Severity,
    /// Whom it was on; see [`Member::label`].
    pub members: BTreeSet<String>,
}

/// What one notifier has accepted of one alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// The alert's id.
    pub alert: u64,
    /// The notifier's name in the configuration.
    pub notifier: String,
    /// How many messages; at least one.
    pub accepted: u32,
    /// When it accepted the last.
    pub accepted_at: Timestamp,
    /// How much the alert pressed by what it was told last.
    pub severity: Severity,
    /// Whom it was told of, in this or an earlier message.
    pub members: BTreeSet<String>,
    /// [`AlertRecord::rounds`] at that time.
    pub round: u32,
    /// Whether it was told that the alert is over.
    pub over: bool,
}

/// Messages are held back while somebody works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceRecord {
    /// 0 before it is stored.
    pub id: u64,
    /// Of this host; `None`: of any.
    pub host: Option<HostName>,
    /// Of this certificate; `None`: of any.
    pub certificate: Option<CertificateName>,
    /// Of this class; `None`: of any.
    pub class: Option<Class>,
    /// When it was made.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// A user's name.
    pub by: String,
    /// What he says.
    pub note: String,
}

impl Member {
    /// What tells it from other members of its alert: "HOST CERTIFICATE", or an address in the place of a host; a dash for
    /// what isn't there.
    pub fn label(&self) -> String {
        let place = match (&self.host, self.address) {
            (Some(host), _) => host.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "-".to_owned(),
        };
        let certificate = self.certificate.as_ref().map_or("-", |name| name.as_str());
        format!("{place} {certificate}")
    }
}

/// An alert for the wire, and for the store.
pub(crate) fn wire(alert: &Alert) -> v1::Alert {
    let severity = match alert.severity {
        Severity::Warning => v1::AlertSeverity::Warning,
        Severity::Page => v1::AlertSeverity::Page,
    };
    let member = |member: &Member| v1::AlertMember {
        host: text(member.host.as_ref()),
        address: text(member.address.as_ref()),
        certificate: text(member.certificate.as_ref()),
        text: member.text.clone(),
        served: member.served.clone(),
        served_not_after: member.served_not_after.map(Timestamp::as_second),
    };
    v1::Alert {
        class: alert.key.class.slug().to_owned(),
        severity: severity.into(),
        subject: alert.key.subject.clone(),
        members: alert.members.iter().map(member).collect(),
        title: alert.title.clone(),
        cause: alert.cause.clone(),
        next: alert.next.clone(),
        command: alert.command.clone(),
        since_ms: alert.since.map_or(0, Timestamp::as_millisecond),
        drill: alert.key.class == Class::Drill,
        ..v1::Alert::default()
    }
}

/// The way back; `None` when it isn't one of ours.
pub(super) fn read(key: Key, ends: Option<Timestamp>, alert: v1::Alert) -> Option<Alert> {
    let severity = match alert.severity() {
        v1::AlertSeverity::Warning => Severity::Warning,
        v1::AlertSeverity::Page => Severity::Page,
        v1::AlertSeverity::Unspecified => return None,
    };
    let members = alert.members.into_iter().map(|member| {
        Some(Member {
            host: named(&member.host)?,
            address: named(&member.address)?,
            certificate: named(&member.certificate)?,
            text: member.text,
            served: member.served,
            served_not_after: match member.served_not_after {
                None => None,
                Some(second) => Some(Timestamp::from_second(second).ok()?),
            },
        })
    });
    Some(Alert {
        key,
        severity,
        members: members.collect::<Option<_>>()?,
        title: alert.title,
        cause: alert.cause,
        next: alert.next,
        command: alert.command,
        since: match alert.since_ms {
            0 => None,
            millisecond => Some(Timestamp::from_millisecond(millisecond).ok()?),
        },
        ends,
    })
}

fn text<T: std::fmt::Display>(name: Option<&T>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

/// The empty text stands for no name.
fn named<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    match text {
        "" => Some(None),
        name => name.parse().ok().map(Some),
    }
}
