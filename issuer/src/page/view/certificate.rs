//! One certificate: how it stands, what comes next, each host with its facts and listeners.

use certwell_proto::{fingerprint::hex, v1};
use jiff::Timestamp;

use super::{
    cell::Cell,
    fleet::of_one,
    horizon::Horizon,
    mark::{Mark, Tone, of_listener},
    moment::Moment,
    seen::{Look, looks},
};
use crate::plan::headline::Headline;

/// All that is shown of one certificate, but for its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Its name.
    pub name: String,
    /// What matters.
    pub headline: Headline,
    /// How that is meant.
    pub tone: Tone,
    /// What it covers.
    pub identifiers: Vec<String>,
    /// 0: nothing is issued.
    pub generation: u64,
    /// Who issued it, or is to.
    pub authority: String,
    /// When its life begins and ends.
    pub life: Option<(Moment, Moment)>,
    /// When it is renewed next.
    pub renewal: Option<Moment>,
    /// No orders and no offers.
    pub paused: bool,
    /// The end on its axis.
    pub horizon: Horizon,
    /// What happens next, or now.
    pub next: Option<String>,
    /// The other sentences of its explanation.
    pub sentences: Vec<String>,
    /// What is wrong when looked at from outside, and since when.
    pub findings: Vec<(String, Moment)>,
    /// Whether nobody looks where public DNS leads.
    pub ignores_dns: bool,
    /// What public DNS led to that is no host's of it.
    pub elsewhere: Vec<Look>,
    /// Each host of it; those that aren't well first.
    pub hosts: Vec<OnHost>,
}

/// A certificate on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnHost {
    /// How far it has come.
    pub cell: Cell,
    /// When what is served there ends.
    pub ends: Option<Moment>,
    /// What the host's own handshakes found.
    pub listeners: Vec<Listener>,
    /// What is seen of it from outside.
    pub looks: Vec<Look>,
}

/// A listener and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// "address:port".
    pub address: String,
    /// What was sent in SNI.
    pub name: String,
    /// What came back.
    pub mark: Mark,
    /// Of the leaf, hexadecimal; empty when none came.
    pub fingerprint: String,
}

impl Certificate {
    /// From its status and its explanation.
    pub fn new(status: &v1::CertificateStatus, explanation: Vec<String>, now: Timestamp) -> Self {
        let (headline, tone) = of_one(status, now);
        let (next, sentences) = next_of(explanation);
        let seconds = |at: Option<i64>| at.map(|at| Moment::of_seconds(at, now));
        let mut hosts: Vec<OnHost> = status
            .hosts
            .iter()
            .map(|host| OnHost::new(&status.name, host, now))
            .collect();
        // Stable: of equal weight by name.
        hosts.sort_by_key(|host| std::cmp::Reverse(host.cell.mark.tone));
        Self {
            name: status.name.clone(),
            headline,
            tone,
            identifiers: status.identifiers.clone(),
            generation: status.generation,
            authority: status.authority.clone(),
            life: seconds(status.not_before).zip(seconds(status.not_after)),
            renewal: status.renew_at_ms.map(|at| Moment::of_millis(at, now)),
            paused: status.paused,
            horizon: Horizon::new(std::slice::from_ref(status), now),
            next,
            sentences,
            findings: status
                .findings
                .iter()
                .map(|finding| {
                    let since = Moment::of_millis(finding.since_ms, now);
                    (finding.text.clone(), since)
                })
                .collect(),
            ignores_dns: status.ignores_dns,
            elsewhere: looks(&status.elsewhere, now),
            hosts,
        }
    }
}

impl OnHost {
    /// From the status of a certificate on a host.
    pub fn new(certificate: &str, host: &v1::HostCertificateStatus, now: Timestamp) -> Self {
        let listeners = host.served.iter().flat_map(|served| &served.listeners);
        Self {
            cell: Cell::new(certificate, host, now),
            ends: host
                .served_not_after
                .map(|end| Moment::of_seconds(end, now)),
            listeners: listeners
                .map(|listener| Listener {
                    address: listener.address.clone(),
                    name: listener.name.clone(),
                    mark: of_listener(listener.state()),
                    fingerprint: hex(&listener.fingerprint),
                })
                .collect(),
            looks: looks(&host.sightings, now),
        }
    }
}

/// The sentence about what happens next goes before all others.
fn next_of(mut sentences: Vec<String>) -> (Option<String>, Vec<String>) {
    let is_next = |sentence: &String| sentence.starts_with("Next:") || sentence.starts_with("Now");
    match sentences.iter().rposition(is_next) {
        Some(at) => (Some(sentences.remove(at)), sentences),
        None => (None, sentences),
    }
}

#[cfg(test)]
mod tests {
    use v1::HostState;

    use super::{
        super::cell::tests::{NOW, host, now},
        *,
    };

    #[test]
    fn what_comes_next_goes_first_and_hosts_in_trouble_before_the_others() {
        let status = v1::CertificateStatus {
            name: "media".into(),
            generation: 7,
            not_before: Some(NOW - 1000),
            not_after: Some(NOW + 1000),
            hosts: vec![
                host("esme", HostState::Converged, 6, Some(7)),
                host("fritz", HostState::Converged, 6, Some(7)),
                host("sally", HostState::Failed, 5, Some(6)),
            ],
            ..v1::CertificateStatus::default()
        };
        let sentences = ["media is wanted.", "Next: it is renewed soon.", "More."];
        let shown = Certificate::new(&status, sentences.map(str::to_owned).to_vec(), now());
        assert_eq!(shown.next.as_deref(), Some("Next: it is renewed soon."));
        assert_eq!(shown.sentences, ["media is wanted.", "More."]);
        let order: Vec<&str> = shown
            .hosts
            .iter()
            .map(|host| host.cell.host.as_str())
            .collect();
        assert_eq!(order, ["sally", "esme", "fritz"]);
        let (begin, end) = shown.life.unwrap();
        assert_eq!(
            (begin.near.as_str(), end.near.as_str()),
            ("16 min ago", "in 16 min")
        );
    }
}
