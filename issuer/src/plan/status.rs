//! What `certwell status` and `certwell hosts` say, from the facts.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, HostName, Leaf, v1};
use jiff::Timestamp;

use super::{
    facts::{CertificateFacts, FleetFacts, OrderStage},
    health,
    judge::{self, judge},
    presence, recover,
    seen::{fact::Outside, findings, trust::Looks},
    words,
};
use crate::config;

/// Every declared certificate, with the seven facts of each of its hosts.
pub fn status(facts: &FleetFacts, now: Timestamp) -> v1::StatusResponse {
    let nothing = CertificateFacts::default();
    let looks = Looks::fresh(facts, now);
    let outside = Outside::of(facts, &looks);
    let mut found: BTreeMap<CertificateName, Vec<v1::Finding>> = BTreeMap::new();
    for finding in findings(facts, now) {
        let certificate = finding.certificate.clone();
        found.entry(certificate).or_default().push(finding.into());
    }
    v1::StatusResponse {
        certificates: facts
            .config
            .certificates
            .iter()
            .map(|(name, declared)| {
                let known = facts.certificates.get(name).unwrap_or(&nothing);
                let findings = found.remove(name).unwrap_or_default();
                certificate(facts, name, declared, known, (&outside, findings), now)
            })
            .collect(),
        problems: problems(facts, &looks, now),
        lineage: Some(facts.lineage.into()),
        fleet: facts.fleet.to_string(),
        recovery: facts
            .recovery
            .as_ref()
            .filter(|recovery| !recovery.waiting.is_empty())
            .map(|recovery| {
                let (hosts, reported) = recover::count(facts);
                v1::Recovery {
                    since_ms: recovery.since.as_millisecond(),
                    hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
                    reported: u32::try_from(reported).unwrap_or(u32::MAX),
                }
            }),
    }
}

/// Every declared host, and how it stands with the issuer.
pub fn hosts(facts: &FleetFacts, now: Timestamp) -> v1::ListHostsResponse {
    let mut certificates: BTreeMap<&HostName, Vec<String>> = BTreeMap::new();
    for (name, declared) in &facts.config.certificates {
        for host in &declared.hosts {
            certificates.entry(host).or_default().push(name.to_string());
        }
    }
    v1::ListHostsResponse {
        hosts: facts
            .config
            .hosts
            .iter()
            .map(|(name, declared)| {
                let assigned = certificates.remove(name).unwrap_or_default();
                host(facts, name, declared, assigned, now)
            })
            .collect(),
    }
}

/// In the way of the issuer as a whole, most pressing first.
fn problems(facts: &FleetFacts, looks: &Looks<'_>, now: Timestamp) -> Vec<String> {
    let config = facts.config_problem.as_ref().map(|problem| {
        format!(
            "a newer edit of the configuration is refused, the last good one is in force: {problem}"
        )
    });
    let paused = facts.paused.then(|| {
        "the whole fleet is paused: no orders and no offers until `certwell resume`".to_owned()
    });
    let recovering = facts
        .recovery
        .as_ref()
        .and_then(|recovery| recover::sentence(facts, recovery, now));
    let too_far = facts.recovery.iter().flat_map(|recovery| {
        recovery.too_far.iter().map(|((name, host), generation)| {
            format!(
                "{host} claims generation {generation} of {name}, too far ahead of all that is known to be believed: \
                 look at that host, and `certwell hosts revoke {host}` if it isn't what it should be"
            )
        })
    });
    config
        .into_iter()
        .chain(recovering)
        .chain(paused)
        .chain(too_far)
        .chain(health::problems(facts, now))
        .chain(looks.troubles())
        .collect()
}

