//! What happened, kept durably: the trait, its records, and the two stores that implement it.
//!
//! ```text
//! record    the records that go in and out
//! alerts    alerts, what notifiers accepted of them, silences
//! sqlite    the store of a real issuer: one writer connection, WAL, synchronous=FULL
//! memory    for tests: the same behaviour, nothing on disk
//! sealing   AES-256-GCM around every secret before it reaches a database
//! keys      the key-encryption key and the recovery key
//! ```
//!
//! Every method is one transaction: when it returns, its effect survives a power cut. One conformance suite
//! (`tests/store.rs`) holds for every implementation.

pub mod alerts;
pub mod keys;
pub mod memory;
pub mod record;
pub mod sealing;
pub mod sqlite;

use certwell_proto::{CertificateName, Generation, HostName, Lineage, v1};
use jiff::Timestamp;

pub use alerts::{AcknowledgementRecord, AlertRecord, AlertStore, DeliveryRecord, SilenceRecord};
pub use record::{
    Account, Enrolled, EventFilter, EventRecord, FleetCa, HostRecord, Intent, InventoryRecord,
    Issued, Observation, OrderFailure, PendingOrder, Recovery, StoredLeaf, TokenRecord,
};

/// Why the store couldn't do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is damaged, or isn't ours.
    #[error("the database {path} can't be used: {problem}; restore it from a backup")]
    Corrupt {
        /// The database's file.
        path: String,
        /// What was found.
        problem: String,
    },
    /// There is none.
    #[error(
        "there is no store at {path}; run `certwell-issuer init` first, or correct state-directory"
    )]
    Missing {
        /// The database's file.
        path: String,
    },
    /// A newer version's.
    #[error(
        "the database {path} was written by a newer certwell-issuer; install that version, or a later one"
    )]
    Newer {
        /// The database's file.
        path: String,
    },
    /// Another issuer holds the state directory.
    #[error("another certwell-issuer is using the state directory {path}; stop it first")]
    InUse {
        /// The state directory.
        path: String,
    },
    /// The key-encryption key doesn't open the data key, or a secret fails its check.
    #[error("can't unseal {what}: {problem}")]
    Unseal {
        /// Which secret.
        what: String,
        /// Why.
        problem: String,
    },
    /// It contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The file system or the database engine failed.
    #[error(
        "the store failed at {path}; check that its disk isn't full and that the issuer's user may write there"
    )]
    Io {
        /// The file or directory.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Result of a store's method.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The store of one issuer.
#[async_trait::async_trait]
pub trait Store: AlertStore + Send + Sync + 'static {
    // --- lineage and identity of the fleet ---

    /// The lineage that this store began with.
    async fn lineage(&self) -> Result<Lineage>;
    /// The fleet CA, its key unsealed.
    async fn fleet_ca(&self) -> Result<FleetCa>;

    // --- after a restore ---

    /// Begins another lineage, as a restore does: unused join tokens are void, no host has told anything, and the store
    /// is recovering. Conflict when it didn't start later than the present one.
    async fn begin_recovery(&self, lineage: Lineage, at: Timestamp) -> Result<()>;
    /// The last restore; `None`: there was none.
    async fn recovery(&self) -> Result<Option<Recovery>>;
    /// Notes that the recovery is over.
    async fn end_recovery(&self, at: Timestamp) -> Result<()>;

    // --- ACME accounts, by the authority's directory URL ---

    /// The account for this directory, if one was begun.
    async fn account(&self, directory: &str) -> Result<Option<Account>>;
    /// Every account.
    async fn accounts(&self) -> Result<Vec<Account>>;
    /// Inserts or replaces the account of its directory: first with the key alone, before `newAccount`, then
    /// with its URL.
    async fn put_account(&self, account: &Account) -> Result<()>;

    // --- orders: intent, URL, bundle, in that order ---

    /// Commits the intent to issue, before `newOrder`. Conflict when an unfinished one exists for the
    /// certificate, or its generation isn't higher than every stored one.
    async fn begin_order(&self, intent: &Intent) -> Result<()>;
    /// The unfinished order of each certificate.
    async fn pending_orders(&self) -> Result<Vec<PendingOrder>>;
    /// Commits the order's URL, before any challenge is answered. Conflict when another URL is stored: that
    /// order has to fail first.
    async fn order_placed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        url: &str,
    ) -> Result<()>;
    /// Commits that the order is dead: the intent stays, its URL is cleared, the failure is counted as by
    /// [`Store::record_failure`].
    async fn order_failed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        failure: &OrderFailure,
    ) -> Result<()>;
    /// Counts a failure of a certificate's issuance, whether or not it has an intent; a URL that is stored stays.
    /// Kept are the newest [`record::FAILURES`] of each certificate, none more than [`record::FAILURES_KEPT`] older
    /// than its newest.
    async fn record_failure(
        &self,
        certificate: &CertificateName,
        failure: &OrderFailure,
    ) -> Result<()>;
    /// The failures of every certificate since it was last issued, oldest first.
    async fn failures(&self) -> Result<Vec<(CertificateName, OrderFailure)>>;
    /// Drops an unfinished intent whose identifiers or key type the configuration no longer asks for; failures stay.
    async fn abandon_order(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<()>;
    /// Commits the issued bundle, with the key of its intent, ends its order and forgets its failures, in one
    /// transaction. Conflict when no order for this generation is under way.
    async fn finish_order(&self, issued: &Issued) -> Result<()>;

    /// The highest generation known of each certificate: issued here, or by what the backup had forgotten.
    async fn highest_generations(&self) -> Result<Vec<(CertificateName, Generation)>>;
    /// Notes that a generation was issued that this store knows nothing else of: the next one is higher. Never lowers.
    async fn raise_generation(
        &self,
        certificate: &CertificateName,
        highest: Generation,
    ) -> Result<()>;

    // --- bundles ---

    /// The newest issued generation of each certificate; private keys stay sealed and are left out.
    async fn newest_issued(&self) -> Result<Vec<Issued>>;
    /// One issued generation with its private key, unsealed.
    async fn bundle(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<Option<certwell_proto::Bundle>>;
    /// The leaf of each stored generation, by certificate and generation: a host may be serving an older one.
    async fn leaves(&self) -> Result<Vec<(CertificateName, Generation, StoredLeaf)>>;
    /// Removes all but the newest `keep` generations of every certificate; returns how many went.
    async fn prune_bundles(&self, keep: u32) -> Result<u64>;

    // --- hosts, tokens ---

    /// Stores a token's hash, voiding older unused tokens of the same host. Conflict when this hash is known.
    async fn put_token(&self, token: &TokenRecord) -> Result<()>;
    /// The token with this hash, used or not.
    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>>;
    /// In one transaction: marks the token as used by this bound key and stores the host's identity. Conflict
    /// when another bound key used the token already, or it is unknown, void, or another host's.
    async fn enroll(&self, token_hash: &[u8; 32], enrolled: &Enrolled) -> Result<()>;
    /// All hosts that ever enrolled.
    async fn hosts(&self) -> Result<Vec<HostRecord>>;
    /// Inserts or replaces a host's record. A revocation or retirement that is stored is never taken back, whatever
    /// the record says: it may have been read before.
    async fn put_host(&self, host: &HostRecord) -> Result<()>;
    /// Notes when a host last spoke to us, and what it said of itself. An unknown host is passed over.
    async fn host_seen(&self, host: &HostName, at: Timestamp, info: &v1::HostInfo) -> Result<()>;
    /// Voids all unused tokens of a host; returns how many.
    async fn void_tokens(&self, host: &HostName) -> Result<u64>;
    /// Removes tokens that expired before `before`, used or not; returns how many went.
    async fn prune_tokens(&self, before: Timestamp) -> Result<u64>;

    // --- observed state ---

    /// Replaces these observations, in one transaction.
    async fn put_observations(&self, observations: &[Observation]) -> Result<()>;
    /// All observations.
    async fn observations(&self) -> Result<Vec<Observation>>;
    /// Replaces what a host told of all its certificates.
    async fn put_inventory(&self, inventory: &InventoryRecord) -> Result<()>;
    /// What each host told last of all its certificates, by host.
    async fn inventories(&self) -> Result<Vec<InventoryRecord>>;
    /// Forgets everything observed on a host, and its inventory.
    async fn forget_host(&self, host: &HostName) -> Result<()>;

    // --- events and switches ---

    /// Appends events in one transaction and returns their ids, each higher than every earlier one.
    async fn add_events(&self, events: &[EventRecord]) -> Result<Vec<u64>>;
    /// Appends one event and returns its id.
    async fn add_event(&self, event: &EventRecord) -> Result<u64> {
        let ids = self.add_events(std::slice::from_ref(event)).await?;
        Ok(ids.into_iter().next().unwrap_or_default())
    }
    /// Events after `after` that `of` lets through, oldest first, `most` at most.
    async fn events(&self, after: u64, of: &EventFilter, most: u32) -> Result<Vec<EventRecord>>;
    /// The id after which the newest `last` of the events after `after` that `of` lets through lie; `after` when there
    /// are no more. However many others there are, they aren't gone through.
    async fn before_newest_events(&self, after: u64, of: &EventFilter, last: u32) -> Result<u64>;
    /// Removes events older than `before`; returns how many went.
    async fn prune_events(&self, before: Timestamp) -> Result<u64>;
    /// Paused certificates; `None` in the list is the whole fleet.
    async fn paused(&self) -> Result<Vec<Option<CertificateName>>>;
    /// Sets or clears a pause.
    async fn set_paused(&self, certificate: Option<&CertificateName>, paused: bool) -> Result<()>;

    // --- the end ---

    /// Lets go of what the store holds of its machine (connections, files, locks): the next may open it. Whoever
    /// still has this one gets errors from then on, where there was anything to let go of.
    async fn close(&self);
}
