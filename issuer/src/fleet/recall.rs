//! What is known of the fleet at the start: what the store remembers, and what the configuration declares.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::CertificateName;

use super::ca::Ca;
use crate::{
    acme::{http::root_certificates, orders::Stored},
    clock,
    config::{Config, Roots},
    plan::{
        facts::{CertificateFacts, FleetFacts, HostFacts},
        inventory::HostInventory,
        recover,
        seen::Sightings,
    },
    store::{self, Store},
};

/// Certificates and hosts of both, since what leaves the configuration may come back.
///
/// # Errors
/// When the store fails.
pub async fn recall(
    store: &dyn Store,
    config: &Arc<Config>,
    ca: &Ca,
    stored: &Stored,
) -> store::Result<FleetFacts> {
    let paused = store.paused().await?;
    let mut certificates: BTreeMap<CertificateName, CertificateFacts> = config
        .certificates
        .keys()
        .map(|name| (name.clone(), CertificateFacts::default()))
        .collect();
    for (name, known) in stored.iter() {
        let facts = certificates.entry(name.clone()).or_default();
        facts.issued.clone_from(&known.issued);
        facts.authority = known
            .pending
            .as_ref()
            .map(|order| order.intent.authority.clone());
    }
    for (name, generation, leaf) in store.leaves().await? {
        let facts = certificates.entry(name).or_default();
        if facts
            .issued
            .as_ref()
            .is_none_or(|issued| issued.generation != generation)
        {
            facts.older.insert(generation, leaf);
        }
    }
    for (name, highest) in store.highest_generations().await? {
        certificates.entry(name).or_default().highest = highest;
    }
    for name in paused.iter().flatten() {
        certificates.entry(name.clone()).or_default().paused = true;
    }
    let mut hosts: BTreeMap<_, HostFacts> = config
        .hosts
        .keys()
        .map(|name| (name.clone(), HostFacts::default()))
        .collect();
    for record in store.hosts().await? {
        let known = hosts.entry(record.name.clone()).or_default();
        known.last_seen = record.last_seen;
        known.record = Some(record);
    }
    for seen in store.observations().await? {
        // Whatever was written down of a host while it retired is forgotten with it.
        let record = hosts
            .get(&seen.host)
            .and_then(|known| known.record.as_ref());
        if record.is_some_and(|record| record.retired) {
            continue;
        }
        let facts = certificates.entry(seen.certificate.clone()).or_default();
        // Known since a host told; an order may not have been begun yet.
        facts.highest = facts.highest.max(seen.told.unwrap_or_default());
        facts.observations.insert(seen.host.clone(), seen);
    }
    let mut inventories = BTreeMap::new();
    for record in store.inventories().await? {
        let known = hosts.get(&record.host);
        let known = known.and_then(|known| known.record.as_ref());
        if known.is_some_and(|known| known.retired) {
            continue;
        }
        match HostInventory::told(&record.told, record.at) {
            Ok(inventory) => {
                inventories.insert(record.host, inventory);
            }
            // The host tells it again when it connects.
            Err(error) => {
                tracing::warn!(host = %record.host, %error, "its stored inventory can't be used");
            }
        }
    }
    let accounts = store.accounts().await?;
    let thumbprints = config
        .authorities
        .iter()
        .filter_map(|(name, authority)| {
            let account = accounts
                .iter()
                .find(|account| account.directory == authority.directory)?;
            Some((name.clone(), account.thumbprint.clone()))
        })
        .collect();
    let recovery = store.recovery().await?;
    let mut facts = FleetFacts {
        fleet: ca.fleet().clone(),
        lineage: store.lineage().await?,
        config: config.clone(),
        config_problem: None,
        paused: paused.iter().any(Option::is_none),
        certificates,
        hosts,
        thumbprints,
        inventories,
        recovery: recovery.map(|recovery| {
            let roots = root_certificates(&Roots::System).unwrap_or_default();
            recover::begin(recovery.began, clock::now(), Arc::new(roots))
        }),
        sightings: Sightings::none(clock::now()),
        issuer: Default::default(),
        intruders: Default::default(),
    };
    if recovery.is_some_and(|recovery| recovery.ended.is_none()) {
        let begun = facts.recovery.as_ref();
        let waiting = begun.map(|recovery| recover::waiting(&facts, recovery, recovery.since));
        if let (Some(recovery), Some(waiting)) = (&mut facts.recovery, waiting) {
            recovery.waiting = waiting.into_iter().collect();
        }
    }
    Ok(facts)
}
