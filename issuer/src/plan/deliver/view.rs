//! How an alert is shown.

use certwell_proto::v1;
use jiff::Timestamp;

use super::hold::{acknowledgement, silenced_until};
use crate::{
    plan::alert::Severity,
    store::{AlertRecord, SilenceRecord, alerts::wire},
};

/// An alert as `certwell` and the page show it, with what was delivered of it.
pub fn view(
    alert: &AlertRecord,
    deliveries: Vec<v1::AlertDelivery>,
    silences: &[SilenceRecord],
    now: Timestamp,
) -> v1::Alert {
    // Of one that is over, who had acknowledged it is told all the same.
    let made = match alert.resolved {
        Some(_) => alert.acknowledged.as_ref(),
        None => acknowledgement(alert, now),
    };
    let silenced = silenced_until(&alert.last, silences, now).filter(|_| alert.resolved.is_none());
    v1::Alert {
        id: alert.id,
        opened_ms: alert.opened.as_millisecond(),
        resolved_ms: alert.resolved.map(Timestamp::as_millisecond),
        acknowledgement: made.map(|made| v1::Acknowledgement {
            at_ms: made.at.as_millisecond(),
            until_ms: made.until.as_millisecond(),
            by: made.by.clone(),
            note: made.note.clone(),
        }),
        silenced_until_ms: silenced.map(Timestamp::as_millisecond),
        deliveries,
        ..wire(&alert.last)
    }
}

/// Open ones first, of these pages first, then by their beginning.
pub fn sorted(mut alerts: Vec<AlertRecord>) -> Vec<AlertRecord> {
    alerts.sort_by_key(|alert| {
        let warning = alert.last.severity == Severity::Warning;
        (alert.resolved.is_some(), warning, alert.opened, alert.id)
    });
    alerts
}

/// What to run so that an alert is repeated no more.
pub fn acknowledge_command(id: u64) -> String {
    format!("certwell alerts ack {id} --for 4h")
}
