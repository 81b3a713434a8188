//! A message about an alert, as notifiers take it.

use certwell_notice as notice;
use certwell_proto::FleetName;

use super::{Say, view::acknowledge_command};
use crate::{
    plan::alert::Class,
    store::{AlertRecord, DeliveryRecord},
};

/// The command that acknowledges an alert, where it lies, and the section of `docs/operations.md` about it are in it.
/// `before` is what the notifier has accepted of it so far.
pub fn message(
    fleet: &FleetName,
    alert: &AlertRecord,
    say: Say,
    before: Option<&DeliveryRecord>,
) -> notice::Message {
    let last = &alert.last;
    let drill = last.key.class == Class::Drill;
    let members = last.members.iter().map(|member| notice::Member {
        host: member.host.as_ref().map(ToString::to_string),
        address: member.address.as_ref().map(ToString::to_string),
        certificate: member.certificate.as_ref().map(ToString::to_string),
        text: member.text.clone(),
        served: member.served.clone(),
        served_not_after: member.served_not_after,
    });
    notice::Message {
        key: key(fleet, last.key.class, &last.key.subject),
        id: alert.id,
        fleet: fleet.to_string(),
        state: match say {
            Say::Resolved => notice::State::Resolved,
            Say::Firing if drill => notice::State::Drill,
            Say::Firing => notice::State::Firing,
        },
        severity: last.severity,
        class: last.key.class.slug().to_owned(),
        subject: last.key.subject.clone(),
        title: last.title.clone(),
        cause: last.cause.clone(),
        next: last.next.clone(),
        command: last.command.clone(),
        section: last.key.class.slug().to_owned(),
        since: last.since,
        opened: alert.opened,
        number: before.map_or(0, |before| before.accepted).saturating_add(1),
        members: members.collect(),
        // One that no store holds can't be named.
        acknowledge: (say == Say::Firing && alert.id != 0).then(|| acknowledge_command(alert.id)),
        link: None,
    }
}

/// The same for every message about one cause, from whomever.
fn key(fleet: &FleetName, class: Class, subject: &str) -> String {
    format!("certwell/{fleet}/{class}/{subject}")
        .trim_end_matches('/')
        .to_owned()
}
