//! The issuer itself, and who comes to it: its machine, its configuration, identities that aren't good any more.

use certwell_proto::v1;
use jiff::{SignedDuration, Timestamp};

use super::{Alert, Class, Key, Member, Severity, scene::Scene, text};
use crate::plan::{
    facts::Intruder,
    health::{self, Ailment},
    presence, words,
};

/// Whoever was refused last so long ago has gone away.
const GONE: SignedDuration = SignedDuration::from_hours(1);
/// The machine is looked at so often.
const LOOK: SignedDuration = SignedDuration::from_mins(1);

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let (facts, now) = (scene.facts, scene.now);
    let machine = [
        (
            Class::IssuerDisk,
            health::disk(&facts.issuer),
            "certwell status",
        ),
        (
            Class::IssuerClock,
            health::clock(facts, now),
            "certwell status",
        ),
        (
            Class::BackupOld,
            health::backup(facts, now),
            "certwell-issuer backup",
        ),
    ];
    let machine = machine
        .into_iter()
        .filter_map(|(class, ailment, command)| Some(ailing(scene, class, &ailment?, command)));
    machine
        .chain(refused_config(scene))
        .chain(intruders(scene))
        .chain(too_far(scene))
        .collect()
}

fn alone(class: Class, severity: Severity, title: &str) -> Alert {
    Alert {
        key: Key {
            class,
            subject: String::new(),
        },
        severity,
        title: text::cut(title, text::TITLE),
        cause: String::new(),
        next: String::new(),
        command: String::new(),
        since: None,
        ends: None,
        members: Vec::new(),
    }
}

fn ailing(scene: &Scene<'_>, class: Class, ailment: &Ailment, command: &str) -> Alert {
    let next = match class {
        Class::BackupOld => format!(
            "certwell-issuer-backup.timer makes one each day, where it is enabled; whether there is one is looked for again by {}",
            text::at(scene.now + LOOK, scene.now)
        ),
        _ => format!(
            "The issuer goes on as well as it can, and looks again by {}; {}",
            text::at(scene.now + LOOK, scene.now),
            planned(scene)
        ),
    };
    Alert {
        cause: text::sentence(&text::cut(
            &format!("On the issuer's machine: {}", ailment.text),
            text::CAUSE,
        )),
        next: text::full_stop(text::cut(&next, text::NEXT)),
        command: command.to_owned(),
        since: ailment.since,
        ..alone(class, ailment.severity, &ailment.title)
    }
}

/// What comes next of all that is planned.
fn planned(scene: &Scene<'_>) -> String {
    let planned = scene.certificates.iter().filter(|c| c.paused.is_none());
    let planned = planned.filter_map(|c| Some((c.known.order.next_at?, c.name)));
    match planned.min() {
        Some((at, name)) => format!(
            "the next renewal is that of {name}, on {}",
            text::at(at.max(scene.now), scene.now)
        ),
        None => "no renewal is planned".to_owned(),
    }
}

fn refused_config(scene: &Scene<'_>) -> Option<Alert> {
    let problem = scene.facts.config_problem.as_ref()?;
    let title = "an edit of the issuer's configuration is refused";
    Some(Alert {
        cause: text::sentence(&text::cut(
            &format!(
                "The last good configuration stays in force, a newer one has a mistake: {problem}"
            ),
            text::CAUSE,
        )),
        next: text::full_stop(text::cut(
            &format!(
                "It is read again at its next change; by the last good one {}",
                planned(scene)
            ),
            text::NEXT,
        )),
        command: "certwell-issuer check".to_owned(),
        ..alone(Class::ConfigRefused, Severity::Warning, title)
    })
}

fn intruders(scene: &Scene<'_>) -> Option<Alert> {
    let now = scene.now;
    let mut here: Vec<(_, &Intruder)> = scene
        .facts
        .intruders
        .iter()
        .filter(|(_, intruder)| now.duration_since(intruder.last) <= GONE)
        .collect();
    here.sort_by_key(|(_, intruder)| std::cmp::Reverse(intruder.last));
    let (host, last) = here.first()?;
    let members: Vec<Member> = here
        .iter()
        .map(|(host, intruder)| Member {
            host: Some((*host).clone()),
            address: None,
            certificate: None,
            text: text::cut(&intruder.why, text::MEMBER),
            served: String::new(),
            served_not_after: None,
        })
        .collect();
    let hosts = text::names(here.iter().map(|(host, _)| host));
    let cause = format!(
        "{} It was refused {} since {}, last on {}; it gets nothing. Either that machine still runs, or somebody has its keys.",
        text::sentence(&text::cut(&last.why, text::MEMBER)),
        words::times(last.calls),
        text::at(last.first, now),
        text::at(last.last, now),
    );
    let title = format!("somebody comes with an identity of {hosts} that isn't good any more");
    Some(Alert {
        cause: text::cut(&cause, text::CAUSE),
        next: format!(
            "Every call is refused, as before; this is over once none came for {}, by {} if that was the last.",
            words::span(GONE.as_secs()),
            text::at(last.last + GONE, now)
        ),
        command: match scene.facts.config.hosts.contains_key(*host) {
            true => format!("certwell hosts show {host}"),
            false => "certwell hosts list".to_owned(),
        },
        since: here.iter().map(|(_, intruder)| intruder.first).min(),
        members,
        ..alone(Class::RevokedIdentity, Severity::Warning, &title)
    })
}

fn too_far(scene: &Scene<'_>) -> Option<Alert> {
    let recovery = scene.facts.recovery.as_ref()?;
    let is_there = |host| presence::life(scene.facts.hosts.get(host)) == v1::HostLife::Enrolled;
    let pairs = scene.pairs().filter(|pair| is_there(pair.host));
    let claims: Vec<_> = pairs
        .filter_map(|pair| {
            let claim = (pair.name.clone(), pair.host.clone());
            let generation = recovery.too_far.get(&claim)?;
            let why = format!(
                "{} claims generation {generation} of {}, too far ahead of all that is known to be believed",
                pair.host, pair.name
            );
            Some((pair, pair.member(&why), why))
        })
        .collect();
    let (first, _, why) = claims.first()?;
    let title = format!(
        "{} claims a generation that can't be",
        text::names(claims.iter().map(|(pair, ..)| pair.host))
    );
    let served = match first.served.as_ref() {
        Some(served) => format!(
            " {} serves {}, valid until {}.",
            first.host,
            served.what,
            text::at(served.not_after, scene.now)
        ),
        None => String::new(),
    };
    let certificate = scene.certificates.iter().find(|c| c.name == first.name);
    let next = certificate.map_or(String::new(), |c| text::next(scene, c));
    Some(Alert {
        cause: text::cut(
            &format!(
                "{} The issuer was restored on {}.{served}",
                text::sentence(why),
                text::at(recovery.began, scene.now)
            ),
            text::CAUSE,
        ),
        next: text::cut(
            &format!("That host keeps what it serves. {next}"),
            text::NEXT,
        ),
        command: format!("ssh {} certwell-agent status", first.host),
        since: None::<Timestamp>,
        ends: claims
            .iter()
            .filter_map(|(_, m, _)| m.served_not_after)
            .min(),
        members: claims.iter().map(|(_, member, _)| member.clone()).collect(),
        ..alone(Class::TooFarAhead, Severity::Warning, &title)
    })
}
