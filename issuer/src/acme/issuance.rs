//! The issuance of one certificate: waits until it is due, asks its challenge hosts, orders, and again.

use std::{sync::Arc, time::Duration};

use certwell_proto::{CertificateName, Generation, Identifier};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::{
    accounts::{Accounts, describe},
    csr,
    http::root_certificates,
    order::{Driver, Ended, Then},
    preflight::Preflight,
};
use crate::{
    clock,
    config::{Authority, Certificate},
    fleet::Control,
    plan::{
        facts::{OrderFacts, OrderStage},
        renew::{RenewFacts, after_shared_failure, authority_index, order_at, stable_jitter},
    },
    store::{self, Intent, Issued, OrderFailure, PendingOrder, StoreError},
};

/// A sleep is never longer: the machine's clock may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// One certificate's issuance task.
pub struct Issuance {
    /// Its name.
    pub name: CertificateName,
    /// The newest issued generation.
    pub issued: Option<Issued>,
    /// The unfinished order.
    pub pending: Option<PendingOrder>,
    /// The newest failures since the last success, oldest first.
    pub failures: Vec<OrderFailure>,
    /// How many there were: which authority is next goes by it.
    pub attempts: usize,
    /// Accounts at the authorities.
    pub accounts: Accounts,
    /// What drives orders.
    pub driver: Driver,
    /// What the registry says: configuration, pauses, forced renewals.
    pub control: watch::Receiver<Arc<Control>>,
}

impl Issuance {
    /// Runs until the certificate is no longer declared, the registry is gone, or the store failed: then what it
    /// knows may no longer be what is stored, and it is to be started again from there.
    pub async fn run(mut self) {
        loop {
            let control = self.control.borrow_and_update().clone();
            let Some(declared) = control.config.certificates.get(&self.name).cloned() else {
                return;
            };
            if control.is_paused(&self.name) {
                self.tell(OrderFacts::default()).await;
            } else if control.recovering.contains(&self.name) {
                self.tell_recovering().await;
            } else {
                let now = clock::now();
                let own = self.order_at(&control, &declared, now);
                let held = self.held(&control, &declared, now);
                let at = held.as_ref().map_or(own, |(_, until)| own.max(*until));
                if at <= now {
                    if let Err(error) = self.attempt(&control, &declared).await {
                        return self.lost(&error, control.config.renewal.retry_first).await;
                    }
                    continue;
                }
                let held = held.filter(|(_, until)| *until > own);
                self.tell_waiting(at, held.map(|(name, _)| name)).await;
                let pause = Duration::try_from(at.duration_since(now)).unwrap_or(LONGEST_SLEEP);
                let sleep = tokio::time::sleep(pause.min(LONGEST_SLEEP));
                // Both arms may be dropped half-way: a sleep holds nothing, `changed` marks nothing until it returns.
                tokio::select! {
                    () = sleep => {}
                    changed = self.control.changed() => if changed.is_err() { return },
                }
                continue;
            }
            if self.control.changed().await.is_err() {
                return;
            }
        }
    }

    fn order_at(&self, control: &Control, declared: &Certificate, now: Timestamp) -> Timestamp {
        let forced = control.forced.get(&self.name);
        let generation = self.generation(control);
        // A renewal asked for by a person tries at once, whatever failed before he asked.
        let since = forced.map_or(0, |forced| {
            self.failures
                .iter()
                .filter(|failure| failure.at < forced.at)
                .count()
        });
        let authorities = declared.authorities.len();
        order_at(
            &RenewFacts {
                issued: self.issued.as_ref(),
                changed: self
                    .issued
                    .as_ref()
                    .is_some_and(|issued| !covers(issued, declared))
                    || self.is_behind(control),
                forced: forced.is_some_and(|forced| forced.generation > generation),
                pending: self.pending.is_some(),
                failures: &self.failures[since..],
                other_authority: authority_index(self.attempts, authorities)
                    != authority_index(self.attempts.saturating_sub(1), authorities),
                window: None,
                jitter: stable_jitter(self.name.as_str(), generation.0),
            },
            &control.config.renewal,
            now,
        )
    }

    /// Until when it is held up, because the CA couldn't validate this identifier of it for some certificate.
    fn held(
        &self,
        control: &Control,
        declared: &Certificate,
        now: Timestamp,
    ) -> Option<(Identifier, Timestamp)> {
        // What is ordered already is finished.
        if self.pending.as_ref().is_some_and(|p| p.url.is_some()) {
            return None;
        }
        let (name, failed) = self.driver.names.last_failed(&declared.identifiers)?;
        let forced = control.forced.get(&self.name);
        if forced.is_some_and(|forced| failed < forced.at) {
            return None;
        }
        let settings = &control.config.renewal;
        let until = after_shared_failure(failed, self.issued.as_ref(), settings, now);
        (until > now).then_some((name, until))
    }

    async fn lost(&self, error: &StoreError, pause: Duration) {
        let problem = describe(error);
        let again = clock::now() + SignedDuration::try_from(pause).unwrap_or_default();
        tracing::error!(certificate = %self.name, problem, "its issuance is begun again from the store");
        self.tell(OrderFacts {
            stage: OrderStage::Waiting,
            problem: Some(problem),
            next_at: Some(again),
            failures: self.attempts(),
            failing: self.failing(Some(again)),
        })
        .await;
        tokio::time::sleep(pause).await;
    }

