//! What a report changes in what is known: pure.

use certwell_proto::{CertificateName, FieldError, Fingerprint, Generation, HostName, limits, v1};
use jiff::Timestamp;

use super::inventory::HostInventory;
use crate::store::Observation;

/// Bytes of one text that a host says; what is longer is cut.
pub const TEXT: usize = 2 * 1024;
/// Listeners in the report of one certificate.
pub const LISTENERS: usize = 4_096;
/// The highest generation that a report may name: whole numbers up to here survive any JSON reader.
pub const HIGHEST_GENERATION: u64 = 1 << 53;
/// Certificates in a reported fullchain.
pub const CHAIN: usize = 10;
/// Bytes of each of them.
pub const CHAIN_CERTIFICATE: usize = 64 * 1024;

/// Something in a report that is worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// A generation was put on disk and made active.
    Installed(Generation),
    /// Every listener serves this generation.
    Served(Generation),
    /// Something new is in the way, one sentence.
    Problem(String),
}

/// The observation after a report received at `now_ms`, and what is new in it. A fact that is the same keeps the
/// time of its first receipt.
pub fn merge(
    previous: Option<&Observation>,
    host: &HostName,
    certificate: &CertificateName,
    report: v1::CertificateReport,
    now_ms: i64,
) -> (Observation, Vec<Noticed>) {
    let old = previous.map(|seen| &seen.facts);
    let fact = |new: Option<v1::Fact>, old: Option<&v1::StatusFact>| {
        let new = new.filter(|fact| fact.generation > 0)?;
        let at_ms = match old {
            Some(old) if old.generation == new.generation && old.agent_at_ms == new.agent_at_ms => {
                old.at_ms
            }
            _ => now_ms,
        };
        Some(v1::StatusFact {
            generation: new.generation,
            at_ms,
            agent_at_ms: new.agent_at_ms,
        })
    };
    let served = report.served.map(|mut new| {
        for listener in &mut new.listeners {
            for text in [
                &mut listener.address,
                &mut listener.name,
                &mut listener.detail,
            ] {
                *text = shortened(std::mem::take(text));
            }
        }
        let at_ms = old
            .and_then(|old| old.served.as_ref())
            .filter(|old| {
                old.generation == new.generation
                    && old.fingerprint == new.fingerprint
                    && old.agent_at_ms == new.agent_at_ms
                    && old.listeners == new.listeners
            })
            .map_or(now_ms, |old| old.at_ms);
        v1::StatusServed {
            generation: new.generation,
            at_ms,
            agent_at_ms: new.agent_at_ms,
            fingerprint: new.fingerprint,
            listeners: new.listeners,
        }
    });
    let problem = shortened(report.problem);
    let outcome = v1::Outcome::try_from(report.outcome).unwrap_or_default();
    let facts = v1::HostCertificateStatus {
        host: host.to_string(),
        fetched: fact(report.fetched, old.and_then(|o| o.fetched.as_ref())),
        installed: fact(report.installed, old.and_then(|o| o.installed.as_ref())),
        tested: fact(report.tested, old.and_then(|o| o.tested.as_ref())),
        reloaded: fact(report.reloaded, old.and_then(|o| o.reloaded.as_ref())),
        served,
        seen: old.and_then(|o| o.seen.clone()),
        problem,
        ..v1::HostCertificateStatus::default()
    };
    let noticed = noticed(old, &facts);
    let observation = Observation {
        host: host.clone(),
        certificate: certificate.clone(),
        facts,
        outcome,
        outcome_generation: Generation(report.outcome_generation),
        told: previous.and_then(|seen| seen.told),
    };
    (observation, noticed)
}

