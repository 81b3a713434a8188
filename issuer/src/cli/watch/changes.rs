//! What differs between two looks: each difference one line, for people or for programs.

use std::collections::BTreeMap;

use certwell_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{
        alert_json::severity_word,
        alerts::{OVER, state},
    },
    frame::Shown,
};
use crate::{page::view::cell::Cell, plan::headline::headline};

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Change {
    /// The one thing that matters.
    Headline { text: String, converged: bool },
    /// Whether the issuer can be reached.
    Issuer { reachable: bool },
    /// A certificate on a host.
    Host {
        certificate: String,
        host: String,
        state: &'static str,
        /// The furthest fact of the desired generation.
        fact: &'static str,
        generation: u64,
        problem: Option<String>,
    },
    /// A certificate on a host that isn't wanted there any more.
    Gone { certificate: String, host: String },
    /// An alert is raised, stands otherwise, or is over.
    Alert {
        id: u64,
        class: String,
        severity: &'static str,
        state: &'static str,
        title: String,
    },
    /// In the way of a certificate's next issuance, or no more.
    Issuance {
        certificate: String,
        problem: Option<String>,
    },
}

impl Change {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Headline { text, .. } => text.clone(),
            Self::Issuer { reachable: false } => "the issuer can't be reached; waiting".to_owned(),
            Self::Issuer { reachable: true } => "the issuer is back".to_owned(),
            Self::Host {
                certificate,
                host,
                state,
                fact,
                generation,
                problem,
            } => {
                let mut text = format!("{certificate} on {host}: {state}, {fact}");
                if *generation > 0 {
                    text.push_str(&format!(" {generation}"));
                }
                if let Some(problem) = problem {
                    text.push_str(&format!(": {problem}"));
                }
                text
            }
            Self::Gone { certificate, host } => {
                format!("{certificate} on {host}: not wanted there any more")
            }
            Self::Alert {
                id,
                severity,
                state,
                title,
                ..
            } => format!("alert {id}, {severity}, {state}: {title}"),
            Self::Issuance {
                certificate,
                problem: Some(problem),
            } => format!("{certificate}: next issuance: {problem}"),
            Self::Issuance {
                certificate,
                problem: None,
            } => format!("{certificate}: nothing is in the way of its next issuance any more"),
        }
    }
}

/// The differences; without a look before, all that isn't as it should be, behind the headline.
pub(super) fn between(before: Option<&Shown>, after: &Shown, now: Timestamp) -> Vec<Change> {
    let reachable = after.gone.is_none();
    let was_reachable = before.is_none_or(|before| before.gone.is_none());
    let mut changes = Vec::new();
    if reachable != was_reachable {
        changes.push(Change::Issuer { reachable });
    }
    if !reachable {
        return changes;
    }
    let head = |shown: &Shown| headline(&shown.status, now);
    let now_head = head(after);
    // By the same clock, so that time alone changes nothing.
    if before.is_none_or(|before| head(before) != now_head) {
        changes.push(Change::Headline {
            text: now_head.text,
            converged: now_head.converged,
        });
    }
    let (old, new) = (
        before.map(|before| hosts(&before.status, now)),
        hosts(&after.status, now),
    );
    for (key, change) in &new {
        let known = match &old {
            Some(old) => old.get(key) == Some(change),
            None => is_well(change),
        };
        if !known {
            changes.push(change.clone());
        }
    }
    for (certificate, host) in old.iter().flat_map(BTreeMap::keys) {
        if !new.contains_key(&(certificate.clone(), host.clone())) {
            changes.push(Change::Gone {
                certificate: certificate.clone(),
                host: host.clone(),
            });
        }
    }
    changes.extend(alerts_between(
        before.map_or(&[], |before| &before.alerts),
        &after.alerts,
    ));
    let issuance = |status: &v1::StatusResponse| -> BTreeMap<String, String> {
        let all = status.certificates.iter();
        all.map(|one| (one.name.clone(), one.problem.clone()))
            .collect()
    };
    let old = before.map_or_else(BTreeMap::new, |before| issuance(&before.status));
    for (certificate, problem) in issuance(&after.status) {
        if old.get(&certificate).map_or("", String::as_str) != problem {
            changes.push(Change::Issuance {
                certificate,
                problem: (!problem.is_empty()).then_some(problem),
            });
        }
    }
    changes
}

