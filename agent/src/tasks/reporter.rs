//! Tells the issuer what is so: the latest state, never a history. Changes that come together go together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certwell_proto::v1;
use tokio::sync::watch;

use super::{
    Shutdown, asked_to_stop,
    connection::Link,
    observed::{Observed, Told},
    probe::Round,
};
use crate::{issuer::connection::words, jitter};

/// Facts of one install come in a burst.
const COALESCE: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(2);
/// The last report, before the process ends.
const LAST_LIMIT: Duration = Duration::from_secs(1);
/// A report that isn't answered is as good as lost.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The task.
pub struct Reporter {
    /// What is so.
    pub observed: watch::Receiver<Observed>,
    /// Results of preflights, by id.
    pub preflights: watch::Receiver<BTreeMap<String, v1::PreflightResult>>,
    /// Every certificate of this host.
    pub inventory: watch::Receiver<Option<Arc<v1::Inventory>>>,
    /// What this host sees from outside.
    pub seen: watch::Receiver<Option<Round>>,
    /// Whom to tell.
    pub link: watch::Receiver<Link>,
    /// The end.
    pub shutdown: Shutdown,
}

impl Reporter {
    /// Until shutdown; what is known by then is told once more if it can be.
    pub async fn run(mut self) {
        let mut told = Told::default();
        let mut session = None;
        let mut failed = false;
        loop {
            let retry = if failed {
                RETRY.mul_f64(0.5 + jitter::fraction())
            } else {
                Duration::MAX
            };
            let stop = tokio::select! {
                // First: the senders of the others end with their tasks, and are ready for ever then.
                biased;
                () = asked_to_stop(&mut self.shutdown) => true,
                _ = self.observed.changed() => false,
                _ = self.preflights.changed() => false,
                _ = self.inventory.changed() => false,
                _ = self.seen.changed() => false,
                _ = self.link.changed() => false,
                () = tokio::time::sleep(retry.min(Duration::from_secs(86_400))) => false,
            };
            if !stop {
                tokio::time::sleep(COALESCE).await;
            }
            let link = self.link.borrow_and_update().clone();
            if link.session().is_some() && link.session() != session {
                // A new connection: the issuer knows what the watch told it, and nothing else.
                session = link.session();
                told = Told::default();
                told.add(&link.told);
            }
            if stop {
                let _ = tokio::time::timeout(LAST_LIMIT, self.tell(&link, &mut told)).await;
                return;
            }
            failed = !self.tell(&link, &mut told).await;
        }
    }

    /// Whether nothing is left to tell to whom can be told.
    async fn tell(&mut self, link: &Link, told: &mut Told) -> bool {
        let observed = self.observed.borrow_and_update().clone();
        let preflights = self.preflights.borrow_and_update().clone();
        let inventory = self.inventory.borrow_and_update().clone();
        let seen = self.seen.borrow_and_update().clone();
        let Some(connection) = &link.connection else {
            return true;
        };
        let mut reports = observed.news(&preflights, told);
        // In a report of its own, and last: no fact of an install waits for it.
        reports.extend(observed.inventoried(inventory.as_deref(), told));
        reports.extend(observed.seen(seen.as_ref(), told));
        for report in reports {
            let mut fleet = connection.fleet();
            match tokio::time::timeout(CALL_LIMIT, fleet.report(report.clone())).await {
                Ok(Ok(_)) => told.add(&report),
                // It would be refused again, and what comes after it is not to wait for it.
                Ok(Err(status)) if status.code() == tonic::Code::InvalidArgument => {
                    tracing::error!(
                        problem = words(&status),
                        "the issuer refuses a report as malformed; it is dropped, and the next one told: see that agent and issuer are of neighbouring versions"
                    );
                    told.add(&report);
                }
                Ok(Err(status)) => {
                    tracing::warn!(
                        problem = words(&status),
                        "the issuer didn't take the report; it is told again"
                    );
                    return false;
                }
                Err(_) => {
                    tracing::warn!("the issuer didn't answer the report; it is told again");
                    return false;
                }
            }
        }
        told.round = seen.map(|seen| seen.number);
        true
    }
}
