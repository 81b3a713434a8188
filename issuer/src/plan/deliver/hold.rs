//! What holds messages back: somebody knows already, or somebody works there.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::{
    plan::alert::{Alert, Class, Member, Severity},
    store::{AcknowledgementRecord, AlertRecord, SilenceRecord},
};

/// The acknowledgement that holds now. One that was made for less doesn't: of a warning it says nothing of a page, and
/// of one host nothing of another, for whoever made it didn't know. Nor does one of the future: the clock was ahead.
pub fn acknowledgement(alert: &AlertRecord, now: Timestamp) -> Option<&AcknowledgementRecord> {
    alert.acknowledged.as_ref().filter(|made| {
        let known = |member: &Member| made.members.contains(&member.label());
        made.at <= now
            && now < made.until
            && alert.last.severity <= made.severity
            && alert.last.members.iter().all(known)
    })
}

/// Until when silences hold back all that is to be told of an alert; `None` while one thing of it is in no silence.
pub fn silenced_until(
    alert: &Alert,
    silences: &[SilenceRecord],
    now: Timestamp,
) -> Option<Timestamp> {
    if never(alert) {
        return None;
    }
    if alert.members.is_empty() {
        return latest(silences, |silence| matches(silence, alert, None), now);
    }
    let each = alert.members.iter();
    each.map(|member| member_silenced_until(alert, member, silences, now))
        .min()
        .flatten()
}

/// What silences held back of an alert when it was last looked at.
#[derive(Debug, Clone, Default)]
pub struct Held(Option<(Severity, BTreeSet<String>)>);

impl Held {
    /// Looks anew: whether a silence has ended that held all of this back. That there is more to an alert than was silenced
    /// is no end: it is news, which has its own pace.
    pub fn ends(&mut self, alert: &Alert, silences: &[SilenceRecord], now: Timestamp) -> bool {
        let labels = || alert.members.iter().map(|member| member.label());
        if silenced_until(alert, silences, now).is_some() {
            self.0 = Some((alert.severity, labels().collect()));
            return false;
        }
        self.0.take().is_some_and(|(severity, members)| {
            alert.severity <= severity && labels().all(|label| members.contains(&label))
        })
    }
}

/// The members that aren't silenced, by their labels.
pub(super) fn audible<'a>(
    alert: &'a Alert,
    silences: &'a [SilenceRecord],
    now: Timestamp,
) -> impl Iterator<Item = &'a Member> {
    alert.members.iter().filter(move |member| {
        never(alert) || member_silenced_until(alert, member, silences, now).is_none()
    })
}

fn member_silenced_until(
    alert: &Alert,
    member: &Member,
    silences: &[SilenceRecord],
    now: Timestamp,
) -> Option<Timestamp> {
    latest(
        silences,
        |silence| matches(silence, alert, Some(member)),
        now,
    )
}

/// An expiry that pages is never silenced, whoever renews the certificate: that is what went unnoticed once.
fn never(alert: &Alert) -> bool {
    matches!(alert.key.class, Class::Expiry | Class::UnmanagedExpiring)
        && alert.severity == Severity::Page
}

fn latest(
    silences: &[SilenceRecord],
    wanted: impl Fn(&SilenceRecord) -> bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let ends = silences.iter().filter(|silence| wanted(silence));
    ends.filter(|silence| silence.since <= now)
        .map(|silence| silence.until)
        .filter(|until| *until > now)
        .max()
}

fn matches(silence: &SilenceRecord, alert: &Alert, member: Option<&Member>) -> bool {
    let host = silence
        .host
        .as_ref()
        .is_none_or(|host| member.is_some_and(|member| member.host.as_ref() == Some(host)));
    let certificate = silence.certificate.as_ref().is_none_or(|name| {
        alert.key.subject == name.as_str()
            || member.is_some_and(|member| member.certificate.as_ref() == Some(name))
    });
    let class = silence.class.is_none_or(|class| class == alert.key.class);
    host && certificate && class
}
