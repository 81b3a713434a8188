//! What a report changes in what is known: pure.

use certwell_proto::{CertificateName, Fingerprint, Generation, HostName, v1};

use crate::store::Observation;

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
    let served = report.served.map(|new| {
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
    let outcome = v1::Outcome::try_from(report.outcome).unwrap_or_default();
    let facts = v1::HostCertificateStatus {
        host: host.to_string(),
        fetched: fact(report.fetched, old.and_then(|o| o.fetched.as_ref())),
        installed: fact(report.installed, old.and_then(|o| o.installed.as_ref())),
        tested: fact(report.tested, old.and_then(|o| o.tested.as_ref())),
        reloaded: fact(report.reloaded, old.and_then(|o| o.reloaded.as_ref())),
        served,
        seen: old.and_then(|o| o.seen.clone()),
        problem: report.problem,
        ..v1::HostCertificateStatus::default()
    };
    let noticed = noticed(old, &facts);
    let observation = Observation {
        host: host.clone(),
        certificate: certificate.clone(),
        facts,
        outcome,
        outcome_generation: Generation(report.outcome_generation),
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

/// Refuses what can't be meant: names and fingerprints that aren't any.
///
/// # Errors
/// Names the field.
pub fn check(report: &v1::Report) -> Result<(), certwell_proto::FieldError> {
    for (index, certificate) in report.certificates.iter().enumerate() {
        let within = format!("certificates[{index}]");
        CertificateName::from_wire("name", &certificate.name).map_err(|e| e.within(&within))?;
        let Some(served) = &certificate.served else {
            continue;
        };
        if !served.fingerprint.is_empty() {
            Fingerprint::from_wire("served.fingerprint", &served.fingerprint)
                .map_err(|e| e.within(&within))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(installed: u64, served: Option<u64>, problem: &str) -> v1::CertificateReport {
        v1::CertificateReport {
            name: "media.hachyderm.io".into(),
            installed: Some(v1::Fact {
                generation: installed,
                agent_at_ms: 5,
            }),
            served: Some(v1::Served {
                generation: served,
                agent_at_ms: 6,
                ..Default::default()
            }),
            problem: problem.into(),
            ..Default::default()
        }
    }

    fn merged(
        previous: Option<&Observation>,
        report: v1::CertificateReport,
        now: i64,
    ) -> (Observation, Vec<Noticed>) {
        merge(
            previous,
            &"sally".parse().unwrap(),
            &"media.hachyderm.io".parse().unwrap(),
            report,
            now,
        )
    }

    #[test]
    fn the_same_report_changes_nothing_and_is_no_news() {
        let (first, news) = merged(None, report(1, Some(1), ""), 100);
        assert_eq!(
            news,
            [Noticed::Installed(1.into()), Noticed::Served(1.into())]
        );
        let (second, news) = merged(Some(&first), report(1, Some(1), ""), 200);
        assert_eq!(second, first);
        assert!(news.is_empty());
    }

    #[test]
    fn a_new_generation_has_the_time_of_its_receipt() {
        let (first, _) = merged(None, report(1, Some(1), ""), 100);
        let (second, news) = merged(Some(&first), report(2, Some(1), ""), 200);
        assert_eq!(second.facts.installed.as_ref().map(|f| f.at_ms), Some(200));
        assert_eq!(second.facts.served.as_ref().map(|f| f.at_ms), Some(100));
        assert_eq!(news, [Noticed::Installed(2.into())]);
    }

    #[test]
    fn a_problem_is_told_once() {
        let (first, news) = merged(None, report(1, None, "nginx -t failed"), 100);
        assert!(news.contains(&Noticed::Problem("nginx -t failed".into())));
        let (_, news) = merged(Some(&first), report(1, None, "nginx -t failed"), 200);
        assert!(news.is_empty());
    }

    #[test]
    fn the_placeholder_counts_as_nothing() {
        let (seen, news) = merged(None, report(0, Some(0), ""), 100);
        assert_eq!(seen.facts.installed, None);
        assert!(news.is_empty());
    }

    #[test]
    fn reports_that_name_nothing_real_are_refused_by_field() {
        let mut bad = v1::Report {
            certificates: vec![report(1, Some(1), "")],
            ..Default::default()
        };
        assert!(check(&bad).is_ok());
        bad.certificates[0].name = "../etc".into();
        assert!(
            check(&bad)
                .unwrap_err()
                .to_string()
                .starts_with("certificates[0].name: ")
        );
    }
}
