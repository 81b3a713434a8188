//! The dead-man's switch: a URL outside is asked for after a complete evaluation, and whoever is behind it raises the
//! alarm when that stops.

use std::time::Duration;

use certwell_notice::{Endpoint, Roots};
use certwell_proto::pace::pace;
use tokio::{sync::mpsc, time::Instant};

use crate::config::Alerts;

/// For one request.
const LIMIT: Duration = Duration::from_secs(10);

/// Handle of the task that asks for the URL.
pub(super) struct Heartbeat {
    mailbox: mpsc::Sender<Endpoint>,
    last: Option<Instant>,
}

impl Heartbeat {
    /// Starts the task; it ends with this handle.
    pub(super) fn start() -> Self {
        let (mailbox, beats) = mpsc::channel(1);
        tokio::spawn(ask(beats));
        Self {
            mailbox,
            last: None,
        }
    }

    /// All was evaluated: asks for the URL, if it is set and it is time. While an older request is on its way there is no
    /// other: that one says as much.
    pub(super) fn beat(&mut self, settings: &Alerts, life: Option<Duration>) {
        let Some(target) = &settings.heartbeat_url else {
            return;
        };
        let every = pace(settings.heartbeat_every, life);
        // Evaluations are never quite on time.
        if self
            .last
            .is_some_and(|last| last.elapsed() + every / 10 < every)
        {
            return;
        }
        let endpoint = Endpoint {
            target: target.clone(),
            roots: Roots::System,
        };
        if self.mailbox.try_send(endpoint).is_ok() {
            self.last = Some(Instant::now());
        }
    }
}

async fn ask(mut beats: mpsc::Receiver<Endpoint>) {
    let mut failing = false;
    while let Some(endpoint) = beats.recv().await {
        let asked = endpoint.get(LIMIT).await;
        match &asked {
            Ok(_) if failing => tracing::info!("the heartbeat gets through again"),
            Err(refused) if !failing => {
                tracing::warn!(problem = %refused, "the heartbeat doesn't get through; it is tried again");
            }
            _ => {}
        }
        failing = asked.is_err();
    }
}
