//! What is seen from outside, and isn't as it should be: users see it too.
//!
//! Another generation of ours is told with what isn't served, an end that is near or over with expiry. Nothing of it
//! depends on pauses or holds: whoever holds a certificate keeps it as it is, and that it is well is seen from outside.

use certwell_proto::HostName;
use jiff::{SignedDuration, Timestamp};

use super::{
    Alert, Class, Key, Member, Severity,
    scene::{Certificate, Pair, Scene},
    text,
};
use crate::plan::{
    seen::{Finding, Kind, Shown, trust::Look, verdict::Whose},
    words,
};

/// What each class tells.
pub(super) const CLASSES: [(Class, &[Kind]); 6] = [
    (Class::UrlBroken, &[Kind::Url]),
    (Class::SeenStranger, &[Kind::Stranger]),
    (Class::SeenElsewhere, &[Kind::LeadsElsewhere]),
    (Class::SeenOtherVhost, &[Kind::OtherVhost]),
    (Class::SeenChain, &[Kind::Chain]),
    (Class::SeenDown, &[Kind::Down, Kind::Unresolved]),
];

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let certificates = scene.certificates.iter();
    certificates
        .flat_map(|certificate| {
            CLASSES
                .iter()
                .filter_map(|(class, kinds)| alert(scene, certificate, *class, kinds))
        })
        .collect()
}

fn alert(
    scene: &Scene<'_>,
    certificate: &Certificate<'_>,
    class: Class,
    kinds: &[Kind],
) -> Option<Alert> {
    let (now, name) = (scene.now, certificate.name);
    // A chain that isn't valid because its leaf is over is an expiry.
    let is_told_as_expiry = |finding: &&Finding| {
        finding.kind == Kind::Chain && finding.not_after.is_some_and(|at| at <= now)
    };
    let found: Vec<&Finding> = scene
        .findings
        .iter()
        .filter(|finding| finding.certificate == *name && kinds.contains(&finding.kind))
        .filter(|finding| !is_told_as_expiry(finding))
        .filter(|finding| !awaits_another_look(finding))
        .collect();
    let first = *found
        .iter()
        .find(|finding| breaks(scene, certificate, finding))
        .or(found.first())?;
    let severity = match breaks(scene, certificate, first) {
        true => Severity::Page,
        false => Severity::Warning,
    };
    let members = members(scene, certificate, &found);
    let more = match found.len() {
        0 | 1 => String::new(),
        all => format!(" And so for {} more.", words::count(all - 1, "look")),
    };
    let cause = format!(
        "{}{more}{}",
        text::sentence(&text::cut(&first.text, text::MEMBER)),
        served(certificate, first.host.as_ref(), now)
    );
    Some(Alert {
        key: Key {
            class,
            subject: name.to_string(),
        },
        severity,
        title: text::cut(&title(class, certificate, first, &members), text::TITLE),
        cause: text::cut(&cause, text::CAUSE),
        next: next(scene, certificate, class),
        command: command(certificate, class, first),
        since: found.iter().map(|finding| finding.since).min(),
        ends: found.iter().filter_map(|finding| finding.not_after).min(),
        members,
    })
}

/// What one lost packet, or one slow answer, may have brought: people hear of it when the next look shows it as well.
pub(super) fn awaits_another_look(finding: &Finding) -> bool {
    !finding.stands && matches!(finding.kind, Kind::Down | Kind::Unresolved | Kind::Url)
}

fn title(
    class: Class,
    certificate: &Certificate<'_>,
    first: &Finding,
    members: &[Member],
) -> String {
    let name = certificate.name;
    let place = match (text::hosts(members).as_str(), first.address) {
        ("nothing", Some(address)) => address.to_string(),
        (hosts, _) => hosts.to_owned(),
    };
    match (class, first.kind) {
        (Class::UrlBroken, _) => format!("users don't get what they should of {name} from {place}"),
        (Class::SeenStranger, _) => {
            format!("another hand's certificate answers for {name} on {place}")
        }
        (Class::SeenElsewhere, _) => {
            let to = first.address.map_or(place, |address| address.to_string());
            format!("DNS leads {} elsewhere: to {to}", first.name)
        }
        (Class::SeenOtherVhost, _) => format!("another server block answers for {name} on {place}"),
        (Class::SeenChain, _) => format!("the chain of {name} isn't valid on {place}"),
        (_, Kind::Unresolved) => format!("DNS gives no address for {}", first.name),
        _ => format!("{place} can't be reached from outside for {name}"),
    }
}

