//! After a restore from a backup: who is waited for before anything is ordered or offered, and which generations the
//! backup had forgotten. Pure.
//!
//! What was issued after the backup is on hosts, and the store knows nothing of it. So nothing is numbered before the
//! hosts have told; the next generation is higher than any that one of them showed with a chain that verifies.

use std::{sync::Arc, time::Duration};

use certwell_proto::{
    CertificateName, Generation, HostName,
    bundle::{Expected, verify_chain},
    v1,
};
use jiff::{SignedDuration, Timestamp};

use super::{
    facts::{CertificateFacts, FleetFacts, RecoveryFacts},
    presence, words,
};
use crate::config::{Certificate, Roots};

/// Hosts are waited for no longer, however long their certificates live.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// No host can be so many generations ahead: between two backups there are days, not years.
pub const FARTHEST: u64 = 1_000;

/// What a host's word on a certificate comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// It counts: the highest generation that is known by it.
    pub told: Option<Generation>,
    /// Worth an event.
    pub news: Option<News>,
}

/// Something that a host says of a certificate and that wasn't known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The backup had forgotten this generation.
    Forgotten(Generation),
    /// It claims this one, which can't be.
    TooFar(Generation),
}

/// What a host's report says of a generation that the store doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nothing that isn't known.
    Known,
    /// This generation exists.
    Ahead(Generation),
    /// So far ahead that it isn't believed.
    TooFar(Generation),
    /// Ahead, and it doesn't show a chain that proves it.
    Unproven,
}

/// The certificates for which nothing is ordered or offered yet.
pub fn waiting(
    facts: &FleetFacts,
    recovery: &RecoveryFacts,
    now: Timestamp,
) -> Vec<CertificateName> {
    let declared = facts.config.certificates.keys();
    declared
        .filter(|name| is_waiting(facts, recovery, name, now))
        .cloned()
        .collect()
}

fn is_waiting(
    facts: &FleetFacts,
    recovery: &RecoveryFacts,
    name: &CertificateName,
    now: Timestamp,
) -> bool {
    let (Some(declared), Some(known)) = (
        facts.config.certificates.get(name),
        facts.certificates.get(name),
    ) else {
        return false;
    };
    let missing = awaited(facts, declared).any(|host| !has_told(known, host));
    missing && now < recovery.since + longest(known) && !presses(recovery, name, now)
}

/// The hosts of a certificate that may tell something: those that enrolled before the backup, and still may call.
fn awaited<'a>(
    facts: &'a FleetFacts,
    declared: &'a Certificate,
) -> impl Iterator<Item = &'a HostName> {
    declared
        .hosts
        .iter()
        .filter(|host| presence::life(facts.hosts.get(*host)) == v1::HostLife::Enrolled)
}

fn has_told(known: &CertificateFacts, host: &HostName) -> bool {
    let seen = known.observations.get(host);
    seen.is_some_and(|seen| seen.told.is_some())
}

/// A tenth of the life of what was issued last, as every other wait: what remains of it isn't known before a host tells.
fn longest(known: &CertificateFacts) -> SignedDuration {
    known.issued.as_ref().map_or(LONGEST, |issued| {
        (issued.not_after.duration_since(issued.not_before) / 10)
            .clamp(SignedDuration::ZERO, LONGEST)
    })
}

/// Whether a host has shown that less than a sixth of the life of what it has is left.
fn presses(recovery: &RecoveryFacts, name: &CertificateName, now: Timestamp) -> bool {
    recovery.press_at.get(name).is_some_and(|at| *at <= now)
}

/// Hosts that are waited for, and how many of them have told all that they can.
pub fn count(facts: &FleetFacts) -> (usize, usize) {
    let mut hosts: std::collections::BTreeMap<&HostName, bool> = Default::default();
    for (name, declared) in &facts.config.certificates {
        let known = facts.certificates.get(name);
        for host in awaited(facts, declared) {
            let told = known.is_some_and(|known| has_told(known, host));
            *hosts.entry(host).or_insert(true) &= told;
        }
    }
    let told = hosts.values().filter(|told| **told).count();
    (hosts.len(), told)
}

/// For `certwell status`, while anything waits.
pub fn sentence(facts: &FleetFacts, recovery: &RecoveryFacts, now: Timestamp) -> Option<String> {
    if recovery.waiting.is_empty() {
        return None;
    }
    let (hosts, told) = count(facts);
    Some(format!(
        "recovering since {}: {told} of {} have reported; until the others have, at most for {}, nothing is ordered or \
         offered of {}",
        words::dated(recovery.since, now),
        words::count(hosts, "host"),
        words::span(LONGEST.as_secs()),
        words::list(recovery.waiting.iter().take(5)),
    ))
}

/// Why this certificate is neither ordered nor offered as it is stored; `None` when it is.
pub fn reason(
    facts: &FleetFacts,
    name: &CertificateName,
    known: &CertificateFacts,
) -> Option<String> {
    let recovery = facts.recovery.as_ref()?;
    if recovery.waiting.contains(name) {
        return Some(
            "the issuer was restored from a backup, and its hosts have not all told yet what they have"
                .to_owned(),
        );
    }
    let stored = stored(known);
    (known.highest > stored).then(|| {
        format!(
            "generation {} was issued after the backup from which the issuer was restored; it is issued once more, as \
             generation {}",
            known.highest,
            known.highest.next()
        )
    })
}

/// The newest generation whose bundle is stored.
pub fn stored(known: &CertificateFacts) -> Generation {
    known
        .issued
        .as_ref()
        .map_or(Generation::NONE, |issued| issued.generation)
}

