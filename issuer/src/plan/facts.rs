//! All that the issuer knows at one instant: what offers, status and explanations are computed from.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use certwell_proto::{CertificateName, FleetName, Generation, HostName, Lineage};
use jiff::Timestamp;

use super::{ahead::Ahead, health::IssuerFacts, inventory::HostInventory, seen::Sightings};
use crate::{
    config::Config,
    store::{HostRecord, Issued, Observation, StoredLeaf},
};

/// The fleet as the registry task knows it.
#[derive(Debug, Clone)]
pub struct FleetFacts {
    /// Its name.
    pub fleet: FleetName,
    /// The store's.
    pub lineage: Lineage,
    /// The last good configuration.
    pub config: std::sync::Arc<Config>,
    /// Why a newer edit of the configuration was refused.
    pub config_problem: Option<String>,
    /// `certwell pause` without a name.
    pub paused: bool,
    /// Every certificate that is declared, was since the start, or is stored: one that leaves the configuration and
    /// comes back is what it was. Who tells or offers anything goes by the configuration.
    pub certificates: BTreeMap<CertificateName, CertificateFacts>,
    /// Every host that is declared.
    pub hosts: BTreeMap<HostName, HostFacts>,
    /// JWK thumbprint of each authority's account, by the authority's name.
    pub thumbprints: BTreeMap<String, String>,
    /// What each host told last of all its certificates; a host that told nothing has none, nor has a retired one.
    pub inventories: BTreeMap<HostName, HostInventory>,
    /// Since the last restore from a backup; `None` where there never was one.
    pub recovery: Option<RecoveryFacts>,
    /// What is seen from outside.
    pub sightings: Sightings,
    /// How the issuer itself is.
    pub issuer: IssuerFacts,
    /// Who came lately with an identity that isn't good any more, by the host that it names.
    pub intruders: BTreeMap<HostName, Intruder>,
}

impl FleetFacts {
    /// When the newest generation of each declared certificate ends.
    pub fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let declared = self.config.certificates.keys();
        declared.filter_map(|name| Some(self.certificates.get(name)?.issued.as_ref()?.not_after))
    }

    /// What is left of the one that ends first: it sets the pace.
    pub fn shortest_life(&self, now: Timestamp) -> Option<Duration> {
        shortest_life(self.ends(), now)
    }
}

/// The life left of what ends first. What has ended hurries nobody any more: everything would be done without a pause,
/// for ever. `None` when nothing lives.
pub fn shortest_life(ends: impl Iterator<Item = Timestamp>, now: Timestamp) -> Option<Duration> {
    let first = ends.filter(|end| *end > now).min()?;
    Duration::try_from(now.duration_until(first)).ok()
}

/// Calls with an identity of ours that are refused, because it was revoked or its host is none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intruder {
    /// Why they are, one sentence.
    pub why: String,
    /// The first one, since the issuer started or the host joined again.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many.
    pub calls: u64,
}

/// What hosts have told since the store was restored from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryFacts {
    /// When the backup was restored.
    pub began: Timestamp,
    /// Since when hosts can reach this issuer.
    pub since: Timestamp,
    /// Nothing is ordered or offered of these; it only gets fewer.
    pub waiting: BTreeSet<CertificateName>,
    /// From when on a certificate is ordered whoever has told: less than a sixth of the life is left of the newest
    /// that a host has.
    pub press_at: BTreeMap<CertificateName, Timestamp>,
    /// Hosts that claim a generation that can't be, by certificate.
    pub too_far: BTreeMap<(CertificateName, HostName), Generation>,
    /// Revocations of hosts that the backup doesn't know.
    pub revoked: BTreeMap<HostName, Timestamp>,
    /// DER of what `roots = "system"` stands for.
    pub system_roots: std::sync::Arc<Vec<Vec<u8>>>,
}

/// One declared certificate.
#[derive(Debug, Clone, Default)]
pub struct CertificateFacts {
    /// `certwell pause NAME`.
    pub paused: bool,
    /// The newest issued generation.
    pub issued: Option<Issued>,
    /// The highest generation that is known to exist: higher than `issued` when that was issued after the backup from
    /// which the store was restored.
    pub highest: Generation,
    /// Where its next issuance stands.
    pub order: OrderFacts,
    /// The authority that its orders go to at present; `None`: the most preferred one.
    pub authority: Option<String>,
    /// The latest from each host, declared for it or not.
    pub observations: BTreeMap<HostName, Observation>,
    /// When the newest was issued, by a clock that was set back since.
    pub ahead: Ahead,
    /// The leaf of each older generation that a host may still serve, as far as it is known. The newest is in `issued`.
    pub older: BTreeMap<Generation, StoredLeaf>,
}

impl CertificateFacts {
    /// Since when the newest generation counts as issued.
    pub fn issued_at(&self) -> Option<Timestamp> {
        let issued = self.issued.as_ref()?;
        Some(self.ahead.counted(issued.at))
    }
}

/// Where the next issuance of a certificate stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFacts {
    /// What it is doing.
    pub stage: OrderStage,
    /// In the way, one sentence.
    pub problem: Option<String>,
    /// When it next does something by itself; `None` while it is under way.
    pub next_at: Option<Timestamp>,
    /// Failed attempts in a row.
    pub failures: u32,
    /// The failures in a row, while there are any: also while it is tried once more.
    pub failing: Option<Failing>,
}

/// Failed attempts in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// When the first one failed, as far back as failures are kept.
    pub since: Timestamp,
    /// When the last one did.
    pub last: Timestamp,
    /// When the next attempt was planned then; `None`: not by time.
    pub again: Option<Timestamp>,
    /// Why the last one did, one sentence.
    pub problem: String,
    /// Whether the CA had tried to validate then.
    pub validation: bool,
}

/// The stages of an issuance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderStage {
    /// Nothing is due.
    #[default]
    Idle,
    /// Its hosts are asked whether their nginx would answer the CA.
    Preflight,
    /// The CA has the order; generation being made.
    Ordered(Generation),
    /// The CA validates.
    Challenge(Generation),
    /// Validated; the CA signs.
    Finalizing(Generation),
    /// Failed, or held up by the preflight; tried again at `next_at`.
    Waiting,
}

/// One declared host.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Its record, once it has enrolled.
    pub record: Option<HostRecord>,
    /// Whether its stream is open now.
    pub connected: bool,
    /// When it last spoke to us.
    pub last_seen: Option<Timestamp>,
    /// When that was, by a clock that was set back since.
    pub ahead: Ahead,
    /// What it says is in the way on the whole host.
    pub problem: Option<String>,
}
