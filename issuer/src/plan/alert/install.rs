//! What is desired isn't served: the host can't install it, or it just doesn't come about.
//!
//! Who keeps his hands on a certificate knows that it lags; so nothing is said of hosts that are held by hand, paused
//! or revoked. What they serve ages all the same, and that is told.

use std::time::Duration;

use certwell_proto::{pace::pace, v1};
use jiff::{SignedDuration, Timestamp};

use super::{
    Alert, Class, Key, Member, Severity, lagging,
    scene::{Certificate, Pair, Scene},
    text,
};
use crate::plan::seen::Kind;
use v1::{HostState, ListenerState, Outcome};

/// An agent tries again at the latest after so long, paced by what life remains.
const RETRY: Duration = Duration::from_secs(300);

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let certificates = scene.certificates.iter();
    certificates
        .flat_map(|certificate| {
            [
                alert(scene, certificate, Class::InstallFailing),
                alert(scene, certificate, Class::NotServed),
            ]
        })
        .flatten()
        .collect()
}

/// Which of the two a host is to be told in, if in any.
fn class_of(scene: &Scene<'_>, certificate: &Certificate<'_>, pair: &Pair<'_>) -> Option<Class> {
    let now = scene.now;
    let issued_at = certificate.known.issued_at()?;
    if !pair.is_enrolled() || pair.is_held_by_hand() {
        return None;
    }
    let late = now.duration_since(issued_at) > signed(pair.patience);
    match (pair.judged.state, pair.outcome) {
        (HostState::Silent | HostState::Converged, _) => None,
        // What a host refused it doesn't try again, so nothing is waited for.
        (_, Some(Outcome::Rejected | Outcome::Regressed)) => Some(Class::InstallFailing),
        (_, Some(Outcome::Held | Outcome::NotApplied)) if late => Some(Class::InstallFailing),
        (_, Some(Outcome::Held | Outcome::NotApplied)) => None,
        _ if is_held_back(certificate, pair) => None,
        // The same fault, as users see it.
        _ if is_seen(scene, pair) => None,
        _ if late => Some(Class::NotServed),
        _ => None,
    }
}

/// Whether it wasn't drawn because nothing is offered.
fn is_held_back(certificate: &Certificate<'_>, pair: &Pair<'_>) -> bool {
    let fetched = pair.seen.and_then(|seen| seen.facts.fetched.as_ref());
    let desired = certificate.desired().0;
    certificate.paused.is_some() && fetched.is_none_or(|fetched| fetched.generation < desired)
}

fn alert(scene: &Scene<'_>, certificate: &Certificate<'_>, class: Class) -> Option<Alert> {
    let now = scene.now;
    let concerned: Vec<&Pair<'_>> = certificate
        .pairs
        .iter()
        .filter(|pair| class_of(scene, certificate, pair) == Some(class))
        .collect();
    let breaks = |pair: &&&Pair<'_>| breaks(scene, pair);
    let Some(first) = concerned.iter().find(breaks).or(concerned.first()).copied() else {
        return (class == Class::NotServed)
            .then(|| lagging::alert(scene, certificate))
            .flatten();
    };
    let severity = match concerned.iter().any(|pair| breaks(&pair)) {
        true => Severity::Page,
        false => Severity::Warning,
    };
    let mut members: Vec<Member> = concerned
        .iter()
        .map(|pair| pair.member(&why(certificate, pair)))
        .collect();
    if class == Class::NotServed {
        members.extend(lagging::members(scene, certificate));
    }
    let (name, desired) = (certificate.name, certificate.desired());
    let hosts = text::hosts(&members);
    let title = match class {
        Class::InstallFailing => format!("{hosts} can't install generation {desired} of {name}"),
        _ => format!("generation {desired} of {name} is not served on {hosts}"),
    };
    Some(Alert {
        key: Key {
            class,
            subject: name.to_string(),
        },
        severity,
        title: text::cut(&title, text::TITLE),
        cause: cause(certificate, first, now),
        next: next(scene, certificate, first),
        command: text::doctor(first.host),
        since: since(certificate, &concerned),
        ends: members.iter().filter_map(|m| m.served_not_after).min(),
        members,
    })
}

