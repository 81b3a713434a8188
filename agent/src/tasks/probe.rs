//! Looks at the edges from outside, on a host that the issuer has made a probe; on any other it does nothing.

use std::{sync::Arc, time::Duration};

use certwell_probe::{Outlook, next_round, shows_a_new_fault};
use certwell_proto::{pace::pace, v1};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Shutdown, asked_to_stop};
use crate::{clock, issuer::Desired};

/// No round begins sooner after the last one has: the edges are others' machines.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the last round brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// Counted from the start.
    pub number: u64,
    /// When it ended.
    pub at: Timestamp,
    /// Each look's together.
    pub sightings: Arc<Vec<v1::Sighting>>,
}

/// The task.
pub struct ProbeTask {
    /// The outlook is in it.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// The last round; none on a host that is no probe.
    pub seen: watch::Sender<Option<Round>>,
    /// The end.
    pub shutdown: Shutdown,
}

impl ProbeTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let mut number = 0;
        loop {
            let began = Instant::now();
            let outlook = self.outlook();
            let due = match &outlook {
                None => {
                    self.seen.send_if_modified(|seen| seen.take().is_some());
                    None
                }
                Some(outlook) => {
                    let sightings = tokio::select! {
                        () = asked_to_stop(&mut self.shutdown) => return,
                        // Dropped with this future: no handshake runs on.
                        sightings = certwell_probe::round(outlook, clock::now) => sightings,
                    };
                    number += 1;
                    let now = clock::now();
                    let every = pace(outlook.every, life(&sightings, now));
                    let before = self
                        .seen
                        .borrow()
                        .as_ref()
                        .map(|seen| seen.sightings.clone());
                    let is_new = shows_a_new_fault(&before.unwrap_or_default(), &sightings);
                    let due = next_round(began, Instant::now(), every.max(SHORTEST), is_new);
                    let sightings = Arc::new(sightings);
                    self.seen.send_replace(Some(Round {
                        number,
                        at: now,
                        sightings,
                    }));
                    Some(due.max(Instant::now() + SHORTEST))
                }
            };
            if !self.wait(outlook, due, began + SHORTEST).await {
                return;
            }
        }
    }

    fn outlook(&mut self) -> Option<Arc<Outlook>> {
        let desired = self.desired.borrow_and_update();
        desired.as_ref().and_then(|desired| desired.outlook.clone())
    }

    /// Until the next round is due, or there is something else to look at; false when all ends.
    async fn wait(
        &mut self,
        before: Option<Arc<Outlook>>,
        due: Option<Instant>,
        soonest: Instant,
    ) -> bool {
        loop {
            let round = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel-safe: all of them are waits that keep what has come.
            tokio::select! {
                () = asked_to_stop(&mut self.shutdown) => return false,
                () = round => return true,
                changed = self.desired.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    if self.outlook() != before {
                        tokio::select! {
                            () = asked_to_stop(&mut self.shutdown) => return false,
                            () = sleep_until(soonest) => return true,
                        }
                    }
                }
            }
        }
    }
}

/// The least life left of a leaf with a good chain: what is a stranger's, or has ended, hurries nobody.
fn life(sightings: &[v1::Sighting], now: Timestamp) -> Option<Duration> {
    sightings
        .iter()
        .filter(|sighting| sighting.state() == v1::SightingState::Leaf)
        .filter(|sighting| sighting.chain_problem.is_empty())
        .filter_map(|sighting| u64::try_from(sighting.not_after - now.as_second()).ok())
        .min()
        .map(Duration::from_secs)
}
