//! Nothing younger comes about: the CA doesn't issue, a preflight stands in the way, a renewal is overdue.
//!
//! All of these run out, which is told as expiry and pages then; here it is why, early. While orders are paused nothing
//! is said: whoever paused them knows.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{HostName, pace::pace, v1};
use jiff::{SignedDuration, Timestamp};

use super::{
    Alert, Class, Key, Member, Severity,
    age::Age,
    scene::{Certificate, Pair, Scene},
    text,
};
use crate::plan::{
    facts::{Failing, OrderStage},
    presence,
    renew::{RenewFacts, due_at, stable_jitter},
};

/// So many failures in a row are told, however soon it is tried again.
const FAILURES: u32 = 3;
/// A failure that is tried again within so long isn't told at once; paced by what life remains.
const SOON: Duration = Duration::from_secs(600);
/// A renewal is overdue after so long, or a tenth of the life that was left when it was planned.
const OVERDUE: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let mut by_authority: BTreeMap<&str, Vec<(&Certificate<'_>, &Failing)>> = BTreeMap::new();
    let mut alerts = Vec::new();
    for certificate in scene.certificates.iter().filter(|c| c.paused.is_none()) {
        if let Some(failing) = failing(certificate, scene.now) {
            let preferred = certificate.declared.authorities.first();
            by_authority
                .entry(preferred.map_or("", String::as_str))
                .or_default()
                .push((certificate, failing));
        } else if let Some(problem) = preflight_problem(scene, certificate) {
            alerts.push(preflight(scene, certificate, problem));
        } else {
            alerts.extend(overdue(scene, certificate));
        }
    }
    let orders = by_authority.into_iter();
    alerts.extend(orders.map(|(authority, failing)| order(scene, authority, failing)));
    alerts
}

/// Whether somebody should know that an order fails: a CA that is out of breath for a minute is no news at 02:00, while
/// one that couldn't validate, that makes wait for long, or that fails again and again, is.
fn failing<'a>(certificate: &'a Certificate<'_>, now: Timestamp) -> Option<&'a Failing> {
    let order = &certificate.known.order;
    let failing = order.failing.as_ref()?;
    let issued = certificate.known.issued.as_ref();
    let left = issued
        .map(|issued| Duration::try_from(now.duration_until(issued.not_after)).unwrap_or_default());
    let soon = signed(pace(SOON, left));
    let is_far = failing
        .again
        .is_some_and(|again| again.duration_since(failing.last) > soon);
    let is_old = issued.is_some_and(|issued| {
        super::age::age(issued.not_before, issued.not_after, now) >= Age::Quarter
    });
    (order.failures >= FAILURES || failing.validation || is_far || is_old).then_some(failing)
}

fn order(scene: &Scene<'_>, authority: &str, mut all: Vec<(&Certificate<'_>, &Failing)>) -> Alert {
    let now = scene.now;
    // What ends first matters first; what was never issued has no users yet.
    all.sort_by_key(|(certificate, _)| end(certificate).unwrap_or(Timestamp::MAX));
    let members: Vec<Member> = all
        .iter()
        .map(|(certificate, failing)| member(certificate, &failing.problem))
        .collect();
    let names = text::names(all.iter().map(|(certificate, _)| certificate.name));
    let since = all.iter().map(|(_, failing)| failing.since).min();
    let ends = members.iter().filter_map(|m| m.served_not_after).min();
    let (cause, next, command) = match all.first() {
        Some((first, failing)) => (
            text::cut(&order_cause(first, failing, now), text::CAUSE),
            text::next(scene, first),
            match failing.validation {
                // Each try by hand may be one more failure that the CA counts.
                true => format!("certwell explain {}", first.name),
                false => text::renew(first.name),
            },
        ),
        None => Default::default(),
    };
    Alert {
        key: Key {
            class: Class::OrderFailing,
            subject: authority.to_owned(),
        },
        severity: Severity::Warning,
        title: text::cut(&format!("{authority} does not issue {names}"), text::TITLE),
        cause,
        next,
        command,
        since,
        ends,
        members,
    }
}

fn order_cause(certificate: &Certificate<'_>, failing: &Failing, now: Timestamp) -> String {
    let name = certificate.name;
    let failures = match certificate.known.order.failures {
        0 | 1 => "It failed once".to_owned(),
        more => format!("It failed {more} times in a row"),
    };
    format!(
        "{} {failures}, first on {}. {}",
        text::sentence(&text::cut(
            &format!("{name}: {}", failing.problem),
            text::MEMBER
        )),
        text::at(failing.since, now),
        served(certificate, now)
    )
}

/// What is in the way of a preflight, where that is news: silent hosts are told as such.
fn preflight_problem<'a>(scene: &Scene<'_>, certificate: &'a Certificate<'_>) -> Option<&'a str> {
    let order = &certificate.known.order;
    if order.stage != OrderStage::Preflight {
        return None;
    }
    let is_silent = |host: &HostName| {
        let known = scene.facts.hosts.get(host);
        presence::life(known) == v1::HostLife::Enrolled
            && presence::silence(host, known, scene.now).is_some()
    };
    let hosts = &certificate.declared.challenge_hosts;
    let all_silent = !hosts.is_empty() && hosts.iter().all(is_silent);
    order.problem.as_deref().filter(|_| !all_silent)
}

