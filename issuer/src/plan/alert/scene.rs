//! What every class is judged by: each certificate on each of its hosts, with how it stands.

use std::time::Duration;

use certwell_proto::{CertificateName, Generation, HostName, pace::pace, v1};
use jiff::Timestamp;

use super::{
    Member,
    age::{Leaves, Served},
    text,
};
use crate::{
    config,
    plan::{
        facts::{CertificateFacts, FleetFacts, HostFacts},
        judge::{self, Judged, judge},
        presence::{self, PATIENCE},
        seen::{Finding, findings, trust::Looks, verdict::Known},
    },
};

/// The fleet at one instant.
pub(super) struct Scene<'a> {
    pub(super) facts: &'a FleetFacts,
    pub(super) now: Timestamp,
    pub(super) certificates: Vec<Certificate<'a>>,
    /// What is wrong when looked at from outside.
    pub(super) findings: Vec<Finding>,
    /// What is seen from outside, as far as it counts.
    pub(super) looks: Looks<'a>,
    /// What that is held against.
    pub(super) seen: Known<'a>,
}

/// A declared certificate.
pub(super) struct Certificate<'a> {
    pub(super) name: &'a CertificateName,
    pub(super) declared: &'a config::Certificate,
    pub(super) known: &'a CertificateFacts,
    /// Who stopped its orders and offers, one sentence.
    pub(super) paused: Option<String>,
    pub(super) pairs: Vec<Pair<'a>>,
}

/// A certificate on one of its hosts.
pub(super) struct Pair<'a> {
    pub(super) name: &'a CertificateName,
    pub(super) host: &'a HostName,
    pub(super) host_facts: Option<&'a HostFacts>,
    pub(super) judged: Judged,
    /// What its listeners serve, by the agent's last word.
    pub(super) served: Option<Served>,
    /// How the install of the desired generation ended, where it did.
    pub(super) outcome: Option<v1::Outcome>,
    /// How long it may be behind.
    pub(super) patience: Duration,
    pub(super) seen: Option<&'a crate::store::Observation>,
}

impl<'a> Scene<'a> {
    pub(super) fn of(facts: &'a FleetFacts, now: Timestamp) -> Self {
        let certificates = facts.config.certificates.iter();
        let certificates = certificates.filter_map(|(name, declared)| {
            // What is declared is known from the first moment on.
            let known = facts.certificates.get(name)?;
            let hosts = declared.hosts.iter();
            let leaves = Leaves::of(known);
            Some(Certificate {
                name,
                declared,
                known,
                paused: judge::paused(facts, name, known),
                pairs: hosts
                    .map(|host| Pair::of(facts, name, (known, &leaves), host, now))
                    .collect(),
            })
        });
        let certificates = certificates.collect();
        Self {
            facts,
            now,
            certificates,
            findings: findings(facts, now),
            looks: Looks::fresh(facts, now),
            seen: Known::of(facts),
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = &Pair<'a>> {
        self.certificates.iter().flat_map(|c| &c.pairs)
    }
}

impl Certificate<'_> {
    pub(super) fn desired(&self) -> Generation {
        let issued = self.known.issued.as_ref();
        issued.map_or(Generation::NONE, |issued| issued.generation)
    }
}

impl<'a> Pair<'a> {
    fn of(
        facts: &'a FleetFacts,
        name: &'a CertificateName,
        (known, leaves): (&'a CertificateFacts, &Leaves),
        host: &'a HostName,
        now: Timestamp,
    ) -> Self {
        let judged = judge(facts, name, known, host, now);
        let served = judged.served.as_ref();
        let served = served.and_then(|served| leaves.served(served, now));
        let left = served.as_ref().map(|served| {
            Duration::try_from(now.duration_until(served.not_after)).unwrap_or_default()
        });
        let desired = known.issued.as_ref().map(|issued| issued.generation);
        let seen = known.observations.get(host);
        let outcome = seen
            .filter(|seen| Some(seen.outcome_generation) == desired)
            .map(|seen| seen.outcome)
            .filter(|outcome| *outcome != v1::Outcome::Unspecified);
        Self {
            name,
            host,
            host_facts: facts.hosts.get(host),
            judged,
            served,
            outcome,
            patience: pace(PATIENCE, left),
            seen,
        }
    }

    /// Whether an agent is to be there: it enrolled, and nobody ended that.
    pub(super) fn is_enrolled(&self) -> bool {
        presence::life(self.host_facts) == v1::HostLife::Enrolled
    }

    /// What a person told the agent on that host to keep its hands off.
    pub(super) fn is_held_by_hand(&self) -> bool {
        let problem = self.seen.map(|seen| seen.facts.problem.as_str());
        problem.is_some_and(|problem| problem.starts_with(certwell_proto::HELD_BY_HAND))
    }

    /// What is served there, in words; empty where that isn't known.
    pub(super) fn serves(&self) -> String {
        match (&self.served, &self.judged.served) {
            (Some(served), _) => served.what.clone(),
            (
                None,
                Some(v1::StatusServed {
                    generation: Some(generation),
                    ..
                }),
            ) => format!("generation {generation}"),
            (None, Some(served)) if has_stranger(served) => {
                "a certificate that isn't certwell's".to_owned()
            }
            _ => String::new(),
        }
    }

    /// This host and certificate, with what is in the way there.
    pub(super) fn member(&self, why: &str) -> Member {
        Member {
            host: Some(self.host.clone()),
            address: None,
            certificate: Some(self.name.clone()),
            text: text::cut(why, text::MEMBER),
            served: self.serves(),
            served_not_after: self.served.as_ref().map(|served| served.not_after),
        }
    }
}

fn has_stranger(served: &v1::StatusServed) -> bool {
    let mut listeners = served.listeners.iter();
    listeners.any(|listener| listener.state() == v1::ListenerState::Stranger)
}
