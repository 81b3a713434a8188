//! How one host stands with one certificate: its state, and the most pressing sentence about it.
//!
//! Judged by what the host serves, never by what was issued or sent. What a host said earlier is held against
//! the generation that is desired now: a listener that was current becomes old when a new one is issued.

use std::time::Duration;

use certwell_proto::{CertificateName, Fingerprint, Generation, HostName, pace::pace, v1};
use jiff::Timestamp;

use super::{
    facts::{CertificateFacts, FleetFacts, HostFacts},
    presence::{PATIENCE, life, silence_after},
    recover, words,
};
use crate::store::Observation;
use v1::{HostState, ListenerState, Outcome};

/// A verdict on one host and one certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Of the five states.
    pub state: HostState,
    /// What is served, its listeners held against the generation that is desired now.
    pub served: Option<v1::StatusServed>,
    /// When what is served ends, if that is known.
    pub served_ends: Option<Timestamp>,
    /// The most pressing sentence; `None` when nothing is in the way.
    pub problem: Option<String>,
    /// The same without that what is served expired.
    pub cause: Option<String>,
}

/// Everything about one pair that the rules below look at.
struct Pair<'a> {
    host_name: &'a HostName,
    host: Option<&'a HostFacts>,
    certificate: &'a CertificateFacts,
    desired: Generation,
    observation: Option<&'a Observation>,
    paused: Option<String>,
    patience: Duration,
    now: Timestamp,
}

/// Judges `host` for `certificate`.
pub fn judge(
    facts: &FleetFacts,
    name: &CertificateName,
    certificate: &CertificateFacts,
    host: &HostName,
    now: Timestamp,
) -> Judged {
    let observation = certificate.observations.get(host);
    let issued = certificate.issued.as_ref();
    let served = observation
        .and_then(|o| o.facts.served.clone())
        .map(|s| held_against(s, certificate));
    let served_ends = served.as_ref().and_then(|s| ends(certificate, s));
    let remaining = served_ends
        .map(|end| Duration::try_from(now.duration_until(end)).unwrap_or(Duration::ZERO));
    let pair = Pair {
        host_name: host,
        host: facts.hosts.get(host),
        certificate,
        desired: issued.map_or(Generation::NONE, |i| i.generation),
        observation,
        paused: paused(facts, name, certificate),
        patience: pace(PATIENCE, remaining),
        now,
    };
    let state = pair.state(served.as_ref());
    let cause = pair.cause(state, served.as_ref());
    let expired = pair.expired(served.as_ref(), served_ends);
    let problem = match (expired, &cause) {
        (Some(expired), Some(cause)) => Some(format!("{expired}; {cause}")),
        (expired, cause) => expired.or(cause.clone()),
    };
    Judged {
        state,
        served,
        served_ends,
        problem,
        cause,
    }
}

/// Who or what stopped orders or offers of this certificate, and how they start again.
pub fn paused(
    facts: &FleetFacts,
    name: &CertificateName,
    certificate: &CertificateFacts,
) -> Option<String> {
    if facts.paused {
        Some("the whole fleet is paused until `certwell resume`".to_owned())
    } else if certificate.paused {
        Some(format!("it is paused until `certwell resume {name}`"))
    } else {
        recover::reason(facts, name, certificate)
    }
}

/// The served fact, with each listener held against the leaf that is desired now.
fn held_against(mut served: v1::StatusServed, certificate: &CertificateFacts) -> v1::StatusServed {
    // The placeholder is never counted as served.
    served.generation = served.generation.filter(|generation| *generation > 0);
    let leaf = certificate
        .issued
        .as_ref()
        .and_then(|issued| issued.fullchain.first());
    if let Some(leaf) = leaf {
        let desired = Fingerprint::of(leaf).0;
        for listener in &mut served.listeners {
            if listener.fingerprint == desired {
                listener.state = ListenerState::Current.into();
            } else if listener.state() == ListenerState::Current {
                listener.state = ListenerState::Old.into();
            }
        }
    }
    served
}

fn ends(certificate: &CertificateFacts, served: &v1::StatusServed) -> Option<Timestamp> {
    let generation = Generation(served.generation?);
    match &certificate.issued {
        Some(issued) if issued.generation == generation => Some(issued.not_after),
        _ => certificate
            .older
            .get(&generation)
            .map(|leaf| leaf.not_after),
    }
}

