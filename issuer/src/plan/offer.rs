//! What each host is offered: pure.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{
    CertificateName, Fingerprint, HostName, Identifier, fingerprint::hex, limits, v1,
};
use prost::Message as _;

use super::{facts::FleetFacts, looks::outlook, recover};
use crate::{config::Certificate, store::Issued};

/// How long agents may take to come back after a lost stream, in milliseconds, for each host of the fleet.
const RECONNECT_MS_PER_HOST: u32 = 20;
/// Bounds of that window.
const RECONNECT_MS: std::ops::RangeInclusive<u32> = 500..=60_000;

/// Bytes for what holds an outlook, and the revision.
const ENVELOPE: usize = 1024;

/// A running preflight of a certificate: which question its challenge hosts are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightQuestion {
    /// Opaque.
    pub id: String,
    /// A made-up token.
    pub token: String,
    /// The thumbprint that must follow it.
    pub thumbprint: String,
    /// What the certificate will cover.
    pub names: Vec<String>,
    /// Where the CA validates.
    pub port: u16,
}

/// The whole desired state of one host.
pub fn desired_state(
    facts: &FleetFacts,
    host: &HostName,
    preflights: &BTreeMap<CertificateName, PreflightQuestion>,
) -> v1::DesiredState {
    let mut certificates = Vec::new();
    let mut authorities: BTreeMap<&str, BTreeSet<&[u8]>> = BTreeMap::new();
    for (name, declared) in &facts.config.certificates {
        if !declared.hosts.contains(host) {
            continue;
        }
        let offered = offered(facts, name, host);
        if let Some(issued) = offered {
            authorities
                .entry(&issued.authority)
                .or_default()
                .insert(&issued.root);
        }
        certificates.push(desired_certificate(name, declared, offered));
    }
    let mut state = v1::DesiredState {
        lineage: Some(facts.lineage.into()),
        revision: String::new(),
        certificates,
        authorities: authorities
            .into_iter()
            .map(|(name, roots)| v1::Authority {
                name: name.to_owned(),
                roots: roots.into_iter().map(<[u8]>::to_vec).collect(),
            })
            .collect(),
        challenges: challenges(facts, host),
        preflights: preflights
            .iter()
            .filter(|(name, _)| answers_challenges(facts, name, host))
            .map(|(name, question)| v1::PreflightRequest {
                id: question.id.clone(),
                certificate: name.to_string(),
                token: question.token.clone(),
                thumbprint: question.thumbprint.clone(),
                names: question.names.clone(),
                port: question.port.into(),
            })
            .collect(),
        endpoints: facts.config.issuer.endpoints.clone(),
        reconnect_window_ms: reconnect_window(facts.hosts.len()),
        ..v1::DesiredState::default()
    };
    let room = limits::WATCH_MESSAGE.saturating_sub(state.encoded_len() + ENVELOPE);
    state.outlook = outlook(facts, host, room);
    state.revision = hex(&certwell_proto::fingerprint::sha256(&state.encode_to_vec())[..8]);
    state
}

/// The generation that this host may draw: the newest one, unless a pause or a
/// recovery holds it back or the host has refused it.
/// `None` means: keep what you have; also for what isn't assigned to it.
pub fn offered<'a>(
    facts: &'a FleetFacts,
    name: &CertificateName,
    host: &HostName,
) -> Option<&'a Issued> {
    let assigned = facts.config.certificates.get(name)?.hosts.contains(host);
    let known = facts.certificates.get(name)?;
    let issued = known.issued.as_ref()?;
    let refused = known.observations.get(host).is_some_and(|seen| {
        seen.outcome == v1::Outcome::Rejected && seen.outcome_generation == issued.generation
    });
    let forgotten = recover::reason(facts, name, known).is_some();
    (assigned && !facts.paused && !known.paused && !refused && !forgotten).then_some(issued)
}

fn desired_certificate(
    name: &CertificateName,
    declared: &Certificate,
    offered: Option<&Issued>,
) -> v1::DesiredCertificate {
    let identifiers = offered.map_or(&declared.identifiers, |issued| &issued.identifiers);
    v1::DesiredCertificate {
        name: name.to_string(),
        generation: offered.map_or(0, |issued| issued.generation.0),
        identifiers: identifiers.iter().map(ToString::to_string).collect(),
        fingerprints: offered
            .and_then(|issued| issued.fullchain.first())
            .map(|leaf| Fingerprint::of(leaf).0.to_vec())
            .into_iter()
            .collect(),
        authority: offered
            .map(|issued| issued.authority.clone())
            .unwrap_or_default(),
        not_after: offered.map_or(0, |issued| issued.not_after.as_second()),
    }
}

/// For each account that orders a certificate whose challenges this host answers, the names. One account for each
/// certificate, the one that its orders go to at present: a request for a token doesn't tell for whom it is, so
/// nginx can answer a name for one account only.
fn challenges(facts: &FleetFacts, host: &HostName) -> Vec<v1::Challenge> {
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, declared) in &facts.config.certificates {
        if !declared.challenge_hosts.contains(host) {
            continue;
        }
        let present = facts
            .certificates
            .get(name)
            .and_then(|known| known.authority.as_ref());
        let present = present.filter(|authority| declared.authorities.contains(authority));
        let mut by_preference = present.into_iter().chain(&declared.authorities);
        let Some(thumbprint) = by_preference.find_map(|authority| facts.thumbprints.get(authority))
        else {
            continue;
        };
        names.entry(thumbprint).or_default().extend(
            declared
                .identifiers
                .iter()
                .filter(|id| !id.is_wildcard())
                .map(Identifier::to_string),
        );
    }
    names
        .into_iter()
        .map(|(thumbprint, names)| v1::Challenge {
            thumbprint: thumbprint.to_owned(),
            names: names.into_iter().collect(),
        })
        .collect()
}

fn answers_challenges(facts: &FleetFacts, name: &CertificateName, host: &HostName) -> bool {
    facts
        .config
        .certificates
        .get(name)
        .is_some_and(|declared| declared.challenge_hosts.contains(host))
}

fn reconnect_window(hosts: usize) -> u32 {
    u32::try_from(hosts)
        .unwrap_or(u32::MAX)
        .saturating_mul(RECONNECT_MS_PER_HOST)
        .clamp(*RECONNECT_MS.start(), *RECONNECT_MS.end())
}

#[cfg(test)]
mod tests;
