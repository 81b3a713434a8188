//! What is served ends soon, or has ended. Nothing hides it: no pause, no hold, no silence of a host, no recovery.

use jiff::Timestamp;

use super::{
    Alert, Class, Key, Member, Severity,
    age::{Age, Served, words_of},
    install,
    scene::{Certificate, Pair, Scene},
    text,
};
use crate::plan::words;

/// A certificate somewhere, in its last quarter or past its end.
struct Ageing<'a> {
    /// The host; `None`: it is only seen from outside, at an address that is no host's.
    pair: Option<&'a Pair<'a>>,
    served: Served,
    member: Member,
}

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let certificates = scene.certificates.iter();
    certificates.filter_map(|c| alert(scene, c)).collect()
}

fn alert(scene: &Scene<'_>, certificate: &Certificate<'_>) -> Option<Alert> {
    let now = scene.now;
    let mut ageing: Vec<Ageing<'_>> = certificate
        .pairs
        .iter()
        .filter_map(|pair| ageing(scene, certificate, pair))
        .collect();
    // What ends first is told first.
    ageing.sort_by_key(|one| (std::cmp::Reverse(one.served.age(now)), one.served.not_after));
    let worst = ageing.first()?;
    let (age, end) = (worst.served.age(now), worst.served.not_after);
    let severity = match age {
        Age::Eighth | Age::Over => Severity::Page,
        Age::Young | Age::Quarter => Severity::Warning,
    };
    let (cause, next, command) = (
        cause(scene, certificate, worst),
        next(scene, certificate, worst),
        command(certificate, worst),
    );
    let since = ageing.iter().map(|one| one.served.since(now)).min();
    let members: Vec<Member> = ageing.into_iter().map(|one| one.member).collect();
    Some(Alert {
        key: Key {
            class: Class::Expiry,
            subject: certificate.name.to_string(),
        },
        severity,
        title: title(certificate, &members, age, end, now),
        cause,
        next,
        command,
        since,
        ends: Some(end),
        members,
    })
}

fn ageing<'a>(
    scene: &Scene<'_>,
    certificate: &Certificate<'_>,
    pair: &'a Pair<'a>,
) -> Option<Ageing<'a>> {
    let served = pair.served.clone()?;
    if served.age(scene.now) == Age::Young {
        return None;
    }
    let why = in_the_way(certificate, pair).unwrap_or_else(|| words_of(&served, scene.now));
    Some(Ageing {
        pair: Some(pair),
        member: pair.member(&why),
        served,
    })
}

fn title(
    certificate: &Certificate<'_>,
    members: &[Member],
    age: Age,
    end: Timestamp,
    now: Timestamp,
) -> String {
    let verb = match age {
        Age::Over => "expired",
        _ => "expires",
    };
    let title = format!(
        "{} {verb} {} on {}",
        certificate.name,
        words::relative(end, now),
        text::hosts(members)
    );
    text::cut(&title, text::TITLE)
}

fn cause(scene: &Scene<'_>, certificate: &Certificate<'_>, worst: &Ageing<'_>) -> String {
    let (now, served) = (scene.now, &worst.served);
    let who = worst.member.host.as_ref();
    let who = who.map_or("an address of its name".to_owned(), ToString::to_string);
    let ends = match served.age(now) {
        Age::Over => format!("which expired on {}", text::at(served.not_after, now)),
        _ => format!("valid until {}", text::at(served.not_after, now)),
    };
    let mut cause = format!(
        "{who} serves {} of {}, {ends}: {}.",
        served.what,
        certificate.name,
        words_of(served, now)
    );
    let why = worst.pair.and_then(|pair| in_the_way(certificate, pair));
    if let Some(why) = why {
        cause.push(' ');
        cause.push_str(&text::sentence(&format!("In the way: {why}")));
    }
    text::cut(&cause, text::CAUSE)
}

/// Why this host has nothing younger: of the host where it lags behind, else of the issuance.
fn in_the_way(certificate: &Certificate<'_>, pair: &Pair<'_>) -> Option<String> {
    if lags(certificate, pair) {
        return pair.judged.cause.clone();
    }
    let order = &certificate.known.order;
    let failing = order
        .failing
        .as_ref()
        .map(|failing| failing.problem.clone());
    let mut causes = order.problem.clone().into_iter().chain(failing);
    certificate.paused.clone().or_else(|| causes.next())
}

/// Whether a younger generation is there that this host doesn't serve.
fn lags(certificate: &Certificate<'_>, pair: &Pair<'_>) -> bool {
    let newest = certificate.known.issued.as_ref();
    let served = pair.served.as_ref();
    newest
        .zip(served)
        .is_some_and(|(newest, served)| newest.not_after > served.not_after)
}

fn next(scene: &Scene<'_>, certificate: &Certificate<'_>, worst: &Ageing<'_>) -> String {
    match worst.pair {
        Some(pair) if lags(certificate, pair) => install::next(scene, certificate, pair),
        _ => text::next(scene, certificate),
    }
}

fn command(certificate: &Certificate<'_>, worst: &Ageing<'_>) -> String {
    match worst.pair {
        Some(pair) if lags(certificate, pair) && certificate.paused.is_none() => {
            text::doctor(pair.host)
        }
        _ if certificate.known.paused => format!("certwell resume {}", certificate.name),
        _ if certificate.paused.is_some() => "certwell resume".to_owned(),
        _ => text::renew(certificate.name),
    }
}
