//! Keeps `state.json`, which `certwell-agent status` reads, and the last desired state, for a start without the
//! issuer. Neither holds a secret; neither is forced to disk, since the next start makes them anew.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use certwell_proto::v1::SightingState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, connection::Link, observed::Observed, probe::Round};
use crate::{clock, disk::durable};

/// What changes together is written together.
const COALESCE: Duration = Duration::from_millis(300);
/// What couldn't be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);

/// `state.json`. Stable: `status --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateFile {
    /// Of this format.
    pub version: u32,
    /// This host's name in the fleet.
    pub host: String,
    /// The fleet.
    pub fleet: String,
    /// Whether there is a connection to the issuer.
    pub connected: bool,
    /// Since when that is so.
    pub since: Option<Timestamp>,
    /// When something last came from the issuer.
    pub last_contact: Option<Timestamp>,
    /// In the way of the whole host.
    pub problem: Option<String>,
    /// When the agent started nginx, which had failed right after the last activation.
    #[serde(default)]
    pub nginx_started: Option<Timestamp>,
    /// When the present identity ends.
    pub identity_not_after: Option<Timestamp>,
    /// What it sees as a probe; null on a host that is none.
    #[serde(default)]
    pub probe: Option<ProbeState>,
    /// By name.
    pub certificates: Vec<CertificateState>,
    /// When this was written.
    pub written: Timestamp,
}

/// A probe's last round of looks from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeState {
    /// When it ended.
    pub at: Timestamp,
    /// Addresses that were looked at.
    pub addresses: usize,
    /// How many of them answered.
    pub answered: usize,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateState {
    /// Its name.
    pub name: String,
    /// What the issuer wants; 0: nothing is issued yet.
    pub desired: u64,
    /// What `live/NAME` points at; 0 is the placeholder, null another hand's.
    pub active: Option<u64>,
    /// The lowest generation over the listeners, null if any serves a stranger.
    pub served: Option<u64>,
    /// How many listeners were looked at.
    pub listeners: usize,
    /// First instant of the validity of what is active.
    pub not_before: Option<Timestamp>,
    /// Last instant of it.
    pub not_after: Option<Timestamp>,
    /// How the last install ended: converged, rejected, held, not-applied, regressed.
    pub outcome: Option<String>,
    /// One sentence.
    pub problem: Option<String>,
}

/// The task.
pub struct StateFileTask {
    /// `state.json`.
    pub state_path: PathBuf,
    /// The last desired state.
    pub desired_path: PathBuf,
    /// This host's name in the fleet.
    pub host: String,
    /// The fleet.
    pub fleet: String,
    /// When the identity ends.
    pub identity_not_after: watch::Receiver<std::sync::Arc<crate::issuer::Identity>>,
    /// What is so.
    pub observed: watch::Receiver<Observed>,
    /// What this host sees from outside.
    pub seen: watch::Receiver<Option<Round>>,
    /// The connection.
    pub link: watch::Receiver<Link>,
    /// The desired state as it came.
    pub kept: watch::Receiver<Vec<u8>>,
    /// The end.
    pub shutdown: Shutdown,
}

