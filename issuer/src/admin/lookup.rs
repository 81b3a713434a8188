//! From the names that people type to what is meant; what isn't there is answered with what is.

use std::collections::BTreeSet;

use certwell_proto::{CertificateName, HostName, v1::HostInfo};
use jiff::Timestamp;
use tonic::Status;

use crate::{plan::facts::FleetFacts, store::HostRecord};

/// A certificate that the configuration declares.
pub(super) fn declared_certificate(
    name: &str,
    facts: &FleetFacts,
) -> Result<CertificateName, Status> {
    name.parse()
        .ok()
        .filter(|name| facts.config.certificates.contains_key(name))
        .ok_or_else(|| no_certificate(name, facts))
}

/// A notifier that the configuration declares.
pub(super) fn declared_notifier<'a>(
    name: &str,
    facts: &'a FleetFacts,
) -> Result<&'a certwell_notice::Notifier, Status> {
    let notifiers = &facts.config.notifiers;
    notifiers.get(name).ok_or_else(|| {
        let known: Vec<&str> = notifiers.keys().map(String::as_str).take(10).collect();
        Status::not_found(format!(
            "there is no notifier {name:?}; declared are: {} (add [notifier.NAME] to the issuer's configuration)",
            or_none(&known)
        ))
    })
}

/// The refusal of a name that no certificate has.
pub(super) fn no_certificate(name: &str, facts: &FleetFacts) -> Status {
    let known: Vec<&str> = facts
        .config
        .certificates
        .keys()
        .map(CertificateName::as_str)
        .take(10)
        .collect();
    Status::not_found(format!(
        "there is no certificate {name:?}; declared are: {}",
        or_none(&known)
    ))
}

/// Hosts that are declared, or of which something is known.
pub(super) fn known_hosts(
    names: &[String],
    facts: &FleetFacts,
) -> Result<BTreeSet<HostName>, Status> {
    names.iter().map(|name| known_host(name, facts)).collect()
}

/// A host that is declared, or of which something is known.
pub(super) fn known_host(name: &str, facts: &FleetFacts) -> Result<HostName, Status> {
    name.parse::<HostName>()
        .ok()
        .filter(|host| facts.hosts.contains_key(host) || facts.inventories.contains_key(host))
        .ok_or_else(|| no_host(name, facts))
}

/// A host that may be given a join token: the configuration declares it, and it isn't retired.
pub(super) fn joinable_host(name: &str, facts: &FleetFacts) -> Result<HostName, Status> {
    let host = name
        .parse::<HostName>()
        .ok()
        .filter(|name| facts.config.hosts.contains_key(name))
        .ok_or_else(|| no_host(name, facts))?;
    let record = facts
        .hosts
        .get(&host)
        .and_then(|known| known.record.as_ref());
    if record.is_some_and(|record| record.retired) {
        return Err(Status::failed_precondition(format!(
            "the host {host} was retired for good; declare the machine by another name"
        )));
    }
    Ok(host)
}

/// A host that may be cut off: it has enrolled and isn't retired; or a restored store may have forgotten that it
/// enrolled after the backup. That one's record, of a machine of which nothing is known, is revoked from the start.
pub(super) fn revocable_host(
    name: &str,
    facts: &FleetFacts,
    now: Timestamp,
) -> Result<HostRecord, Status> {
    let forgotten = name.parse::<HostName>().ok().filter(|name| {
        let known = facts.hosts.get(name);
        facts.recovery.is_some()
            && facts.config.hosts.contains_key(name)
            && known.is_none_or(|known| known.record.is_none())
    });
    match forgotten {
        None => enrolled_host(name, facts),
        Some(name) => Ok(HostRecord {
            name,
            bound_key: Vec::new(),
            identity: Vec::new(),
            identity_key: [0; 32],
            revoked: Some(now),
            retired: false,
            info: HostInfo::default(),
            last_seen: None,
        }),
    }
}

/// A host that has enrolled and isn't retired.
fn enrolled_host(name: &str, facts: &FleetFacts) -> Result<HostRecord, Status> {
    let known = name
        .parse::<HostName>()
        .ok()
        .and_then(|name| facts.hosts.get(&name));
    match known.and_then(|known| known.record.clone()) {
        Some(record) if record.retired => Err(Status::failed_precondition(format!(
            "the host {name} is retired already"
        ))),
        Some(record) => Ok(record),
        None if known.is_some() => Err(Status::failed_precondition(format!(
            "the host {name} has not enrolled"
        ))),
        None => Err(no_host(name, facts)),
    }
}

/// The refusal of a name that no host has.
pub(super) fn no_host(name: &str, facts: &FleetFacts) -> Status {
    let known: Vec<&str> = facts
        .config
        .hosts
        .keys()
        .map(HostName::as_str)
        .take(10)
        .collect();
    Status::not_found(format!(
        "there is no host {name:?}; declared are: {} (add [host.NAME] to the issuer's configuration)",
        or_none(&known)
    ))
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
