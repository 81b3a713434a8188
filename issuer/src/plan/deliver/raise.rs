//! From the alerts of one evaluation and those that are open: what is raised, what changed, what is over.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::pace;
use jiff::{SignedDuration, Timestamp};

use super::{hold::acknowledgement, later, left};
use crate::{
    config::Alerts,
    plan::alert::{Alert, Class, Key, Severity},
    store::{AcknowledgementRecord, AlertRecord},
};

/// A cause that comes back within so many times `settle` after its alert was resolved is the same alert.
const BACK: u32 = 10;
/// Each time that it came back, its absence has to last twice as long before it counts; up to so many times.
const DOUBLINGS: u32 = 6;
/// However often it came back: an absence of an hour counts.
const LONGEST: Duration = Duration::from_secs(3_600);
/// A drill that nobody acknowledged is over after so long: by then everybody knows that nobody came.
const DRILL: SignedDuration = SignedDuration::from_hours(24);

/// What is remembered from one evaluation to the next. It isn't stored: after a restart a cause, or its absence, has to
/// stand once more.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Causes that aren't raised yet, and since when they are there.
    there: BTreeMap<Key, Timestamp>,
    /// Open alerts whose cause isn't there, and since when.
    gone: BTreeMap<Key, Timestamp>,
}

impl Standing {
    /// What the clock said before it was set back counts from now.
    fn not_after(&mut self, now: Timestamp) {
        for since in self.there.values_mut().chain(self.gone.values_mut()) {
            *since = (*since).min(now);
        }
    }
}

/// What becomes of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The alert as it is from now on; its id is 0 when it is new.
    pub alert: AlertRecord,
    /// What changed.
    pub kind: Kind,
}

/// Ways in which an alert changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is new, or came back.
    Raised,
    /// It presses otherwise, or is on others.
    Changed,
    /// Only its words did: nothing that has to be stored.
    Reworded,
    /// Its cause is gone.
    Resolved,
}

/// Compares what should be known now with what is `known`: open alerts, and those that were resolved lately.
///
/// While `whole` is false not all has been looked at since the issuer's start, and nothing is taken for over.
pub fn reconcile(
    found: Vec<Alert>,
    known: &[AlertRecord],
    standing: &mut Standing,
    settings: &Alerts,
    whole: bool,
    now: Timestamp,
) -> Vec<Change> {
    let mut found: BTreeMap<Key, Alert> = found
        .into_iter()
        .map(|alert| (alert.key.clone(), alert))
        .collect();
    let mut changes = Vec::new();
    standing.there.retain(|key, _| found.contains_key(key));
    standing.gone.retain(|key, _| !found.contains_key(key));
    standing.not_after(now);
    for open in known.iter().filter(|alert| alert.resolved.is_none()) {
        let key = &open.last.key;
        if let Some(alert) = found.remove(key) {
            changes.extend(updated(open, alert, now));
        } else if key.class == Class::Drill {
            if now.duration_since(open.opened) >= DRILL {
                changes.push(resolved(open, now));
            }
        } else if whole {
            let since = *standing.gone.entry(key.clone()).or_insert(now);
            if now >= later(since, absence(open, settings, now)) {
                standing.gone.remove(key);
                changes.push(resolved(open, now));
            }
        }
    }
    for (key, mut alert) in found {
        // Counted from when it was first found, however long the facts say that it has been so: four hosts that fell
        // silent together are found one after the other.
        let first = *standing.there.entry(key.clone()).or_insert(now);
        if now < later(first, settle(&alert, settings, now)) {
            continue;
        }
        standing.there.remove(&key);
        alert.since = Some(alert.since.map_or(first, |told| told.min(first)));
        let before = known
            .iter()
            .filter(|record| record.last.key == key)
            .filter(|record| {
                let limit = settings.settle.saturating_mul(BACK);
                record.resolved.is_some_and(|at| now < later(at, limit))
            })
            .max_by_key(|record| record.resolved);
        changes.push(Change {
            alert: raised(before, alert, now),
            kind: Kind::Raised,
        });
    }
    changes
}

/// Somebody knows. A drill is over by it: that is all that was wanted. An expiry is heard of again when half of what is
/// left is over, however long somebody wanted to hear nothing of it.
pub fn acknowledge(
    alert: &AlertRecord,
    by: String,
    note: String,
    until: Timestamp,
    now: Timestamp,
) -> AlertRecord {
    let members = alert.last.members.iter().map(|member| member.label());
    let expires = matches!(
        alert.last.key.class,
        Class::Expiry | Class::UnmanagedExpiring
    );
    let left = left(alert.last.ends.filter(|_| expires), now);
    let until = left.map_or(until, |left| until.min(later(now, left / 2)));
    AlertRecord {
        acknowledged: Some(AcknowledgementRecord {
            at: now,
            until,
            by,
            note,
            severity: alert.last.severity,
            members: members.collect(),
        }),
        resolved: (alert.last.key.class == Class::Drill).then_some(now),
        ..alert.clone()
    }
}

/// How long a cause stands before it is told. An expiry that pages has stood for weeks.
fn settle(alert: &Alert, settings: &Alerts, now: Timestamp) -> Duration {
    if alert.key.class == Class::Expiry && alert.severity == Severity::Page {
        return Duration::ZERO;
    }
    pace::pace(settings.settle, left(alert.ends, now))
}

/// How long a cause is gone before its alert is over.
fn absence(open: &AlertRecord, settings: &Alerts, now: Timestamp) -> Duration {
    let once = pace::pace(settings.settle, left(open.last.ends, now));
    let doublings = open.rounds.saturating_sub(1).min(DOUBLINGS);
    once.saturating_mul(1 << doublings).min(LONGEST.max(once))
}

fn raised(before: Option<&AlertRecord>, alert: Alert, now: Timestamp) -> AlertRecord {
    AlertRecord {
        id: before.map_or(0, |record| record.id),
        last: alert,
        opened: before.map_or(now, |record| record.opened),
        escalates: now,
        rounds: before.map_or(0, |record| record.rounds).saturating_add(1),
        resolved: None,
        acknowledged: before.and_then(|record| record.acknowledged.clone()),
    }
}

fn resolved(open: &AlertRecord, now: Timestamp) -> Change {
    Change {
        alert: AlertRecord {
            resolved: Some(now),
            ..open.clone()
        },
        kind: Kind::Resolved,
    }
}

fn updated(open: &AlertRecord, mut alert: Alert, now: Timestamp) -> Option<Change> {
    alert.since = match (open.last.since, alert.since) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let kind = if open.last == alert {
        return None;
    } else if presses_alike(&open.last, &alert) {
        Kind::Reworded
    } else {
        Kind::Changed
    };
    let mut record = AlertRecord {
        last: alert,
        ..open.clone()
    };
    // An acknowledgement that held and holds no more: it is told as if it had begun now, one notifier after the other.
    if acknowledgement(open, now).is_some() && acknowledgement(&record, now).is_none() {
        record.escalates = now;
    }
    Some(Change {
        alert: record,
        kind,
    })
}

fn presses_alike(one: &Alert, other: &Alert) -> bool {
    let members = |alert: &Alert| -> Vec<_> {
        let members = alert.members.iter();
        members
            .map(|member| (member.label(), member.served.clone()))
            .collect()
    };
    one.severity == other.severity && one.ends == other.ends && members(one) == members(other)
}
