//! For tests and simulation: the behaviour of the real store, with nothing on disk and nothing sealed.

mod alerts;
mod held;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use certwell_proto::{Bundle, CertificateName, Generation, HostName, KeyPair, Lineage, v1};
use jiff::Timestamp;

use self::held::{Held, conflict, kept};
use super::{
    Account, Enrolled, EventFilter, EventRecord, FleetCa, HostRecord, Intent, InventoryRecord,
    Issued, Observation, OrderFailure, PendingOrder, Recovery, Result, Store, StoredLeaf,
    TokenRecord,
};

/// A store that ends with this value.
#[derive(Debug)]
pub struct MemoryStore {
    lineage: Lineage,
    fleet_ca: FleetCa,
    held: Mutex<Held>,
}

impl MemoryStore {
    /// An empty store of this lineage and fleet.
    pub fn new(lineage: Lineage, fleet_ca: FleetCa) -> Self {
        Self {
            lineage,
            fleet_ca,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_wanted(event: &EventRecord, after: u64, of: &EventFilter) -> bool {
    event.id > after && of.lets_through(event)
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    async fn lineage(&self) -> Result<Lineage> {
        Ok(self.held().lineage.unwrap_or(self.lineage))
    }

    async fn fleet_ca(&self) -> Result<FleetCa> {
        Ok(self.fleet_ca.clone())
    }

    async fn begin_recovery(&self, lineage: Lineage, at: Timestamp) -> Result<()> {
        let mut held = self.held();
        if held.lineage.unwrap_or(self.lineage).started_ms >= lineage.started_ms {
            return Err(conflict(
                "the new lineage must be later than the one that it follows".into(),
            ));
        }
        held.lineage = Some(lineage);
        for token in held.tokens.values_mut() {
            token.void |= token.used_by.is_none();
        }
        for seen in held.observations.values_mut() {
            seen.told = None;
        }
        held.recovery = Some(Recovery {
            began: kept(at),
            ended: None,
        });
        Ok(())
    }

    async fn recovery(&self) -> Result<Option<Recovery>> {
        Ok(self.held().recovery)
    }

    async fn end_recovery(&self, at: Timestamp) -> Result<()> {
        if let Some(recovery) = self.held().recovery.as_mut() {
            recovery.ended.get_or_insert(kept(at));
        }
        Ok(())
    }

    async fn account(&self, directory: &str) -> Result<Option<Account>> {
        Ok(self.held().accounts.get(directory).cloned())
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        Ok(self.held().accounts.values().cloned().collect())
    }

    async fn put_account(&self, account: &Account) -> Result<()> {
        self.held()
            .accounts
            .insert(account.directory.clone(), account.clone());
        Ok(())
    }

    async fn begin_order(&self, intent: &Intent) -> Result<()> {
        let Intent {
            certificate,
            generation,
            ..
        } = intent;
        let mut held = self.held();
        if let Some(pending) = held.orders.get(certificate) {
            return Err(conflict(format!(
                "{certificate}: an order for generation {} is unfinished, so generation {generation} can't begin",
                pending.intent.generation
            )));
        }
        let highest = held.highest.get(certificate).copied().unwrap_or_default();
        if *generation <= highest {
            return Err(conflict(format!(
                "{certificate}: generation {generation} can't begin after generation {highest} was issued"
            )));
        }
        let intent = Intent {
            at: kept(intent.at),
            ..intent.clone()
        };
        held.orders
            .insert(certificate.clone(), PendingOrder { intent, url: None });
        Ok(())
    }

    async fn pending_orders(&self) -> Result<Vec<PendingOrder>> {
        Ok(self.held().orders.values().cloned().collect())
    }

    async fn order_placed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        url: &str,
    ) -> Result<()> {
        let mut held = self.held();
        let order = held.order(certificate, generation)?;
        if order.url.as_deref().is_some_and(|stored| stored != url) {
            return Err(conflict(format!(
                "{certificate}: generation {generation} is ordered already, at another URL"
            )));
        }
        order.url = Some(url.to_owned());
        Ok(())
    }

    async fn order_failed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        failure: &OrderFailure,
    ) -> Result<()> {
        let mut held = self.held();
        held.order(certificate, generation)?.url = None;
        held.add_failure(certificate, failure);
        Ok(())
    }

    async fn record_failure(
        &self,
        certificate: &CertificateName,
        failure: &OrderFailure,
    ) -> Result<()> {
        self.held().add_failure(certificate, failure);
        Ok(())
    }

    async fn failures(&self) -> Result<Vec<(CertificateName, OrderFailure)>> {
        Ok(self.held().failures.clone())
    }

    async fn abandon_order(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<()> {
        let mut held = self.held();
        held.order(certificate, generation)?;
        held.orders.remove(certificate);
        Ok(())
    }

    async fn finish_order(&self, issued: &Issued) -> Result<()> {
        let Issued {
            certificate,
            generation,
            ..
        } = issued;
        let mut held = self.held();
        let key = held
            .order(certificate, *generation)?
            .intent
            .private_key
            .clone();
        let kept = Issued {
            not_before: kept(issued.not_before),
            not_after: kept(issued.not_after),
            at: kept(issued.at),
            ..issued.clone()
        };
        held.bundles
            .insert((certificate.clone(), *generation), (kept, key));
        let highest = held.highest.entry(certificate.clone()).or_default();
        *highest = (*highest).max(*generation);
        held.orders.remove(certificate);
        held.failures.retain(|(of, _)| of != certificate);
        Ok(())
    }

    async fn highest_generations(&self) -> Result<Vec<(CertificateName, Generation)>> {
        let held = self.held();
        Ok(held.highest.iter().map(|(n, g)| (n.clone(), *g)).collect())
    }

    async fn raise_generation(
        &self,
        certificate: &CertificateName,
        highest: Generation,
    ) -> Result<()> {
        let mut held = self.held();
        let known = held.highest.entry(certificate.clone()).or_default();
        *known = (*known).max(highest);
        Ok(())
    }

    async fn newest_issued(&self) -> Result<Vec<Issued>> {
        let held = self.held();
        // In order of generation, so that the newest of each certificate comes last and stays.
        let newest: BTreeMap<_, _> = held
            .bundles
            .values()
            .map(|(issued, _)| (&issued.certificate, issued))
            .collect();
        Ok(newest.into_values().cloned().collect())
    }

    async fn bundle(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<Option<Bundle>> {
        let held = self.held();
        let stored = held.bundles.get(&(certificate.clone(), generation));
        Ok(stored.map(|(issued, key)| Bundle {
            certificate: certificate.clone(),
            generation,
            key_pairs: vec![KeyPair {
                fullchain: issued.fullchain.clone(),
                private_key: key.clone(),
            }],
        }))
    }

    async fn leaves(&self) -> Result<Vec<(CertificateName, Generation, StoredLeaf)>> {
        let held = self.held();
        let leaves = held.bundles.iter();
        Ok(leaves
            .map(|((name, generation), (issued, _))| (name.clone(), *generation, issued.leaf()))
            .collect())
    }

    async fn prune_bundles(&self, keep: u32) -> Result<u64> {
        let mut held = self.held();
        let mut seen: BTreeMap<CertificateName, u32> = BTreeMap::new();
        let mut old = Vec::new();
        for key in held.bundles.keys().rev() {
            let place = seen.entry(key.0.clone()).or_default();
            *place += 1;
            if *place > keep {
                old.push(key.clone());
            }
        }
        for key in &old {
            held.bundles.remove(key);
        }
        Ok(old.len() as u64)
    }

    async fn put_token(&self, token: &TokenRecord) -> Result<()> {
        let mut held = self.held();
        if held.tokens.contains_key(&token.hash) {
            return Err(conflict(format!(
                "{}: this token is stored already",
                token.host
            )));
        }
        held.void_tokens(&token.host);
        held.tokens.insert(
            token.hash,
            TokenRecord {
                expires: kept(token.expires),
                ..token.clone()
            },
        );
        Ok(())
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>> {
        Ok(self.held().tokens.get(hash).cloned())
    }

    async fn enroll(&self, token_hash: &[u8; 32], enrolled: &Enrolled) -> Result<()> {
        let mut held = self.held();
        enrolled
            .check_token(held.tokens.get(token_hash))
            .map_err(conflict)?;
        if let Some(token) = held.tokens.get_mut(token_hash) {
            token.used_by = Some(enrolled.bound_key_hash);
        }
        held.put_host(&enrolled.host);
        Ok(())
    }

    async fn hosts(&self) -> Result<Vec<HostRecord>> {
        Ok(self.held().hosts.values().cloned().collect())
    }

    async fn put_host(&self, host: &HostRecord) -> Result<()> {
        self.held().put_host(host);
        Ok(())
    }

    async fn host_seen(&self, host: &HostName, at: Timestamp, info: &v1::HostInfo) -> Result<()> {
        if let Some(known) = self.held().hosts.get_mut(host) {
            known.last_seen = Some(kept(at));
            known.info = info.clone();
        }
        Ok(())
    }

    async fn void_tokens(&self, host: &HostName) -> Result<u64> {
        Ok(self.held().void_tokens(host))
    }

    async fn put_observations(&self, observations: &[Observation]) -> Result<()> {
        let mut held = self.held();
        for observation in observations {
            let key = (observation.host.clone(), observation.certificate.clone());
            held.observations.insert(key, observation.clone());
        }
        Ok(())
    }

    async fn observations(&self) -> Result<Vec<Observation>> {
        Ok(self.held().observations.values().cloned().collect())
    }

    async fn put_inventory(&self, inventory: &InventoryRecord) -> Result<()> {
        let stored = InventoryRecord {
            at: kept(inventory.at),
            ..inventory.clone()
        };
        self.held().inventories.insert(stored.host.clone(), stored);
        Ok(())
    }

    async fn inventories(&self) -> Result<Vec<InventoryRecord>> {
        Ok(self.held().inventories.values().cloned().collect())
    }

    async fn forget_host(&self, host: &HostName) -> Result<()> {
        let mut held = self.held();
        held.observations.retain(|(of, _), _| of != host);
        held.inventories.remove(host);
        Ok(())
    }

    async fn add_events(&self, events: &[EventRecord]) -> Result<Vec<u64>> {
        let mut held = self.held();
        let mut ids = Vec::with_capacity(events.len());
        for event in events {
            held.last_event += 1;
            let id = held.last_event;
            held.events.push(EventRecord {
                id,
                at: kept(event.at),
                ..event.clone()
            });
            ids.push(id);
        }
        Ok(ids)
    }

    async fn events(&self, after: u64, of: &EventFilter, most: u32) -> Result<Vec<EventRecord>> {
        let held = self.held();
        let wanted = held
            .events
            .iter()
            .filter(|event| is_wanted(event, after, of));
        Ok(wanted.take(most as usize).cloned().collect())
    }

    async fn before_newest_events(&self, after: u64, of: &EventFilter, last: u32) -> Result<u64> {
        let held = self.held();
        let mut newest = held
            .events
            .iter()
            .rev()
            .filter(|event| is_wanted(event, after, of));
        Ok(newest.nth(last as usize).map_or(after, |event| event.id))
    }

    async fn prune_tokens(&self, before: Timestamp) -> Result<u64> {
        let mut held = self.held();
        let count = held.tokens.len();
        held.tokens.retain(|_, token| token.expires >= kept(before));
        Ok((count - held.tokens.len()) as u64)
    }

    async fn prune_events(&self, before: Timestamp) -> Result<u64> {
        let mut held = self.held();
        let count = held.events.len();
        held.events.retain(|event| event.at >= kept(before));
        Ok((count - held.events.len()) as u64)
    }

    async fn paused(&self) -> Result<Vec<Option<CertificateName>>> {
        Ok(self.held().paused.iter().cloned().collect())
    }

    async fn set_paused(&self, certificate: Option<&CertificateName>, paused: bool) -> Result<()> {
        let mut held = self.held();
        if paused {
            held.paused.insert(certificate.cloned());
        } else {
            held.paused.remove(&certificate.cloned());
        }
        Ok(())
    }

    async fn close(&self) {}
}