/// Whether users are refused there, as far as one can tell.
fn breaks(scene: &Scene<'_>, certificate: &Certificate<'_>, finding: &Finding) -> bool {
    match finding.kind {
        Kind::Url | Kind::OtherVhost | Kind::Chain => true,
        // Where nobody answers a probe, users may still get what their resolvers remember.
        Kind::Unresolved => scene
            .looks
            .trusted()
            .filter(|look| is_at(look, finding))
            .any(|look| matches!(look.sighting.shown, Shown::Unresolved(_))),
        // Clients try the other addresses of a host, or of the name, that does answer.
        Kind::Down => !scene.looks.trusted().any(|look| {
            look.spot.certificate == *certificate.name
                && look.spot.name == finding.name
                && scene.seen.host(look.spot) == finding.host
                && matches!(look.sighting.shown, Shown::Leaf(_))
        }),
        Kind::Stranger | Kind::LeadsElsewhere => scene
            .looks
            .trusted()
            .filter(|look| is_at(look, finding))
            .any(|look| match &look.sighting.shown {
                Shown::Leaf(leaf) => leaf.chain_problem.is_some(),
                Shown::Down(_) | Shown::NoRoute(_) | Shown::Rejects => true,
                Shown::NoSuchKey | Shown::Unresolved(_) | Shown::NoAnswer(_) => false,
            }),
        Kind::OtherGeneration => false,
    }
}

fn is_at(look: &Look<'_>, finding: &Finding) -> bool {
    look.spot.certificate == finding.certificate
        && look.spot.address == finding.address
        && look.spot.name == finding.name
}

/// One for each host, and for each address that is no host's.
fn members(scene: &Scene<'_>, certificate: &Certificate<'_>, found: &[&Finding]) -> Vec<Member> {
    let mut members: Vec<(Option<&HostName>, Member)> = Vec::new();
    for finding in found {
        let host = finding.host.as_ref();
        if host.is_some() && members.iter().any(|(known, _)| *known == host) {
            continue;
        }
        let pair = certificate
            .pairs
            .iter()
            .find(|pair| Some(pair.host) == host);
        let served = seen_there(scene, finding);
        let served = served
            .or_else(|| pair.map(Pair::serves))
            .unwrap_or_default();
        let end = pair.and_then(|pair| Some(pair.served.as_ref()?.not_after));
        let member = Member {
            host: host.cloned(),
            address: finding.address.filter(|_| host.is_none()),
            certificate: Some(certificate.name.clone()),
            text: text::cut(&finding.text, text::MEMBER),
            served,
            served_not_after: finding.not_after.or(end),
        };
        members.push((host, member));
    }
    members.into_iter().map(|(_, member)| member).collect()
}

/// What is seen at the place of a finding, in words.
pub(super) fn seen_there(scene: &Scene<'_>, finding: &Finding) -> Option<String> {
    let mut looks = scene.looks.trusted().filter(|look| is_at(look, finding));
    looks.find_map(|look| match &look.sighting.shown {
        Shown::Leaf(leaf) => Some(match scene.seen.whose(&finding.certificate, leaf) {
            Whose::Its(generation) => format!("generation {generation}"),
            Whose::Another(name) => format!("the certificate {name}"),
            Whose::Strangers => "a certificate that isn't certwell's".to_owned(),
        }),
        _ => None,
    })
}

/// What the host says that it serves, by its own handshakes.
fn served(certificate: &Certificate<'_>, host: Option<&HostName>, now: Timestamp) -> String {
    let pair = certificate
        .pairs
        .iter()
        .find(|pair| Some(pair.host) == host);
    match pair.and_then(|pair| Some((pair, pair.served.as_ref()?))) {
        Some((pair, served)) => format!(
            " By its own handshakes {} serves {}, valid until {}.",
            pair.host,
            served.what,
            text::at(served.not_after, now)
        ),
        None => String::new(),
    }
}

/// Nothing that certwell could do but look again.
fn next(scene: &Scene<'_>, certificate: &Certificate<'_>, class: Class) -> String {
    let now = scene.now;
    let who = match class {
        Class::SeenElsewhere | Class::SeenDown => "DNS and networks",
        _ => "nginx's server blocks",
    };
    let rounds = scene.facts.sightings.probes.values();
    let again = rounds.filter_map(|probe| {
        let every = SignedDuration::try_from(probe.every).ok()?;
        Some((probe.at + every).max(now))
    });
    let again = match again.min() {
        Some(at) => format!("it looks again on {}", text::at(at, now)),
        None => "it looks again with the next round".to_owned(),
    };
    // Only people know that somebody else is to be there.
    let meant = match class {
        Class::SeenElsewhere => format!(
            "Is that meant, as with a CDN? Write probe-dns = false in [certificate.\"{}\"]. ",
            certificate.name
        ),
        _ => String::new(),
    };
    let told = format!(
        "certwell doesn't touch {who}; {again}. {meant}{}",
        text::next(scene, certificate)
    );
    text::full_stop(text::cut(&told, text::NEXT))
}

fn command(certificate: &Certificate<'_>, class: Class, first: &Finding) -> String {
    match (class, &first.host) {
        (Class::SeenStranger | Class::SeenOtherVhost, Some(host)) => {
            format!("ssh {host} certwell-agent inventory")
        }
        (Class::SeenDown | Class::SeenChain, Some(host)) => text::doctor(host),
        _ => format!("certwell explain {}", certificate.name),
    }
}
