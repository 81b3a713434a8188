//! Starts an issuance task for each declared certificate, and again when one is declared anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use certwell_proto::CertificateName;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};

use super::{accounts::Accounts, issuance::Issuance, order::Driver};
use crate::{
    fleet::Control,
    store::{self, Issued, OrderFailure, PendingOrder, Store},
};

/// A store that couldn't be read is asked again after this.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// What the store knew at the start; each certificate's part is taken once, for it changes from then on.
#[derive(Default)]
pub struct Stored(BTreeMap<CertificateName, Known>);

/// What the store knows of one certificate.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its newest generation.
    pub issued: Option<Issued>,
    /// Its unfinished order.
    pub pending: Option<PendingOrder>,
    /// How its issuance failed since it was last issued, oldest first.
    pub failures: Vec<OrderFailure>,
}

impl Stored {
    /// Reads all certificates.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(store: &dyn Store) -> store::Result<Self> {
        let mut known: BTreeMap<CertificateName, Known> = BTreeMap::new();
        for issued in store.newest_issued().await? {
            let name = issued.certificate.clone();
            known.entry(name).or_default().issued = Some(issued);
        }
        for pending in store.pending_orders().await? {
            let name = pending.intent.certificate.clone();
            known.entry(name).or_default().pending = Some(pending);
        }
        for (name, failure) in store.failures().await? {
            known.entry(name).or_default().failures.push(failure);
        }
        Ok(Self(known))
    }

    /// Every certificate that anything is stored of.
    pub fn iter(&self) -> impl Iterator<Item = (&CertificateName, &Known)> {
        self.0.iter()
    }

    fn take(&mut self, name: &CertificateName) -> Option<Known> {
        self.0.remove(name)
    }
}

/// An issuance that fell over is begun again after this.
const BEGIN_AGAIN: Duration = Duration::from_secs(60);

/// Runs until the registry is gone. A task that ended is started again, from what the store knows by then, as long
/// as its certificate is declared.
pub async fn run(
    mut stored: Stored,
    accounts: Accounts,
    driver: Driver,
    mut control: watch::Receiver<Arc<Control>>,
) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: BTreeMap<CertificateName, Id> = BTreeMap::new();
    let mut fell_over: BTreeSet<CertificateName> = BTreeSet::new();
    loop {
        let declared: Vec<CertificateName> = control
            .borrow_and_update()
            .config
            .certificates
            .keys()
            .cloned()
            .collect();
        for name in declared {
            if running.contains_key(&name) {
                continue;
            }
            let known = stored.take(&name);
            let pause = fell_over.remove(&name).then_some(BEGIN_AGAIN);
            let task = begin(
                name.clone(),
                known,
                accounts.clone(),
                driver.clone(),
                control.clone(),
            );
            let task = async move {
                tokio::time::sleep(pause.unwrap_or_default()).await;
                task.await;
            };
            running.insert(name, tasks.spawn(task).id());
        }
        // Cancel-safe: `join_next_with_id` loses no result when dropped, `changed` marks nothing until it returns.
        tokio::select! {
            changed = control.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        let id = error.id();
                        let names = running.iter().filter(|(_, running)| **running == id);
                        for (name, _) in names {
                            tracing::error!(
                                certificate = %name,
                                error = &error as &dyn std::error::Error,
                                "its issuance fell over; it is begun again in a minute"
                            );
                            fell_over.extend([name.clone()]);
                        }
                        id
                    }
                };
                running.retain(|_, running| *running != id);
            }
        }
    }
}

/// One issuance, from what is known of it, or else from the store.
async fn begin(
    name: CertificateName,
    known: Option<Known>,
    accounts: Accounts,
    driver: Driver,
    control: watch::Receiver<Arc<Control>>,
) {
    let Known {
        issued,
        pending,
        failures,
    } = match known {
        Some(known) => known,
        None => read(&driver, &name).await,
    };
    if let Some(issued) = &issued {
        driver.registry.issued(issued.clone()).await;
    }
    let attempts = failures.len();
    Issuance {
        name,
        issued,
        pending,
        failures,
        attempts,
        accounts,
        driver,
        control,
    }
    .run()
    .await;
}

/// What the store knows of one certificate. A store that fails is asked again: to begin without what it knows would
/// be to begin again at generation 1.
async fn read(driver: &Driver, name: &CertificateName) -> Known {
    loop {
        match Stored::read(driver.store.as_ref()).await {
            Ok(mut stored) => return stored.take(name).unwrap_or_default(),
            Err(error) => {
                tracing::error!(certificate = %name, error = &error as &dyn std::error::Error, "the store can't be read");
            }
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
}
