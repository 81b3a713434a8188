//! Renews this host's identity at half its life, for ever.

use std::{sync::Arc, time::Duration};

use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, connection::Link};
use crate::{
    clock,
    issuer::{Connection, Identity, IdentityStore, renewal},
    jitter,
    plan::identity as plan,
};

/// Clocks are set and machines sleep: a long wait is looked at again after this.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// The task.
pub struct IdentityTask {
    /// Where it is kept.
    pub store: IdentityStore,
    /// The present one; told of the next.
    pub identity: watch::Sender<Arc<Identity>>,
    /// Through which it is renewed.
    pub link: watch::Receiver<Link>,
    /// The end.
    pub shutdown: Shutdown,
}

impl IdentityTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let mut spread = jitter::fraction();
        let mut attempts = 0_u32;
        // So often the bound key was shown to an issuer that had forgotten this host.
        let mut shown = 0;
        let mut not_before_retry = Duration::ZERO;
        loop {
            let present = self.identity.borrow().clone();
            let due = plan::renew_at(present.not_before, present.not_after, spread);
            let wait = clock::until(clock::now(), due).max(not_before_retry);
            let asked = tokio::select! {
                // Renewing hasn't begun.
                () = asked_to_stop(&mut self.shutdown) => return,
                () = tokio::time::sleep(wait.min(LONGEST_SLEEP)) => None,
                asked = forgotten(&mut self.link, shown) => Some(asked),
            };
            let connection = match asked {
                Some((times, connection)) => {
                    shown = times;
                    Some(connection)
                }
                None if wait > LONGEST_SLEEP => continue,
                None => self.connection().await,
            };
            let Some(connection) = connection else {
                return;
            };
            let renewing = renewal::renew(&self.store, &present, &connection, unix_now());
            let renewed = tokio::select! {
                // The pending key is on disk: the next start asks again with it.
                () = asked_to_stop(&mut self.shutdown) => return,
                renewed = renewing => renewed,
            };
            match renewed {
                Ok(identity) => {
                    tracing::info!(not_after = %identity.not_after, "identity renewed");
                    self.identity.send_replace(Arc::new(identity));
                    attempts = 0;
                    not_before_retry = Duration::ZERO;
                    spread = jitter::fraction();
                }
                Err(error) => {
                    attempts += 1;
                    let remaining = clock::until(clock::now(), present.not_after);
                    not_before_retry = plan::retry(attempts, remaining, jitter::fraction());
                    tracing::warn!(%error, not_after = %present.not_after, "identity not renewed yet");
                }
            }
        }
    }

    /// The present connection, waited for; `None` when the process is to end.
    async fn connection(&mut self) -> Option<Connection> {
        tokio::select! {
            () = asked_to_stop(&mut self.shutdown) => None,
            link = self.link.wait_for(|link| link.connection.is_some()) => link.ok()?.connection.clone(),
        }
    }
}

/// The connection of an issuer that has forgotten this host, once it has said so more than `shown` times.
async fn forgotten(link: &mut watch::Receiver<Link>, shown: u64) -> (u64, Connection) {
    let more = |link: &Link| {
        link.forgotten
            .as_ref()
            .is_some_and(|(times, _)| *times > shown)
    };
    let found = match link.wait_for(more).await {
        Ok(link) => link.forgotten.clone(),
        Err(_) => None,
    };
    match found {
        Some(found) => found,
        // The process is ending.
        None => std::future::pending().await,
    }
}

/// Now, as certificate checks take it.
pub fn unix_now() -> UnixTime {
    let seconds = u64::try_from(clock::now().as_second()).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
