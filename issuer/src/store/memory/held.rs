//! What the store in memory holds, and the rules that its calls share.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{CertificateName, Generation, HostName, Lineage, Secret};
use jiff::Timestamp;

use super::super::{
    Account, AlertRecord, DeliveryRecord, EventRecord, HostRecord, InventoryRecord, Issued,
    Observation, OrderFailure, PendingOrder, Recovery, Result, SilenceRecord, StoreError,
    TokenRecord,
    record::{FAILURES, FAILURES_KEPT},
};

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Of the last restore, if there was one.
    pub(super) lineage: Option<Lineage>,
    pub(super) recovery: Option<Recovery>,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) orders: BTreeMap<CertificateName, PendingOrder>,
    /// Oldest first.
    pub(super) failures: Vec<(CertificateName, OrderFailure)>,
    pub(super) bundles: BTreeMap<(CertificateName, Generation), (Issued, Secret)>,
    pub(super) highest: BTreeMap<CertificateName, Generation>,
    pub(super) tokens: BTreeMap<[u8; 32], TokenRecord>,
    pub(super) hosts: BTreeMap<HostName, HostRecord>,
    pub(super) observations: BTreeMap<(HostName, CertificateName), Observation>,
    pub(super) inventories: BTreeMap<HostName, InventoryRecord>,
    pub(super) events: Vec<EventRecord>,
    pub(super) last_event: u64,
    pub(super) paused: BTreeSet<Option<CertificateName>>,
    pub(super) alerts: BTreeMap<u64, AlertRecord>,
    pub(super) last_alert: u64,
    pub(super) deliveries: BTreeMap<(u64, String), DeliveryRecord>,
    pub(super) silences: Vec<SilenceRecord>,
    pub(super) last_silence: u64,
    pub(super) evaluated: Option<Timestamp>,
}

impl Held {
    pub(super) fn put_host(&mut self, host: &HostRecord) {
        let mut fresh = kept_host(host);
        if let Some(known) = self.hosts.get(&host.name) {
            fresh.keep_sentence(known);
        }
        self.hosts.insert(host.name.clone(), fresh);
    }

    /// The unfinished order of exactly this generation.
    pub(super) fn order(
        &mut self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<&mut PendingOrder> {
        self.orders
            .get_mut(certificate)
            .filter(|order| order.intent.generation == generation)
            .ok_or_else(|| {
                conflict(format!(
                    "{certificate}: no order for generation {generation} is under way"
                ))
            })
    }

    pub(super) fn add_failure(&mut self, certificate: &CertificateName, failure: &OrderFailure) {
        let failure = OrderFailure {
            at: kept(failure.at),
            retry_at: failure.retry_at.map(kept),
            ..failure.clone()
        };
        self.failures.push((certificate.clone(), failure));
        self.failures.sort_by_key(|(_, failure)| failure.at);
        let of_it = self.failures.iter().filter(|(of, _)| of == certificate);
        let times: Vec<Timestamp> = of_it.map(|(_, failure)| failure.at).collect();
        let newest = times.last().copied().unwrap_or_default();
        let mut surplus = times.len().saturating_sub(FAILURES);
        self.failures.retain(|(of, failure)| {
            if of != certificate {
                return true;
            }
            let too_many = surplus > 0;
            surplus = surplus.saturating_sub(1);
            !too_many && newest.duration_since(failure.at).unsigned_abs() <= FAILURES_KEPT
        });
    }

    pub(super) fn void_tokens(&mut self, host: &HostName) -> u64 {
        let unused = |token: &&mut TokenRecord| {
            token.host == *host && token.used_by.is_none() && !token.void
        };
        self.tokens
            .values_mut()
            .filter(unused)
            .map(|token| token.void = true)
            .count() as u64
    }
}

pub(super) fn conflict(sentence: String) -> StoreError {
    StoreError::Conflict(sentence)
}

/// As the database keeps it: whole milliseconds.
pub(super) fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

fn kept_host(host: &HostRecord) -> HostRecord {
    HostRecord {
        revoked: host.revoked.map(kept),
        last_seen: host.last_seen.map(kept),
        ..host.clone()
    }
}