impl Pair<'_> {
    fn state(&self, served: Option<&v1::StatusServed>) -> HostState {
        if silence_after(self.host_name, self.host, self.patience, self.now).is_some() {
            return HostState::Silent;
        }
        if self.serves_desired(served) {
            return HostState::Converged;
        }
        match self.outcome() {
            Some(Outcome::Rejected | Outcome::Regressed) => HostState::Failed,
            Some(Outcome::Held | Outcome::NotApplied) => HostState::Held,
            _ => HostState::Pending,
        }
    }

    /// How the install of the generation that is desired now ended.
    fn outcome(&self) -> Option<Outcome> {
        self.observation
            .filter(|o| !self.desired.is_none() && o.outcome_generation == self.desired)
            .map(|o| o.outcome)
            .filter(|outcome| *outcome != Outcome::Unspecified)
    }

    fn serves_desired(&self, served: Option<&v1::StatusServed>) -> bool {
        let Some(served) = served else { return false };
        let settled = |listener: &v1::Listener| {
            matches!(
                listener.state(),
                ListenerState::Current
                    | ListenerState::Rejects
                    | ListenerState::Unprobed
                    | ListenerState::Elsewhere
            )
        };
        !self.desired.is_none()
            && served.generation == Some(self.desired.0)
            && served.listeners.iter().all(settled)
            && served
                .listeners
                .iter()
                .any(|listener| listener.state() == ListenerState::Current)
    }

    fn expired(
        &self,
        served: Option<&v1::StatusServed>,
        served_ends: Option<Timestamp>,
    ) -> Option<String> {
        served_ends.filter(|end| *end <= self.now).map(|end| {
            let generation = served.and_then(|s| s.generation).unwrap_or_default();
            format!(
                "{} serves generation {generation}, which expired {}",
                self.host_name,
                words::relative(end, self.now)
            )
        })
    }

    fn cause(&self, state: HostState, served: Option<&v1::StatusServed>) -> Option<String> {
        match state {
            HostState::Silent => self.silent(),
            HostState::Converged => self.host_problem(),
            _ => self
                .own_words()
                .or_else(|| self.listeners(served))
                .or_else(|| self.behind(state)),
        }
    }

    fn silent(&self) -> Option<String> {
        let silence = silence_after(self.host_name, self.host, self.patience, self.now)?;
        Some(match self.own_words() {
            Some(last) if life(self.host) == v1::HostLife::Enrolled => {
                format!("{silence} It last said: {last}")
            }
            _ => silence,
        })
    }

    /// What the agent itself says is in the way: of this certificate first, then of the whole host.
    fn own_words(&self) -> Option<String> {
        self.observation
            .map(|o| o.facts.problem.as_str())
            .filter(|problem| !problem.is_empty())
            .map(|problem| self.named(problem))
            .or_else(|| self.host_problem())
    }

    fn host_problem(&self) -> Option<String> {
        self.host
            .and_then(|h| h.problem.as_deref())
            .map(|problem| self.named(problem))
    }

    fn named(&self, problem: &str) -> String {
        if problem.contains(self.host_name.as_str()) {
            problem.to_owned()
        } else {
            format!("{}: {problem}", self.host_name)
        }
    }

    /// A listener that serves something else. An old leaf is nobody's fault until its install has ended.
    fn listeners(&self, served: Option<&v1::StatusServed>) -> Option<String> {
        let host = self.host_name;
        let listeners = served.map_or(&[][..], |s| s.listeners.as_slice());
        if self.outcome() == Some(Outcome::Converged) {
            if listeners.is_empty() {
                return Some(format!("no nginx listener on {host} uses this certificate"));
            }
            if !listeners.iter().any(|l| {
                matches!(
                    l.state(),
                    ListenerState::Current
                        | ListenerState::Old
                        | ListenerState::Stranger
                        | ListenerState::Down
                )
            }) {
                return Some(format!(
                    "none of the {} on {host} that use this certificate can be probed from there",
                    words::count(listeners.len(), "listener")
                ));
            }
        }
        if let Some(ahead) = served
            .and_then(|s| s.generation)
            .filter(|g| *g > self.desired.0 && !self.desired.is_none())
        {
            return Some(format!(
                "{host} serves generation {ahead}, newer than the issuer's {}",
                self.desired
            ));
        }
        let fault = |listener: &&v1::Listener| match listener.state() {
            ListenerState::Down | ListenerState::Stranger => true,
            ListenerState::Old => self.outcome().is_some() || self.overdue(),
            _ => false,
        };
        let at_fault: Vec<_> = listeners.iter().filter(fault).collect();
        let first = at_fault
            .iter()
            .find(|l| l.state() == ListenerState::Down)
            .or_else(|| at_fault.first())?;
        let what = match first.state() {
            ListenerState::Down => "does not answer",
            ListenerState::Stranger => "serves a certificate that is not of certwell",
            _ => "still serves an older generation",
        };
        let detail = if first.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", first.detail)
        };
        let more = match at_fault.len() {
            1 => String::new(),
            n => format!(", and so for {} more", words::count(n - 1, "listener")),
        };
        Some(format!(
            "{host}: {} for {} {what}{detail}{more}",
            first.address, first.name
        ))
    }

    /// Which fact is missing, once it is late; who paused it, at once.
    fn behind(&self, state: HostState) -> Option<String> {
        let host = self.host_name;
        let desired = self.desired;
        if desired.is_none() {
            return None;
        }
        match state {
            HostState::Failed => {
                return Some(format!(
                    "{host} could not install generation {desired} and keeps what it had"
                ));
            }
            HostState::Held => {
                return Some(format!(
                    "{host} holds generation {desired} back and tries again by itself"
                ));
            }
            _ => {}
        }
        let facts = self.observation.map(|o| &o.facts);
        let reached =
            |fact: Option<&v1::StatusFact>| fact.is_some_and(|f| f.generation >= desired.0);
        let missing = [
            ("fetched", facts.and_then(|f| f.fetched.as_ref())),
            ("installed", facts.and_then(|f| f.installed.as_ref())),
            ("tested", facts.and_then(|f| f.tested.as_ref())),
            ("reloaded", facts.and_then(|f| f.reloaded.as_ref())),
        ]
        .into_iter()
        .find(|(_, fact)| !reached(*fact))
        .map_or("served", |(stage, _)| stage);
        if missing == "fetched"
            && let Some(paused) = &self.paused
        {
            return Some(format!(
                "{host} is not offered generation {desired}: {paused}"
            ));
        }
        let since = self.certificate.issued_at()?;
        self.overdue().then(|| {
            format!(
                "{host} has not {missing} generation {desired}, issued {}",
                words::relative(since, self.now)
            )
        })
    }

    fn overdue(&self) -> bool {
        self.certificate.issued_at().is_some_and(|issued_at| {
            Duration::try_from(issued_at.duration_until(self.now)).unwrap_or(Duration::ZERO)
                > self.patience
        })
    }
}