fn alerts_between(before: &[v1::Alert], after: &[v1::Alert]) -> Vec<Change> {
    let by_id = |alerts: &[v1::Alert]| -> BTreeMap<u64, Change> {
        alerts
            .iter()
            .map(|alert| (alert.id, about(alert, state(alert))))
            .collect()
    };
    let (old, new) = (by_id(before), by_id(after));
    let over = before
        .iter()
        .filter(|alert| !new.contains_key(&alert.id))
        .map(|alert| about(alert, OVER));
    let other = new
        .iter()
        .filter(|(id, change)| old.get(id) != Some(change))
        .map(|(_, change)| change.clone());
    other.chain(over).collect()
}

fn about(alert: &v1::Alert, state: &'static str) -> Change {
    Change::Alert {
        id: alert.id,
        class: alert.class.clone(),
        severity: severity_word(alert.severity()),
        state,
        title: alert.title.clone(),
    }
}

fn is_well(change: &Change) -> bool {
    matches!(
        change,
        Change::Host {
            state: "converged",
            problem: None,
            ..
        }
    )
}

fn hosts(status: &v1::StatusResponse, now: Timestamp) -> BTreeMap<(String, String), Change> {
    let cells = status.certificates.iter().flat_map(|certificate| {
        let hosts = certificate.hosts.iter();
        hosts.map(|host| Cell::new(&certificate.name, host, now))
    });
    cells
        .map(|cell| {
            let key = (cell.certificate.clone(), cell.host.clone());
            let fact = cell.fact();
            let change = Change::Host {
                certificate: cell.certificate,
                host: cell.host,
                state: cell.mark.word,
                fact,
                generation: cell.generation,
                problem: (!cell.problem.is_empty()).then_some(cell.problem),
            };
            (key, change)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use v1::HostState;

    use super::*;
    use crate::page::view::cell::tests::{host, now};

    fn shown(hosts: &[(&str, HostState)], problem: &str) -> Shown {
        let hosts = hosts
            .iter()
            .map(|(name, state)| host(name, *state, 6, Some(7)));
        Shown {
            status: v1::StatusResponse {
                certificates: vec![v1::CertificateStatus {
                    name: "media.hachyderm.io".into(),
                    generation: 7,
                    hosts: hosts.collect(),
                    problem: problem.into(),
                    ..v1::CertificateStatus::default()
                }],
                ..v1::StatusResponse::default()
            },
            ..Shown::default()
        }
    }

    const WELL: [(&str, HostState); 2] = [
        ("esme", HostState::Converged),
        ("sally", HostState::Converged),
    ];

    /// Behind the headline.
    fn told(before: Option<&Shown>, after: &Shown) -> Vec<String> {
        let changes = between(before, after, now()).into_iter();
        let others = changes.filter(|change| !matches!(change, Change::Headline { .. }));
        others.map(|change| change.sentence()).collect()
    }

    #[test]
    fn where_nothing_changed_nothing_is_told_and_at_first_only_what_is_not_well() {
        let well = shown(&WELL, "");
        assert_eq!(between(Some(&well), &well, now()), []);
        assert!(matches!(
            between(None, &well, now())[..],
            [Change::Headline { .. }]
        ));
        let failed = shown(&[WELL[0], ("sally", HostState::Failed)], "");
        let first = told(None, &failed);
        assert_eq!(first.len(), 1);
        assert!(
            first[0].contains("media.hachyderm.io on sally"),
            "{first:?}"
        );
        assert_eq!(told(Some(&well), &failed), first);
    }

    #[test]
    fn a_host_that_is_wanted_no_more_and_each_trouble_of_an_issuance_are_told_once() {
        let well = shown(&WELL, "");
        let alone = shown(&WELL[..1], "");
        assert_eq!(
            told(Some(&well), &alone),
            ["media.hachyderm.io on sally: not wanted there any more"]
        );
        let troubled = shown(&WELL, "the CA refuses");
        assert_eq!(
            told(Some(&well), &troubled),
            ["media.hachyderm.io: next issuance: the CA refuses"]
        );
        assert_eq!(told(Some(&troubled), &troubled), [""; 0]);
        assert_eq!(
            told(Some(&troubled), &well),
            ["media.hachyderm.io: nothing is in the way of its next issuance any more"]
        );
    }
}
