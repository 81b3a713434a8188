//! Commits what hosts say: all observations that have come in since the last commit, in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{HostName, v1::HostInfo};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::store::{self, Observation, Store};

/// Notes that may wait for a commit.
const BACKLOG: usize = 1024;

enum Note {
    Observation(Box<Observation>),
    Seen(HostName, Timestamp, Box<HostInfo>),
}

/// Handle of the scribe task.
#[derive(Clone)]
pub struct Scribe(mpsc::Sender<Note>);

impl Scribe {
    /// Starts the task; it ends, everything committed, with the last handle.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            let mut notes: Vec<Note> = Vec::new();
            while receiver.recv_many(&mut notes, BACKLOG).await > 0 {
                if let Err(e) = commit(store.as_ref(), notes.drain(..)).await {
                    tracing::error!(
                        error = &e as &dyn std::error::Error,
                        "what hosts said can't be stored"
                    );
                }
            }
        });
        Self(sender)
    }

    /// Hands over one observation.
    pub async fn write(&self, observation: Observation) {
        let _ = self.0.send(Note::Observation(Box::new(observation))).await;
    }

    /// Hands over when a host last spoke to us, and what it said of itself.
    pub async fn seen(&self, host: HostName, at: Timestamp, info: HostInfo) {
        let _ = self.0.send(Note::Seen(host, at, Box::new(info))).await;
    }
}

/// Of several notes about the same, the last is the state.
async fn commit(store: &dyn Store, notes: impl Iterator<Item = Note>) -> store::Result<()> {
    let mut observations = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for note in notes {
        match note {
            Note::Observation(one) => {
                observations.insert((one.host.clone(), one.certificate.clone()), *one);
            }
            Note::Seen(host, at, info) => {
                seen.insert(host, (at, info));
            }
        }
    }
    let observations: Vec<Observation> = observations.into_values().collect();
    if !observations.is_empty() {
        store.put_observations(&observations).await?;
    }
    for (host, (at, info)) in seen {
        store.host_seen(&host, at, &info).await?;
    }
    Ok(())
}
