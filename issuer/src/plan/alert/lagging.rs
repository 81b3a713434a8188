//! An older generation is seen from outside, though agents say that all is well.

use std::collections::BTreeSet;

use certwell_proto::v1::HostState;

use super::{
    Alert, Class, Key, Member, Severity,
    scene::{Certificate, Scene},
    seen, text,
};
use crate::plan::seen::{Finding, Kind};

/// Each of these places, for an alert that tells of hosts as well.
pub(super) fn members(scene: &Scene<'_>, certificate: &Certificate<'_>) -> Vec<Member> {
    old_seen(scene, certificate)
        .map(|finding| member(scene, certificate, finding))
        .collect()
}

/// Places where an older generation of it is seen from outside, though the host that has them says that all is well, or
/// there is none.
fn old_seen<'a>(
    scene: &'a Scene<'_>,
    certificate: &'a Certificate<'_>,
) -> impl Iterator<Item = &'a Finding> {
    let all_is_well = |finding: &Finding| {
        let mut pairs = certificate.pairs.iter();
        let pair = pairs.find(|pair| Some(pair.host) == finding.host.as_ref());
        pair.is_none_or(|pair| pair.judged.state == HostState::Converged)
    };
    let mut hosts = BTreeSet::new();
    scene
        .findings
        .iter()
        .filter(|finding| finding.certificate == *certificate.name)
        .filter(|finding| finding.kind == Kind::OtherGeneration)
        .filter(move |finding| all_is_well(finding))
        .filter(move |finding| finding.host.is_none() || hosts.insert(finding.host.clone()))
}

fn member(scene: &Scene<'_>, certificate: &Certificate<'_>, finding: &Finding) -> Member {
    Member {
        host: finding.host.clone(),
        address: None,
        certificate: Some(certificate.name.clone()),
        text: text::cut(&finding.text, text::MEMBER),
        served: seen::seen_there(scene, finding).unwrap_or_default(),
        served_not_after: finding.not_after,
    }
}

/// Only from outside it shows that something older is served.
pub(super) fn alert(scene: &Scene<'_>, certificate: &Certificate<'_>) -> Option<Alert> {
    let now = scene.now;
    let found: Vec<&Finding> = old_seen(scene, certificate).collect();
    let first = *found.first()?;
    let members = members(scene, certificate);
    let (name, desired) = (certificate.name, certificate.desired());
    let place = match (&first.host, first.address) {
        (Some(_), _) => text::hosts(&members),
        (None, Some(address)) => address.to_string(),
        (None, None) => "an address of its name".to_owned(),
    };
    let ends = found.iter().filter_map(|finding| finding.not_after).min();
    let until = ends.map_or(String::new(), |end| {
        format!(" What is seen there is valid until {}.", text::at(end, now))
    });
    let cause = format!(
        "{}{until} The hosts themselves say that they serve generation {desired}: does something stand before them, or \
         does nginx listen where its agent doesn't look?",
        text::sentence(&text::cut(&first.text, text::MEMBER))
    );
    Some(Alert {
        key: Key {
            class: Class::NotServed,
            subject: name.to_string(),
        },
        severity: Severity::Warning,
        title: text::cut(
            &format!("generation {desired} of {name} is not seen from outside on {place}"),
            text::TITLE,
        ),
        cause: text::cut(&cause, text::CAUSE),
        next: text::next(scene, certificate),
        command: match &first.host {
            Some(host) => format!("ssh {host} certwell-agent inventory"),
            None => format!("certwell explain {name}"),
        },
        since: found.iter().map(|finding| finding.since).min(),
        ends,
        members,
    })
}
