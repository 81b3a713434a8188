//! When a notifier is told next of an alert, and what.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    between_messages,
    hold::{acknowledgement, audible, silenced_until},
    later, left,
    retry::Tried,
};
use crate::{
    config::Alerts,
    store::{AlertRecord, DeliveryRecord, SilenceRecord},
};

/// For so long a notifier that accepted word of an alert is tried with the word that it is over.
const OVER: SignedDuration = SignedDuration::from_hours(24);

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It is so.
    Firing,
    /// It is over.
    Resolved,
}

/// A message, and when it is to be sent; an instant that has passed means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// What.
    pub say: Say,
}

/// A notifier, as far as one alert is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// How many notifiers that work stand before it in the order of escalation.
    pub place: usize,
    /// Set for one that forgets what it isn't told again so often.
    pub resend: Option<Duration>,
    /// What it has accepted so far.
    pub delivery: Option<&'a DeliveryRecord>,
    /// What it has refused since.
    pub tried: Option<&'a Tried>,
    /// When the last silence of this alert ended.
    pub released: Option<Timestamp>,
    /// Whether it is tried by this, to learn whether it accepts anything again: that somebody knows, or works there, holds
    /// no trial back.
    pub trial: bool,
}

/// What is due of `alert` to one notifier, if anything is.
pub fn due(
    alert: &AlertRecord,
    told: &Told<'_>,
    silences: &[SilenceRecord],
    settings: &Alerts,
    now: Timestamp,
) -> Option<Due> {
    let due = match alert.resolved {
        Some(resolved) => {
            let knows = told.delivery.is_some_and(|delivery| !delivery.over);
            (knows && now.duration_since(resolved) < OVER).then_some(Due {
                at: resolved,
                say: Say::Resolved,
            })?
        }
        None => Due {
            at: firing(alert, told, silences, settings, now),
            say: Say::Firing,
        },
    };
    let not_before = told.tried.map_or(due.at, |tried| tried.not_before);
    Some(Due {
        at: due.at.max(not_before),
        ..due
    })
}

/// What is kept of a message that was accepted.
pub fn accepted(
    alert: &AlertRecord,
    notifier: &str,
    before: Option<&DeliveryRecord>,
    say: Say,
    silences: &[SilenceRecord],
    now: Timestamp,
) -> DeliveryRecord {
    let mut members = before.map_or_else(BTreeSet::new, |before| before.members.clone());
    if say == Say::Firing {
        members.extend(audible(&alert.last, silences, now).map(|member| member.label()));
    }
    DeliveryRecord {
        alert: alert.id,
        notifier: notifier.to_owned(),
        accepted: before.map_or(0, |before| before.accepted).saturating_add(1),
        accepted_at: now,
        severity: alert.last.severity,
        members,
        round: alert.rounds,
        over: say == Say::Resolved,
    }
}

fn firing(
    alert: &AlertRecord,
    told: &Told<'_>,
    silences: &[SilenceRecord],
    settings: &Alerts,
    now: Timestamp,
) -> Timestamp {
    let (last, resend) = (&alert.last, told.resend);
    let silenced = silenced_until(last, silences, now);
    let acknowledged = acknowledgement(alert, now).map(|made| made.until);
    let held = acknowledged.max(silenced).filter(|_| !told.trial);
    match (told.delivery, held) {
        // It was told that this is over, which it is no more.
        (Some(delivery), _) if delivery.over && silenced.is_none() => delivery.accepted_at,
        // Whatever is held back, those who forget are told.
        (Some(delivery), Some(_)) if resend.is_some() && !delivery.over => resent(delivery, resend),
        (_, Some(until)) => until,
        (None, None) => engaged(alert, told, settings, now),
        (Some(delivery), None) => resent(delivery, resend)
            .min(repeated(alert, delivery, silences, settings, now))
            .min(held_until(alert, told.released, delivery, now).unwrap_or(Timestamp::MAX)),
    }
}

fn resent(delivery: &DeliveryRecord, resend: Option<Duration>) -> Timestamp {
    resend.map_or(Timestamp::MAX, |every| later(delivery.accepted_at, every))
}

/// When an acknowledgement or a silence ended after it was told last: what is still wrong then is told then.
fn held_until(
    alert: &AlertRecord,
    released: Option<Timestamp>,
    delivery: &DeliveryRecord,
    now: Timestamp,
) -> Option<Timestamp> {
    let acknowledged = alert.acknowledged.as_ref().map(|made| made.until);
    [acknowledged, released]
        .into_iter()
        .flatten()
        .filter(|ended| *ended <= now && *ended > delivery.accepted_at)
        .max()
}

/// The first is told at once, each further one when so much longer nobody acknowledged.
fn engaged(alert: &AlertRecord, told: &Told<'_>, settings: &Alerts, now: Timestamp) -> Timestamp {
    let acknowledged = alert.acknowledged.as_ref().map(|made| made.until);
    let ended = [acknowledged, told.released].into_iter().flatten();
    let since = ended
        .filter(|ended| *ended <= now)
        .fold(alert.escalates, Timestamp::max);
    // What is over waits for nobody.
    let life = alert.last.ends.map(|ends| left(Some(ends), now));
    let each = between_messages(settings.escalate_after, life.map(Option::unwrap_or_default));
    later(
        since,
        each.saturating_mul(u32::try_from(told.place).unwrap_or(u32::MAX)),
    )
}

/// At once when there is more to it than was told; else at a rising pace.
fn repeated(
    alert: &AlertRecord,
    delivery: &DeliveryRecord,
    silences: &[SilenceRecord],
    settings: &Alerts,
    now: Timestamp,
) -> Timestamp {
    let last = &alert.last;
    if last.severity > delivery.severity || alert.rounds > delivery.round || delivery.over {
        return delivery.accepted_at;
    }
    let more =
        audible(last, silences, now).any(|member| !delivery.members.contains(&member.label()));
    let pause = if more {
        // Hosts that follow each other into the same hole are told of together.
        settings.settle.min(settings.repeat_min)
    } else {
        pause(delivery.accepted, settings, last.ends, now)
    };
    later(
        delivery.accepted_at,
        between_messages(pause, left(last.ends, now)),
    )
}

/// Half as long each time. What has expired has no life left that could set the pace.
fn pause(accepted: u32, settings: &Alerts, ends: Option<Timestamp>, now: Timestamp) -> Duration {
    if ends.is_some_and(|ends| ends <= now) {
        return settings.repeat_min;
    }
    let halvings = accepted.saturating_sub(1).min(31);
    (settings.repeat_first / (1 << halvings)).max(settings.repeat_min)
}