fn preflight(scene: &Scene<'_>, certificate: &Certificate<'_>, problem: &str) -> Alert {
    let (now, name) = (scene.now, certificate.name);
    let all = &certificate.declared.challenge_hosts;
    let is_named = |host: &&HostName| {
        let words = problem.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        words.into_iter().any(|word| word == host.as_str())
    };
    let named: Vec<&HostName> = all.iter().filter(is_named).collect();
    let hosts = if named.is_empty() {
        all.iter().collect()
    } else {
        named
    };
    let pair = |host: &HostName| certificate.pairs.iter().find(|pair| pair.host == host);
    let members: Vec<Member> = hosts
        .iter()
        .map(|host| match pair(host) {
            Some(pair) => pair.member(problem),
            None => Member {
                host: Some((*host).clone()),
                address: None,
                ..member(certificate, problem)
            },
        })
        .collect();
    let on = match members.is_empty() {
        true => "no host".to_owned(),
        false => text::hosts(&members),
    };
    let issued = certificate.known.issued.as_ref();
    let pressing = issued
        .map(|issued| issued.not_after - issued.not_before.duration_until(issued.not_after) / 6);
    let next = match pressing {
        Some(at) if at > now => format!(
            "{name} is ordered as soon as one of them answers and none answers wrongly; whatever they answer on {}",
            text::at(at, now)
        ),
        Some(_) => format!("{name} is ordered all the same, now that little life is left"),
        None => format!(
            "{name} is ordered, for the first time, as soon as one of them answers and none answers wrongly; they are \
             asked again all the time, next by {}",
            text::at(now + signed(scene.facts.config.renewal.preflight_wait), now)
        ),
    };
    let cause = format!(
        "{} No order is placed before that. {}",
        text::sentence(&text::cut(problem, text::MEMBER)),
        served(certificate, now)
    );
    Alert {
        key: Key {
            class: Class::PreflightFailing,
            subject: name.to_string(),
        },
        severity: Severity::Warning,
        title: text::cut(
            &format!("{on} would not answer the CA for {name}"),
            text::TITLE,
        ),
        cause: text::cut(&cause, text::CAUSE),
        next: text::full_stop(text::cut(&next, text::NEXT)),
        command: match hosts.first() {
            Some(host) => text::doctor(host),
            None => format!("certwell explain {name}"),
        },
        since: None,
        ends: end(certificate),
        members,
    }
}

/// A renewal that was due, and neither fails nor comes about.
fn overdue(scene: &Scene<'_>, certificate: &Certificate<'_>) -> Option<Alert> {
    let (now, name) = (scene.now, certificate.name);
    let issued = certificate.known.issued.as_ref()?;
    let due = due_at(
        &RenewFacts {
            issued: Some(issued),
            changed: false,
            forced: false,
            pending: false,
            failures: &[],
            other_authority: false,
            window: None,
            jitter: stable_jitter(name.as_str(), issued.generation.0),
        },
        &scene.facts.config.renewal,
    );
    let patience = (due.duration_until(issued.not_after) / 10).min(OVERDUE);
    if now.duration_since(due) <= patience {
        return None;
    }
    let order = &certificate.known.order;
    let why = order.problem.clone().unwrap_or_else(|| {
        match order.stage {
            OrderStage::Idle | OrderStage::Waiting => "nothing is under way",
            OrderStage::Preflight => "its challenge hosts are being asked",
            OrderStage::Ordered(_) | OrderStage::Challenge(_) | OrderStage::Finalizing(_) => {
                "an order is under way"
            }
        }
        .to_owned()
    });
    let cause = format!(
        "Generation {} was to be renewed on {}, and no younger one is there: {} {}",
        issued.generation,
        text::at(due, now),
        text::sentence(&why),
        served(certificate, now)
    );
    Some(Alert {
        key: Key {
            class: Class::RenewalOverdue,
            subject: name.to_string(),
        },
        severity: Severity::Warning,
        title: text::cut(&format!("the renewal of {name} is overdue"), text::TITLE),
        cause: text::cut(&cause, text::CAUSE),
        next: text::next(scene, certificate),
        command: text::renew(name),
        since: Some(due),
        ends: end(certificate),
        members: vec![member(certificate, &why)],
    })
}

/// Of a certificate as a whole, with what of it is served and ends first.
fn member(certificate: &Certificate<'_>, why: &str) -> Member {
    let first = first(certificate);
    Member {
        host: None,
        address: None,
        certificate: Some(certificate.name.clone()),
        text: text::cut(why, text::MEMBER),
        served: first.map_or(String::new(), Pair::serves),
        served_not_after: end(certificate),
    }
}

fn first<'a>(certificate: &'a Certificate<'_>) -> Option<&'a Pair<'a>> {
    let pairs = certificate
        .pairs
        .iter()
        .filter(|pair| pair.served.is_some());
    pairs.min_by_key(|pair| pair.served.as_ref().map(|served| served.not_after))
}

fn end(certificate: &Certificate<'_>) -> Option<Timestamp> {
    Some(first(certificate)?.served.as_ref()?.not_after)
}

fn served(certificate: &Certificate<'_>, now: Timestamp) -> String {
    let first = first(certificate);
    match first.and_then(|pair| Some((pair, pair.served.as_ref()?))) {
        Some((pair, served)) => format!(
            "Meanwhile {} serves {} until {}.",
            pair.host,
            served.what,
            text::at(served.not_after, now)
        ),
        None => "Nothing of it is served yet.".to_owned(),
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
