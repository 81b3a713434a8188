//! Starts an issuance task for each declared certificate, and again when one is declared anew.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::CertificateName;
use tokio::{sync::watch, task::JoinSet};

use super::{accounts::Accounts, issuance::Issuance, order::Driver};
use crate::{
    fleet::Control,
    store::{Issued, PendingOrder},
};

/// What the store knew at the start.
#[derive(Default)]
pub struct Stored {
    /// The newest generation of each certificate.
    pub issued: BTreeMap<CertificateName, Issued>,
    /// Unfinished orders.
    pub pending: BTreeMap<CertificateName, PendingOrder>,
}

/// Runs until the registry is gone. A certificate that is declared again after it was dropped is read from the
/// store anew.
pub async fn run(
    mut stored: Stored,
    accounts: Accounts,
    driver: Driver,
    mut control: watch::Receiver<Arc<Control>>,
) {
    let mut tasks: JoinSet<CertificateName> = JoinSet::new();
    let mut running: std::collections::BTreeSet<CertificateName> = Default::default();
    loop {
        let declared: Vec<CertificateName> = control
            .borrow_and_update()
            .config
            .certificates
            .keys()
            .cloned()
            .collect();
        for name in declared {
            if running.contains(&name) {
                continue;
            }
            let pending = stored.pending.remove(&name);
            let issuance = Issuance {
                issued: stored.issued.remove(&name),
                failures: pending
                    .as_ref()
                    .map(|p| p.failures.clone())
                    .unwrap_or_default(),
                pending,
                name: name.clone(),
                accounts: accounts.clone(),
                driver: driver.clone(),
                control: control.clone(),
            };
            running.insert(name.clone());
            tasks.spawn(async move {
                issuance.run().await;
                name
            });
        }
        // Cancel-safe: `join_next` loses no result when dropped, `changed` marks nothing until it returns.
        tokio::select! {
            changed = control.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(name) = ended {
                    running.remove(&name);
                    match reload(&driver, &name).await {
                        Ok(fresh) => {
                            stored.issued.extend(fresh.issued);
                            stored.pending.extend(fresh.pending);
                        }
                        Err(e) => tracing::error!(certificate = %name, error = %e, "the store can't be read"),
                    }
                }
            }
        }
    }
}

async fn reload(driver: &Driver, name: &CertificateName) -> crate::store::Result<Stored> {
    let issued = driver
        .store
        .newest_issued()
        .await?
        .into_iter()
        .filter(|i| i.certificate == *name);
    let pending = driver
        .store
        .pending_orders()
        .await?
        .into_iter()
        .filter(|p| p.intent.certificate == *name);
    Ok(Stored {
        issued: issued.map(|i| (i.certificate.clone(), i)).collect(),
        pending: pending.map(|p| (p.intent.certificate.clone(), p)).collect(),
    })
}