fn certificate(
    facts: &FleetFacts,
    name: &CertificateName,
    declared: &config::Certificate,
    known: &CertificateFacts,
    (outside, findings): (&Outside<'_>, Vec<v1::Finding>),
    now: Timestamp,
) -> v1::CertificateStatus {
    let issued = known.issued.as_ref();
    let waits = matches!(known.order.stage, OrderStage::Idle | OrderStage::Waiting);
    let paused = facts.paused || known.paused;
    v1::CertificateStatus {
        name: name.to_string(),
        identifiers: declared
            .identifiers
            .iter()
            .map(ToString::to_string)
            .collect(),
        generation: issued.map_or(0, |i| i.generation.0),
        not_after: issued.map(|i| i.not_after.as_second()),
        not_before: issued.map(|i| i.not_before.as_second()),
        hosts: declared
            .hosts
            .iter()
            .map(|host| host_certificate(facts, name, known, host, (outside, now)))
            .collect(),
        problem: problem(facts, name, known, now).unwrap_or_default(),
        renew_at_ms: known
            .order
            .next_at
            .filter(|_| waits && !paused)
            .map(Timestamp::as_millisecond),
        paused,
        authority: issued
            .map(|i| &i.authority)
            .or_else(|| declared.authorities.first())
            .cloned()
            .unwrap_or_default(),
        elsewhere: outside.elsewhere(name),
        findings,
        ignores_dns: !declared.probe_dns,
    }
}

/// In the way of the certificate's next issuance.
fn problem(
    facts: &FleetFacts,
    name: &CertificateName,
    known: &CertificateFacts,
    now: Timestamp,
) -> Option<String> {
    let expired = known
        .issued
        .as_ref()
        .filter(|issued| issued.not_after <= now)
        .map(|issued| {
            format!(
                "generation {} of {name} expired {}, and no newer one is issued",
                issued.generation,
                words::relative(issued.not_after, now)
            )
        });
    let cause = known
        .order
        .problem
        .clone()
        .or_else(|| judge::paused(facts, name, known));
    match (expired, cause) {
        (Some(expired), Some(cause)) => Some(format!("{expired}: {cause}")),
        (expired, cause) => expired.or(cause),
    }
}

fn host_certificate(
    facts: &FleetFacts,
    name: &CertificateName,
    known: &CertificateFacts,
    host: &HostName,
    (outside, now): (&Outside<'_>, Timestamp),
) -> v1::HostCertificateStatus {
    let judged = judge(facts, name, known, host, now);
    let observed = known
        .observations
        .get(host)
        .map(|o| o.facts.clone())
        .unwrap_or_default();
    v1::HostCertificateStatus {
        host: host.to_string(),
        state: judged.state.into(),
        desired: known.issued.as_ref().map(|issued| v1::StatusFact {
            generation: issued.generation.0,
            at_ms: issued.at.as_millisecond(),
            agent_at_ms: 0,
        }),
        served: judged.served,
        problem: judged.problem.unwrap_or_default(),
        served_not_after: judged.served_ends.map(Timestamp::as_second),
        seen: outside.seen(name, host),
        sightings: outside.sightings(name, host),
        ..observed
    }
}

fn host(
    facts: &FleetFacts,
    name: &HostName,
    declared: &config::Host,
    certificates: Vec<String>,
    now: Timestamp,
) -> v1::HostStatus {
    let known = facts.hosts.get(name);
    let record = known.and_then(|k| k.record.as_ref());
    let identity = record.and_then(|r| Leaf::read(&r.identity).ok());
    let expired = identity.as_ref().filter(|leaf| leaf.not_after <= now).map(|leaf| {
        format!(
            "the identity of {name} expired {}; enroll it again with `certwell token create --host {name}`",
            words::relative(leaf.not_after, now)
        )
    });
    let problem = match presence::life(known) {
        v1::HostLife::Enrolled => expired,
        _ => None,
    }
    .or_else(|| presence::silence(name, known, now))
    .or_else(|| known.and_then(|k| k.problem.clone()));
    let used = facts.intruders.get(name).map(|intruder| {
        format!(
            "an identity of {name} that isn't good any more was used {}, last {}",
            words::times(intruder.calls),
            words::relative(intruder.last, now)
        )
    });
    let problem = match (problem, used) {
        (Some(problem), Some(used)) => Some(format!("{problem}; {used}")),
        (problem, used) => problem.or(used),
    };
    v1::HostStatus {
        name: name.to_string(),
        labels: declared.labels.clone(),
        life: presence::life(known).into(),
        connected: known.is_some_and(|k| k.connected),
        last_seen_ms: presence::last_seen(known).map(Timestamp::as_millisecond),
        identity_not_after: identity.map(|leaf| leaf.not_after.as_second()),
        info: record.map(|r| r.info.clone()),
        certificates,
        problem: problem.unwrap_or_default(),
    }
}
