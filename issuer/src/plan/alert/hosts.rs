//! No word from hosts. What they serve ages, which is told as expiry; here it is that nobody can renew it.

use certwell_proto::{HostName, Leaf, pace::pace, v1};
use jiff::{SignedDuration, Timestamp};

use super::{
    Alert, Class, Key, Member, Severity,
    age::Served,
    scene::{Pair, Scene},
    text,
};
use crate::plan::{
    facts::{HostFacts, shortest_life},
    presence::{self, PATIENCE},
    words,
};

/// A host that is to be there and isn't.
struct Silent<'a> {
    host: &'a HostName,
    /// Why, one sentence.
    why: String,
    since: Option<Timestamp>,
    /// Only a new join token brings it back.
    needs_token: bool,
    /// What of all that it serves ends first.
    first: Option<(&'a Pair<'a>, &'a Served)>,
}

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let hosts = scene.facts.config.hosts.keys();
    let silent: Vec<Silent<'_>> = hosts.filter_map(|host| silent(scene, host)).collect();
    alert(scene, &silent).into_iter().collect()
}

fn silent<'a>(scene: &'a Scene<'_>, host: &'a HostName) -> Option<Silent<'a>> {
    let known = scene.facts.hosts.get(host)?;
    // One that never joined is on somebody's list of things to do; a revoked or retired one was sent away.
    if presence::life(Some(known)) != v1::HostLife::Enrolled {
        return None;
    }
    let now = scene.now;
    let expired = identity_end(known).filter(|end| *end <= now);
    if known.connected && expired.is_none() {
        return None;
    }
    let first = scene
        .pairs()
        .filter(|pair| pair.host == host)
        .filter_map(|pair| Some((pair, pair.served.as_ref()?)))
        .min_by_key(|(_, served)| served.not_after);
    // What has expired would have it silent with every connection that is made anew.
    let ends = first.map(|(_, served)| served.not_after);
    let patience = pace(PATIENCE, shortest_life(ends.into_iter(), now));
    // After a start of the issuer agents have yet to come back.
    let started = scene.facts.sightings.since;
    let is_early = now.duration_since(started)
        <= SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
    let silence = presence::silence_after(host, Some(known), patience, now).filter(|_| !is_early);
    let why = match (expired, silence) {
        (None, None) => return None,
        (Some(end), _) => format!(
            "the identity of {host} expired on {}, so its agent is let in no more",
            text::at(end, now)
        ),
        (None, Some(silence)) => silence,
    };
    Some(Silent {
        host,
        why,
        since: presence::last_seen(Some(known)).or(expired),
        needs_token: expired.is_some(),
        first,
    })
}

fn identity_end(known: &HostFacts) -> Option<Timestamp> {
    let record = known.record.as_ref()?;
    Leaf::read(&record.identity).ok().map(|leaf| leaf.not_after)
}

fn alert(scene: &Scene<'_>, silent: &[Silent<'_>]) -> Option<Alert> {
    let now = scene.now;
    let one = silent.first()?;
    let members: Vec<Member> = silent.iter().map(member).collect();
    let ends = members.iter().filter_map(|m| m.served_not_after).min();
    let hosts = text::hosts(&members);
    let since = silent.iter().filter_map(|silent| silent.since).min();
    let title = match since {
        Some(since) => format!("no word from {hosts} since {}", words::relative(since, now)),
        None => format!("no word from {hosts}"),
    };
    let command = match silent {
        [one] if one.needs_token => format!("certwell token create --host {}", one.host),
        [one] => text::doctor(one.host),
        _ => "certwell hosts list".to_owned(),
    };
    Some(Alert {
        key: Key {
            class: Class::HostSilent,
            subject: String::new(),
        },
        // What it serves ends, or is seen to be down: each is an alert of its own, and pages.
        severity: Severity::Warning,
        title: text::cut(&title, text::TITLE),
        cause: cause(one, silent.len(), now),
        next: next(scene, silent),
        command,
        since,
        ends,
        members,
    })
}

fn member(silent: &Silent<'_>) -> Member {
    Member {
        host: Some(silent.host.clone()),
        address: None,
        certificate: silent.first.map(|(pair, _)| pair.name.clone()),
        text: text::cut(&silent.why, text::MEMBER),
        served: silent
            .first
            .map_or(String::new(), |(_, served)| served.what.clone()),
        served_not_after: silent.first.map(|(_, served)| served.not_after),
    }
}

fn cause(one: &Silent<'_>, all: usize, now: Timestamp) -> String {
    let mut cause = text::sentence(&one.why);
    if let Some((pair, served)) = one.first {
        let ends = text::at(served.not_after, now);
        cause.push_str(&format!(
            " It goes on serving what it had: {} of {}, valid until {ends}, ends first.",
            served.what, pair.name
        ));
    }
    if all > 1 {
        cause.push_str(&format!(
            " And so {} more: is the issuer's own network up?",
            words::count(all - 1, "host")
        ));
    }
    text::cut(&cause, text::CAUSE)
}

/// What waits for them.
fn next(scene: &Scene<'_>, silent: &[Silent<'_>]) -> String {
    let on_these = |host: &HostName| silent.iter().any(|silent| silent.host == host);
    let first = scene
        .certificates
        .iter()
        .filter(|certificate| certificate.pairs.iter().any(|pair| on_these(pair.host)))
        .min_by_key(|certificate| certificate.known.order.next_at.unwrap_or(Timestamp::MAX));
    let comes = match silent {
        [one] if one.needs_token => {
            format!("Nothing by itself before {} has joined again.", one.host)
        }
        _ => "An agent connects again by itself, within a minute of being able to.".to_owned(),
    };
    let told = match first {
        Some(certificate) => format!("{comes} {}", text::next(scene, certificate)),
        None => comes,
    };
    text::full_stop(text::cut(&told, text::NEXT))
}
