//! A probe that no DNS server answers: where the names lead isn't seen from there, and users may see as little.

use certwell_proto::HostName;
use jiff::SignedDuration;

use super::{Alert, Class, Key, Member, Severity, scene::Scene, text};
use crate::plan::{
    facts::FleetFacts,
    seen::{
        trust::{Looks, who},
        unanswered::{self, Unanswered},
    },
    words,
};

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let unanswered = scene.looks.unanswered();
    unanswered
        .filter(|(_, of)| of.stands && !of.others_are_answered)
        .map(|(probe, of)| alert(scene, probe, of))
        .collect()
}

fn alert(scene: &Scene<'_>, probe: Option<&HostName>, of: &Unanswered<'_>) -> Alert {
    let now = scene.now;
    let machine = match probe {
        None => "the issuer's machine".to_owned(),
        Some(host) => host.to_string(),
    };
    let cause = format!(
        "No DNS server answers {}, whichever of {} it asks for ({}): either the resolvers of {machine} are at fault, or \
         the servers of the zone",
        who(probe),
        words::count(of.names.len(), "name"),
        of.why
    );
    let rounds = scene.facts.sightings.probes.get(&probe.cloned());
    let again = rounds.and_then(|probe| {
        let every = SignedDuration::try_from(probe.every).ok()?;
        Some((probe.at + every).max(now))
    });
    let again = match again {
        Some(at) => format!("it asks again on {}", text::at(at, now)),
        None => "it asks again with the next round".to_owned(),
    };
    let cause = text::sentence(&text::cut(&cause, text::CAUSE));
    let member = probe.map(|host| Member {
        host: Some(host.clone()),
        address: None,
        certificate: None,
        text: text::cut(&cause, text::MEMBER),
        served: String::new(),
        served_not_after: None,
    });
    Alert {
        key: Key {
            class: Class::SeenDown,
            subject: subject(probe),
        },
        severity: Severity::Warning,
        members: member.into_iter().collect(),
        title: text::cut(
            &format!("no DNS server answers {}", who(probe)),
            text::TITLE,
        ),
        cause,
        next: text::full_stop(format!("certwell doesn't touch DNS; {again}")),
        command: "certwell status".to_owned(),
        since: Some(of.since),
        ends: None,
    }
}

/// No name of a certificate has a slash, which others of the class are about, and none of a host is empty.
fn subject(probe: Option<&HostName>) -> String {
    format!("dns/{}", probe.map_or("", HostName::as_str))
}

/// Whether an alert is one of these: others of the class are about a certificate.
pub(super) fn is_one(alert: &Alert) -> bool {
    let mut members = alert.members.iter();
    alert.key.class == Class::SeenDown && members.all(|member| member.certificate.is_none())
}

/// Whether that probe has asked again, or asks no more.
pub(super) fn is_known(facts: &FleetFacts, looks: &Looks<'_>, alert: &Alert) -> bool {
    let hosts = facts.config.hosts.iter().filter(|(_, host)| host.probe);
    let own = facts.config.probe.enabled.then_some(None);
    let mut probes = own.into_iter().chain(hosts.map(|(host, _)| Some(host)));
    let Some(probe) = probes.find(|probe| subject(*probe) == alert.key.subject) else {
        return true;
    };
    if !unanswered::can_be(facts) {
        return true;
    }
    match looks.unanswered().find(|(of, _)| *of == probe) {
        // After a start that is how the first look shows what has stood all the while.
        Some((_, of)) => of.stands || of.others_are_answered,
        None => looks.asked_dns(probe),
    }
}
