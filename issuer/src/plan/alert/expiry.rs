//! What is served ends soon, or has ended. Nothing hides it: no pause, no hold, no silence of a host, no recovery.

use std::{collections::BTreeSet, net::SocketAddr};

use certwell_proto::HostName;
use jiff::Timestamp;

use super::{
    Alert, Class, Key, Member, Severity,
    age::{Age, Served, words_of},
    install,
    scene::{Certificate, Pair, Scene},
    text,
};
use crate::plan::{
    seen::{
        Shown,
        verdict::{Whose, covers},
    },
    words,
};

/// A certificate somewhere, in its last quarter or past its end.
struct Ageing<'a> {
    /// A host of the certificate; `None`: it is only seen from outside, where none of them is.
    pair: Option<&'a Pair<'a>>,
    /// Where it is seen from outside; `None`: the host itself says so.
    address: Option<SocketAddr>,
    served: Served,
    member: Member,
}

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let certificates = scene.certificates.iter();
    certificates.filter_map(|c| alert(scene, c)).collect()
}

fn alert(scene: &Scene<'_>, certificate: &Certificate<'_>) -> Option<Alert> {
    let now = scene.now;
    let by_agents = certificate.pairs.iter();
    let by_agents = by_agents.filter_map(|pair| ageing(scene, certificate, pair));
    let mut ageing: Vec<Ageing<'_>> = by_agents.chain(seen(scene, certificate)).collect();
    // What ends first is told first.
    ageing.sort_by_key(|one| (std::cmp::Reverse(one.served.age(now)), one.served.not_after));
    let mut places = BTreeSet::new();
    ageing.retain(|one| places.insert(one.place()));
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
        address: None,
        member: pair.member(&why),
        served,
    })
}

/// What is served by what is seen from outside, a stranger's leaf as well as ours: users get it, whatever agents say.
fn seen<'a>(
    scene: &'a Scene<'_>,
    certificate: &'a Certificate<'_>,
) -> impl Iterator<Item = Ageing<'a>> {
    let (now, name) = (scene.now, certificate.name);
    let looks = scene.looks.trusted();
    let looks = looks.filter(move |look| look.spot.certificate == *name);
    looks.filter_map(move |look| {
        let Shown::Leaf(leaf) = &look.sighting.shown else {
            return None;
        };
        let what = match scene.seen.whose(name, leaf) {
            Whose::Its(generation) => format!("generation {generation}"),
            Whose::Strangers => "a certificate that isn't certwell's".to_owned(),
            // Whoever comes for the name gets it there, and nothing else tells of it.
            Whose::Another(other)
                if covers(&leaf.covers, &look.spot.name)
                    && !scene.seen.is_assigned(other, look.spot) =>
            {
                format!("the certificate {other}")
            }
            // Told with that one.
            Whose::Another(_) => return None,
        };
        let host = scene.seen.host(look.spot);
        let pair = certificate
            .pairs
            .iter()
            .find(|pair| Some(pair.host) == host.as_ref());
        // The host has proven since that it serves something else by now.
        let proven = pair.and_then(|pair| pair.judged.served.as_ref());
        if proven.is_some_and(|proven| proven.at_ms > look.sighting.at.as_millisecond()) {
            return None;
        }
        let served = Served {
            what,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        };
        if served.age(now) == Age::Young {
            return None;
        }
        let at = look.spot.address.map(|address| address.to_string());
        let why = format!(
            "seen from outside at {}: {}",
            at.unwrap_or_default(),
            words_of(&served, now)
        );
        Some(Ageing {
            pair,
            address: look.spot.address,
            member: Member {
                host,
                address: None,
                certificate: Some(name.clone()),
                text: text::cut(&why, text::MEMBER),
                served: served.what.clone(),
                served_not_after: Some(served.not_after),
            },
            served,
        })
    })
}

impl Ageing<'_> {
    /// One member for each host, and for each address that is no host's.
    fn place(&self) -> (Option<HostName>, Option<SocketAddr>) {
        let host = self.member.host.clone();
        let address = self.address.filter(|_| host.is_none());
        (host, address)
    }

    /// In a sentence.
    fn who(&self) -> String {
        let address = self.address.map(|address| address.to_string());
        match (&self.member.host, address) {
            (Some(host), None) => host.to_string(),
            (Some(host), Some(address)) => format!("{host}, seen from outside at {address},"),
            (None, address) => address.unwrap_or_default(),
        }
    }
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
    let hosts = match members.iter().any(|member| member.host.is_some()) {
        true => text::hosts(members),
        false => "an address to which DNS leads".to_owned(),
    };
    let title = format!(
        "{} {verb} {} on {hosts}",
        certificate.name,
        words::relative(end, now),
    );
    text::cut(&title, text::TITLE)
}

fn cause(scene: &Scene<'_>, certificate: &Certificate<'_>, worst: &Ageing<'_>) -> String {
    let (now, served) = (scene.now, &worst.served);
    let who = worst.who();
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
        // Only from outside it is seen: another generation wouldn't change that.
        Some(pair) if worst.address.is_some() => {
            format!("ssh {} certwell-agent inventory", pair.host)
        }
        None => format!("certwell explain {}", certificate.name),
        Some(pair) if lags(certificate, pair) && certificate.paused.is_none() => {
            text::doctor(pair.host)
        }
        _ if certificate.known.paused => format!("certwell resume {}", certificate.name),
        _ if certificate.paused.is_some() => "certwell resume".to_owned(),
        _ => text::renew(certificate.name),
    }
}