impl StateFileTask {
    /// Until shutdown, when it writes once more.
    pub async fn run(mut self) {
        let mut last: Option<StateFile> = None;
        let mut unkept = false;
        loop {
            let link = self.link.borrow_and_update().clone();
            let observed = self.observed.borrow_and_update().clone();
            let mut file = self.file(&observed, &link);
            let news = last.as_ref().is_none_or(|last| {
                // When it is written is no news by itself.
                file.written = last.written;
                *last != file
            });
            if news {
                file.written = clock::now();
                last = self.write(&file).then_some(file);
            }
            if unkept || self.kept.has_changed().unwrap_or(false) {
                let bytes = self.kept.borrow_and_update().clone();
                let kept = durable::replace_lightly(&self.desired_path, &bytes, 0o600);
                unkept = !is_written(kept);
            }
            let again = last.is_none() || unkept;
            tokio::select! {
                // First: the senders of the others end with their tasks, and are ready for ever then.
                biased;
                () = asked_to_stop(&mut self.shutdown) => {
                    let mut file = self.file(&self.observed.borrow().clone(), &Link::default());
                    file.connected = false;
                    file.last_contact = last.and_then(|last| last.last_contact);
                    self.write(&file);
                    return;
                }
                _ = self.observed.changed() => {}
                _ = self.link.changed() => {}
                _ = self.seen.changed() => {}
                _ = self.kept.changed() => self.kept.mark_changed(),
                _ = self.identity_not_after.changed() => {}
                () = tokio::time::sleep(AGAIN), if again => {}
            }
            tokio::select! {
                () = tokio::time::sleep(COALESCE) => {}
                // What is wanted is written at once: a start without the issuer is to know of what was installed since.
                Ok(()) = self.kept.changed() => self.kept.mark_changed(),
            }
        }
    }

    /// Whether it is written.
    fn write(&self, file: &StateFile) -> bool {
        match serde_json::to_vec_pretty(file) {
            Ok(text) => is_written(durable::replace_lightly(&self.state_path, &text, 0o600)),
            Err(error) => {
                tracing::warn!(%error, "no state file");
                false
            }
        }
    }

    fn file(&self, observed: &Observed, link: &Link) -> StateFile {
        let at = |ms: i64| Timestamp::from_millisecond(ms).ok().filter(|_| ms > 0);
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StateFile {
            version: 1,
            host: self.host.clone(),
            fleet: self.fleet.clone(),
            connected: link.connection.is_some(),
            since: at(link.since_ms),
            last_contact: at(link.last_contact_ms),
            problem: said(&observed.host_problem).or_else(|| said(&link.problem)),
            nginx_started: observed.nginx_started_ms.and_then(at),
            identity_not_after: Some(self.identity_not_after.borrow().not_after),
            probe: self.seen.borrow().as_ref().map(probe_state),
            certificates: observed
                .certificates
                .iter()
                .map(|(name, certificate)| CertificateState {
                    name: name.to_string(),
                    desired: certificate.desired,
                    active: certificate.active,
                    served: certificate
                        .report
                        .served
                        .as_ref()
                        .and_then(|served| served.generation),
                    listeners: certificate
                        .report
                        .served
                        .as_ref()
                        .map_or(0, |served| served.listeners.len()),
                    not_before: certificate.validity.map(|(not_before, _)| not_before),
                    not_after: certificate.validity.map(|(_, not_after)| not_after),
                    outcome: outcome_name(certificate.report.outcome()).map(str::to_owned),
                    problem: said(&certificate.report.problem),
                })
                .collect(),
            written: clock::now(),
        }
    }
}

fn probe_state(round: &Round) -> ProbeState {
    let addresses = |answered: bool| {
        let looks = round.sightings.iter().filter(|sighting| {
            let down = matches!(
                sighting.state(),
                SightingState::Down | SightingState::Unresolved
            );
            let counts = !(answered && down);
            counts && !sighting.address.is_empty()
        });
        looks
            .map(|sighting| &sighting.address)
            .collect::<BTreeSet<_>>()
            .len()
    };
    ProbeState {
        at: round.at,
        addresses: addresses(false),
        answered: addresses(true),
    }
}

fn outcome_name(outcome: certwell_proto::v1::Outcome) -> Option<&'static str> {
    use certwell_proto::v1::Outcome;
    Some(match outcome {
        Outcome::Unspecified => return None,
        Outcome::Converged => "converged",
        Outcome::Rejected => "rejected",
        Outcome::Held => "held",
        Outcome::NotApplied => "not-applied",
        Outcome::Regressed => "regressed",
    })
}

fn is_written(written: Result<(), durable::DiskError>) -> bool {
    if let Err(error) = &written {
        tracing::warn!(%error, "what status would show isn't written; it is tried again");
    }
    written.is_ok()
}