    /// One way from the intent to a certificate, or to a failure that is noted.
    async fn attempt(&mut self, control: &Control, declared: &Certificate) -> store::Result<()> {
        let index = authority_index(self.attempts, declared.authorities.len());
        let named = declared.authorities.get(index);
        let Some((authority_name, authority)) =
            named.and_then(|name| Some((name, control.config.authorities.get(name)?)))
        else {
            return self
                .failed(internal("no authority is configured for it"))
                .await;
        };
        if let Err(failure) = self
            .intend(control, declared, authority_name, authority)
            .await?
        {
            return self.failed(failure).await;
        }
        let ready = match self.accounts.at(authority).await {
            Ok(ready) => ready,
            Err(e) => {
                return self
                    .failed(OrderFailure {
                        retry_at: e.retry_at,
                        ..internal(&e.problem)
                    })
                    .await;
            }
        };
        let registry = &self.driver.registry;
        registry
            .account(&self.name, authority_name, &ready.thumbprint)
            .await;
        // An order that was placed has its preflight behind it.
        let mut unproven = Vec::new();
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.url.is_none())
        {
            let question = match self.question(declared, authority, &ready.thumbprint) {
                Ok(question) => question,
                Err(failure) => return self.failed(failure).await,
            };
            match self.preflight(control, declared, question).await {
                Preflight::Go(hosts) => unproven = hosts,
                Preflight::Changed => return Ok(()),
            }
        }
        let turn = self.driver.names.turn(&declared.identifiers).await;
        // Another certificate may have failed with one of these names meanwhile.
        if self.held(control, declared, clock::now()).is_some() {
            return Ok(());
        }
        let roots = match root_certificates(&authority.roots) {
            Ok(roots) => roots,
            Err(e) => return self.failed(internal(&e.to_string())).await,
        };
        let Some(pending) = self.pending.as_mut() else {
            return Ok(());
        };
        let ended = self
            .driver
            .drive(ready.acme.as_ref(), pending, &roots)
            .await;
        drop(turn);
        match ended {
            Ok(issued) => {
                self.succeeded(issued).await;
                Ok(())
            }
            Err(Ended { failure, then }) => {
                if then == Then::Reregister
                    && let Err(e) = self.accounts.forget(authority).await
                {
                    tracing::error!(certificate = %self.name, error = %e, "a lost account can't be forgotten");
                }
                let failure = self.suspecting(failure, declared, &unproven).await;
                self.order_ended(failure, then).await
            }
        }
    }

    /// Sees to it that the committed intent is the one that the configuration asks for.
    async fn intend(
        &mut self,
        control: &Control,
        declared: &Certificate,
        authority_name: &str,
        authority: &Authority,
    ) -> store::Result<Result<(), OrderFailure>> {
        if self.is_behind(control) {
            let forgotten = control.forgotten(&self.name);
            self.driver
                .store
                .raise_generation(&self.name, forgotten)
                .await?;
        }
        if let Some(PendingOrder { intent, .. }) = &self.pending {
            if same_set(&intent.identifiers, &declared.identifiers)
                && intent.directory == authority.directory
                && csr::key_type_of_csr(&intent.csr) == Some(declared.key_type)
                // One that a host has already under this number can't be made again.
                && intent.generation > control.forgotten(&self.name)
            {
                return Ok(Ok(()));
            }
            self.abandon().await?;
        }
        let (private_key, csr) = match csr::make(declared.key_type, &declared.identifiers) {
            Ok(made) => made,
            Err(e) => return Ok(Err(internal(&format!("no key or CSR can be made: {e}")))),
        };
        // Another authority knows nothing of what it would replace.
        let replaced = self
            .issued
            .as_ref()
            // Nor does anybody know what the newest one was, that the backup had forgotten.
            .filter(|issued| issued.authority == authority_name && !self.is_behind(control));
        let intent = Intent {
            certificate: self.name.clone(),
            generation: self.generation(control).next(),
            identifiers: declared.identifiers.clone(),
            authority: authority_name.to_owned(),
            directory: authority.directory.clone(),
            private_key,
            csr,
            replaces: replaced.and_then(|issued| issued.fullchain.first().cloned()),
            at: clock::now(),
        };
        self.driver.store.begin_order(&intent).await?;
        self.pending = Some(PendingOrder { intent, url: None });
        Ok(Ok(()))
    }

    pub(super) async fn abandon(&mut self) -> store::Result<()> {
        if let Some(pending) = &self.pending {
            self.driver
                .store
                .abandon_order(&self.name, pending.intent.generation)
                .await?;
            self.pending = None;
        }
        Ok(())
    }

    /// The highest that is known to exist.
    fn generation(&self, control: &Control) -> Generation {
        self.stored().max(control.forgotten(&self.name))
    }

    fn stored(&self) -> Generation {
        self.issued
            .as_ref()
            .map_or(Generation::NONE, |issued| issued.generation)
    }

    /// Whether hosts have a generation that the store, restored from a backup, knows nothing of.
    fn is_behind(&self, control: &Control) -> bool {
        control.forgotten(&self.name) > self.stored()
    }
}

pub(super) fn internal(problem: &str) -> OrderFailure {
    OrderFailure {
        at: clock::now(),
        validation: false,
        problem: problem.to_owned(),
        retry_at: None,
    }
}

/// Whether what is issued is what is asked for now.
fn covers(issued: &Issued, declared: &Certificate) -> bool {
    same_set(&issued.identifiers, &declared.identifiers)
        && issued
            .fullchain
            .first()
            .and_then(|leaf| csr::key_type_of_leaf(leaf))
            == Some(declared.key_type)
}

fn same_set<T: Ord>(left: &[T], right: &[T]) -> bool {
    let sorted = |items: &[T]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|&a, &b| items[a].cmp(&items[b]));
        order
    };
    left.len() == right.len()
        && sorted(left)
            .into_iter()
            .zip(sorted(right))
            .all(|(a, b)| left[a] == right[b])
}