/// Takes in what a host says of a certificate that is assigned to it. Whether its word counted is for the caller to keep,
/// beside what else is seen of the certificate on that host.
pub fn hear(
    facts: &mut FleetFacts,
    host: &HostName,
    name: &CertificateName,
    report: &v1::CertificateReport,
    now: Timestamp,
) -> Heard {
    let Some(recovery) = &facts.recovery else {
        return Heard::default();
    };
    let claim = claim(facts, recovery, name, report, now);
    let (Some(known), Some(recovery)) = (facts.certificates.get_mut(name), facts.recovery.as_mut())
    else {
        return Heard::default();
    };
    if let Some(at) = press_at(report) {
        let newest = recovery.press_at.entry(name.clone()).or_insert(at);
        *newest = (*newest).max(at);
    }
    let told = first_word(known, host, claim);
    let news = match claim {
        Claim::Ahead(generation) if told.is_some() => Some(News::Forgotten(generation)),
        Claim::TooFar(generation) => {
            let key = (name.clone(), host.clone());
            let before = recovery.too_far.insert(key, generation);
            (before != Some(generation)).then_some(News::TooFar(generation))
        }
        _ => None,
    };
    if !matches!(claim, Claim::TooFar(_)) {
        recovery.too_far.remove(&(name.clone(), host.clone()));
    }
    known.highest = known.highest.max(told.unwrap_or_default());
    Heard { told, news }
}

/// The highest generation that is known by a host's word; `None` where it doesn't count. Its first one does: a host can't
/// have the fleet order anew and anew.
fn first_word(known: &CertificateFacts, host: &HostName, claim: Claim) -> Option<Generation> {
    if has_told(known, host) {
        return None;
    }
    match claim {
        Claim::Known | Claim::TooFar(_) => Some(known.highest),
        Claim::Ahead(generation) => Some(generation),
        // Its chain may not be read yet: it is asked for again with its next report.
        Claim::Unproven => None,
    }
}

/// Whether a host is ahead of what is stored and known.
fn claim(
    facts: &FleetFacts,
    recovery: &RecoveryFacts,
    name: &CertificateName,
    report: &v1::CertificateReport,
    now: Timestamp,
) -> Claim {
    let (Some(declared), Some(known)) = (
        facts.config.certificates.get(name),
        facts.certificates.get(name),
    ) else {
        return Claim::Known;
    };
    let generation = Generation(claimed(report));
    if generation <= known.highest {
        return Claim::Known;
    }
    if generation.0 - known.highest.0 > FARTHEST {
        return Claim::TooFar(generation);
    }
    let chain = &report.active_fullchain;
    if is_proven(facts, recovery, (declared, known), chain, now) {
        Claim::Ahead(generation)
    } else {
        Claim::Unproven
    }
}

/// The highest generation that a report names at all: a host takes nothing lower than what it ever had on disk.
fn claimed(report: &v1::CertificateReport) -> u64 {
    let facts = [
        &report.fetched,
        &report.installed,
        &report.tested,
        &report.reloaded,
    ];
    facts
        .into_iter()
        .flatten()
        .map(|fact| fact.generation)
        .chain([report.outcome_generation])
        .chain(report.served.as_ref().and_then(|served| served.generation))
        .max()
        .unwrap_or_default()
}

/// Whether the chain is one of this certificate's. One that expired proves as much as any other.
fn is_proven(
    facts: &FleetFacts,
    recovery: &RecoveryFacts,
    (declared, known): (&Certificate, &CertificateFacts),
    fullchain: &[Vec<u8>],
    now: Timestamp,
) -> bool {
    let leaf = fullchain
        .first()
        .and_then(|der| certwell_proto::Leaf::read(der).ok());
    let Some(leaf) = leaf else { return false };
    let moment = now
        .min(leaf.not_after - SignedDuration::from_secs(1))
        .max(leaf.not_before);
    let mut roots: Vec<Vec<u8>> = Vec::new();
    for authority in &declared.authorities {
        match facts.config.authorities.get(authority).map(|a| &a.roots) {
            Some(Roots::File { certificates, .. }) => roots.extend_from_slice(certificates),
            Some(Roots::System) => roots.extend_from_slice(&recovery.system_roots),
            None => {}
        }
    }
    let issued = known.issued.as_ref();
    roots.extend(issued.map(|issued| issued.root.clone()));
    let lists =
        std::iter::once(&declared.identifiers).chain(issued.map(|issued| &issued.identifiers));
    lists
        .map(|identifiers| Expected {
            identifiers,
            roots: &roots,
            now: moment,
        })
        .any(|expected| verify_chain(fullchain, &expected).is_ok())
}

/// When what a host has active presses, whatever its generation; `None` where that can't be read.
pub fn press_at(report: &v1::CertificateReport) -> Option<Timestamp> {
    let leaf = certwell_proto::Leaf::read(report.active_fullchain.first()?).ok()?;
    let life = leaf.not_after.duration_since(leaf.not_before);
    Some(leaf.not_after - life / 6)
}

/// The beginning of a recovery, as far as the store tells.
pub fn begin(began: Timestamp, since: Timestamp, system_roots: Arc<Vec<Vec<u8>>>) -> RecoveryFacts {
    RecoveryFacts {
        began,
        since,
        waiting: Default::default(),
        press_at: Default::default(),
        too_far: Default::default(),
        revoked: Default::default(),
        system_roots,
    }
}

/// A clock that was set back by a day must not make hosts be waited for by a day: the minutes begin anew.
pub fn heed_clock(recovery: &mut RecoveryFacts, now: Timestamp) {
    recovery.since = recovery.since.min(now);
}

/// Whether it is worth while to look at the clock again soon.
pub const LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
