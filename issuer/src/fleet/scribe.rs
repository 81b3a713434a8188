//! Commits observations: all that have come in since the last commit, in one transaction.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;

use crate::store::{Observation, Store};

/// Observations that may wait for a commit.
const BACKLOG: usize = 1024;

/// Handle of the scribe task.
#[derive(Clone)]
pub struct Scribe(mpsc::Sender<Observation>);

impl Scribe {
    /// Starts the task; it ends, everything committed, with the last handle.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (sender, mut receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            let mut batch: Vec<Observation> = Vec::new();
            while receiver.recv_many(&mut batch, BACKLOG).await > 0 {
                // Of several observations of one certificate on one host, the last is the state.
                let latest: BTreeMap<_, _> = batch
                    .drain(..)
                    .map(|seen| ((seen.host.clone(), seen.certificate.clone()), seen))
                    .collect();
                let latest: Vec<Observation> = latest.into_values().collect();
                if let Err(e) = store.put_observations(&latest).await {
                    tracing::error!(
                        error = &e as &dyn std::error::Error,
                        "observations can't be stored"
                    );
                }
            }
        });
        Self(sender)
    }

    /// Hands over one observation.
    pub async fn write(&self, observation: Observation) {
        let _ = self.0.send(observation).await;
    }
}