/// Whether it is seen from outside that another certificate, or nobody, answers there: told as that.
fn is_seen(scene: &Scene<'_>, pair: &Pair<'_>) -> bool {
    scene.findings.iter().any(|finding| {
        finding.certificate == *pair.name
            && finding.host.as_ref() == Some(pair.host)
            && matches!(finding.kind, Kind::Stranger | Kind::OtherVhost | Kind::Down)
    })
}

/// Whether users get no answer there, or another's certificate, now. Where that is seen from outside, it pages as such.
fn breaks(scene: &Scene<'_>, pair: &Pair<'_>) -> bool {
    if is_seen(scene, pair) {
        return false;
    }
    let listeners = pair.judged.served.as_ref().map(|served| &served.listeners);
    let mut listeners = listeners.into_iter().flatten();
    listeners.any(|listener| {
        matches!(
            listener.state(),
            ListenerState::Down | ListenerState::Stranger
        )
    })
}

fn why(certificate: &Certificate<'_>, pair: &Pair<'_>) -> String {
    pair.judged.cause.clone().unwrap_or_else(|| {
        format!(
            "{} does not serve generation {} yet",
            pair.host,
            certificate.desired()
        )
    })
}

fn cause(certificate: &Certificate<'_>, pair: &Pair<'_>, now: Timestamp) -> String {
    let (serves, ends) = (pair.serves(), pair.served.as_ref().map(|s| s.not_after));
    let served = match (serves.as_str(), ends) {
        ("", _) => format!("{} serves nothing of it that is known", pair.host),
        (what, None) => format!("{} serves {what}", pair.host),
        (what, Some(end)) if end <= now => {
            format!(
                "{} serves {what}, which expired on {}",
                pair.host,
                text::at(end, now)
            )
        }
        (what, Some(end)) => {
            format!(
                "{} serves {what}, valid until {}",
                pair.host,
                text::at(end, now)
            )
        }
    };
    let issued = certificate.known.issued.as_ref();
    let issued = issued.map_or(String::new(), |issued| {
        format!(
            " Generation {} was issued on {}.",
            issued.generation,
            text::at(issued.at, now)
        )
    });
    let why = text::cut(&why(certificate, pair), text::MEMBER);
    let why = text::sentence(&why);
    text::cut(&format!("{why} Meanwhile {served}.{issued}"), text::CAUSE)
}

/// When the generation that isn't served was issued, or the host last got on with it.
fn since(certificate: &Certificate<'_>, concerned: &[&Pair<'_>]) -> Option<Timestamp> {
    let issued = certificate.known.issued_at()?;
    let starts = concerned.iter().map(|pair| {
        let facts = pair.seen.map(|seen| &seen.facts);
        let fetched = facts.and_then(|facts| facts.fetched.as_ref());
        let fetched = fetched.filter(|fact| fact.generation == certificate.desired().0);
        fetched
            .and_then(|fact| Timestamp::from_millisecond(fact.at_ms).ok())
            .map_or(issued, |at| at.max(issued))
    });
    starts.min()
}

/// What a host does next about the generation that it doesn't serve, and when.
pub(super) fn next(scene: &Scene<'_>, certificate: &Certificate<'_>, pair: &Pair<'_>) -> String {
    let (host, desired, now) = (pair.host, certificate.desired(), scene.now);
    let after = || text::next(scene, certificate);
    let told = match (pair.judged.state, pair.outcome) {
        (HostState::Silent, _) => {
            format!(
                "{host} draws generation {desired} once its agent is back. {}",
                after()
            )
        }
        (_, Some(Outcome::Rejected)) => {
            format!("{host} takes generation {desired} no more. {}", after())
        }
        _ if pair.is_held_by_hand() => {
            format!("{host} goes on when the hold by hand ends. {}", after())
        }
        _ if is_held_back(certificate, pair) => after(),
        _ => {
            let left = pair.served.as_ref().map(|served| {
                Duration::try_from(now.duration_until(served.not_after)).unwrap_or_default()
            });
            // As hurried as an agent's own retries get.
            let latest = pace(RETRY, left).max(Duration::from_secs(10));
            format!(
                "{host} tries again by itself, also when its configuration changes, at the latest on {}",
                text::at(now + signed(latest), now)
            )
        }
    };
    text::full_stop(text::cut(&told, text::NEXT))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