fn noticed(
    old: Option<&v1::HostCertificateStatus>,
    new: &v1::HostCertificateStatus,
) -> Vec<Noticed> {
    let mut noticed = Vec::new();
    let installed =
        |facts: &v1::HostCertificateStatus| facts.installed.as_ref().map(|f| f.generation);
    let served =
        |facts: &v1::HostCertificateStatus| facts.served.as_ref().and_then(|f| f.generation);
    if let Some(generation) = installed(new)
        && old.and_then(installed) != Some(generation)
    {
        noticed.push(Noticed::Installed(Generation(generation)));
    }
    if let Some(generation) = served(new)
        && generation > 0
        && old.and_then(served) != Some(generation)
    {
        noticed.push(Noticed::Served(Generation(generation)));
    }
    if !new.problem.is_empty() && old.is_none_or(|old| old.problem != new.problem) {
        noticed.push(Noticed::Problem(new.problem.clone()));
    }
    noticed
}

/// At most [`TEXT`] bytes of what a host says, cut between two characters.
pub fn shortened(mut text: String) -> String {
    const MORE: &str = "…";
    if text.len() > TEXT {
        text.truncate(text.floor_char_boundary(TEXT - MORE.len()));
        text.push_str(MORE);
    }
    text
}

/// Refuses what can't be meant: names and fingerprints that aren't any, numbers and lists beyond every bound.
///
/// # Errors
/// Names the field.
pub fn check(report: &v1::Report) -> Result<(), FieldError> {
    at_most(
        "certificates",
        report.certificates.len(),
        limits::CERTIFICATES_PER_HOST,
    )?;
    for (index, certificate) in report.certificates.iter().enumerate() {
        check_certificate(certificate).map_err(|e| e.within(format!("certificates[{index}]")))?;
    }
    if let Some(told) = &report.inventory {
        HostInventory::told(told, Timestamp::UNIX_EPOCH).map_err(|e| e.within("inventory"))?;
    }
    Ok(())
}

fn check_certificate(report: &v1::CertificateReport) -> Result<(), FieldError> {
    CertificateName::from_wire("name", &report.name)?;
    for (field, fact) in [
        ("fetched", &report.fetched),
        ("installed", &report.installed),
        ("tested", &report.tested),
        ("reloaded", &report.reloaded),
    ] {
        if let Some(fact) = fact {
            generation("generation", fact.generation).map_err(|e| e.within(field))?;
        }
    }
    generation("outcome_generation", report.outcome_generation)?;
    at_most("active_fullchain", report.active_fullchain.len(), CHAIN)?;
    for (index, der) in report.active_fullchain.iter().enumerate() {
        if der.len() > CHAIN_CERTIFICATE {
            return Err(FieldError::new(
                format!("active_fullchain[{index}]"),
                format!(
                    "a certificate has at most {CHAIN_CERTIFICATE} bytes, not {}",
                    der.len()
                ),
            ));
        }
    }
    report.served.as_ref().map_or(Ok(()), |served| {
        check_served(served).map_err(|e| e.within("served"))
    })
}

fn check_served(served: &v1::Served) -> Result<(), FieldError> {
    generation("generation", served.generation.unwrap_or(0))?;
    fingerprint("fingerprint", &served.fingerprint)?;
    at_most("listeners", served.listeners.len(), LISTENERS)?;
    for (index, listener) in served.listeners.iter().enumerate() {
        fingerprint("fingerprint", &listener.fingerprint)
            .map_err(|e| e.within(format!("listeners[{index}]")))?;
    }
    Ok(())
}

/// Empty, or a fingerprint.
fn fingerprint(field: &str, bytes: &[u8]) -> Result<(), FieldError> {
    if bytes.is_empty() {
        return Ok(());
    }
    Fingerprint::from_wire(field, bytes).map(|_| ())
}

fn generation(field: &str, number: u64) -> Result<(), FieldError> {
    if number <= HIGHEST_GENERATION {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{number} is no generation: the highest is {HIGHEST_GENERATION}"),
    ))
}

/// Refuses a list that is longer than `most`.
///
/// # Errors
/// Names the field.
pub fn at_most(field: &str, count: usize, most: usize) -> Result<(), FieldError> {
    if count <= most {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{count} of them, at most {most} are taken"),
    ))
}

#[cfg(test)]
mod tests;
