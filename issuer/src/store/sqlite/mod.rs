//! The store of a real issuer: one SQLite file, one writer.
//!
//! ```text
//! copy       a copy of the whole, taken while it is in use
//! open       the state directory, its lock, checks before anything is touched, migrations
//! failure    what can go wrong inside, and what the caller is told
//! columns    between Rust's types and SQLite's
//! accounts   lineage, fleet CA, ACME accounts
//! orders     intent, URL
//! failures   of issuances
//! bundles    the issued generations
//! hosts      hosts and join tokens
//! recovery   from a backup to a store of another lineage
//! observed   observations, inventories, events, pauses
//! alerts     alerts, what was accepted of them, silences
//! ```
//! Writes go through a pool of one connection, each in `BEGIN IMMEDIATE` or as one statement; reads through a
//! few others that go away when idle. `synchronous=FULL` in WAL mode: a commit that returned survives a power
//! cut.

mod accounts;
mod alerts;
mod bundles;
mod columns;
mod copy;
mod failure;
mod failures;
mod hosts;
mod observed;
mod open;
mod orders;
mod recovery;

use std::{
    fs::File,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use certwell_proto::{Bundle, CertificateName, Generation, HostName, Lineage, v1};
use jiff::Timestamp;
use nix::fcntl::Flock;
use sqlx::{Sqlite, SqlitePool, Transaction};

use self::failure::Failure;
pub use self::{
    copy::{copy, lineage, verify},
    recovery::prove,
};
use super::{
    Account, Enrolled, EventFilter, EventRecord, FleetCa, HostRecord, Intent, InventoryRecord,
    Issued, Observation, OrderFailure, PendingOrder, Recovery, Result, Store, StoredLeaf,
    TokenRecord, sealing::DataKey,
};

/// Name of the database in the state directory.
pub const DATABASE: &str = "certwell.db";

/// The store in a state directory, which is locked until the store is closed or dropped.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    key: DataKey,
    path: PathBuf,
    lock: Mutex<Option<Flock<File>>>,
}

impl SqliteStore {
    async fn begin(&self) -> std::result::Result<Transaction<'static, Sqlite>, Failure> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// What the caller learns of the inner result.
    fn tell<T>(&self, result: std::result::Result<T, Failure>) -> Result<T> {
        result.map_err(|failure| failure.tell(&self.path))
    }
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn lineage(&self) -> Result<Lineage> {
        self.tell(self.read_lineage().await)
    }

    async fn fleet_ca(&self) -> Result<FleetCa> {
        self.tell(self.read_fleet_ca().await)
    }

    async fn begin_recovery(&self, lineage: Lineage, at: Timestamp) -> Result<()> {
        self.tell(self.write_recovery(lineage, at).await)
    }

    async fn recovery(&self) -> Result<Option<Recovery>> {
        self.tell(self.read_recovery().await)
    }

    async fn end_recovery(&self, at: Timestamp) -> Result<()> {
        self.tell(self.write_recovery_ended(at).await)
    }

    async fn account(&self, directory: &str) -> Result<Option<Account>> {
        self.tell(self.read_account(directory).await)
    }

    async fn accounts(&self) -> Result<Vec<Account>> {
        self.tell(self.read_accounts().await)
    }

    async fn put_account(&self, account: &Account) -> Result<()> {
        self.tell(self.write_account(account).await)
    }

    async fn begin_order(&self, intent: &Intent) -> Result<()> {
        self.tell(self.insert_order(intent).await)
    }

    async fn pending_orders(&self) -> Result<Vec<PendingOrder>> {
        self.tell(self.read_orders().await)
    }

    async fn order_placed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        url: &str,
    ) -> Result<()> {
        self.tell(self.write_order_url(certificate, generation, url).await)
    }

    async fn order_failed(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        failure: &OrderFailure,
    ) -> Result<()> {
        self.tell(
            self.write_order_failure(certificate, generation, failure)
                .await,
        )
    }

    async fn record_failure(
        &self,
        certificate: &CertificateName,
        failure: &OrderFailure,
    ) -> Result<()> {
        self.tell(self.write_failure(certificate, failure).await)
    }

    async fn failures(&self) -> Result<Vec<(CertificateName, OrderFailure)>> {
        self.tell(self.read_failures().await)
    }

    async fn abandon_order(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<()> {
        self.tell(self.delete_order(certificate, generation).await)
    }

    async fn finish_order(&self, issued: &Issued) -> Result<()> {
        self.tell(self.write_issued(issued).await)
    }

    async fn highest_generations(&self) -> Result<Vec<(CertificateName, Generation)>> {
        self.tell(self.read_highest().await)
    }

    async fn raise_generation(
        &self,
        certificate: &CertificateName,
        highest: Generation,
    ) -> Result<()> {
        self.tell(self.write_highest(certificate, highest).await)
    }

    async fn newest_issued(&self) -> Result<Vec<Issued>> {
        self.tell(self.read_newest_issued().await)
    }

    async fn bundle(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Result<Option<Bundle>> {
        self.tell(self.read_bundle(certificate, generation).await)
    }

    async fn leaves(&self) -> Result<Vec<(CertificateName, Generation, StoredLeaf)>> {
        self.tell(self.read_leaves().await)
    }

    async fn prune_bundles(&self, keep: u32) -> Result<u64> {
        self.tell(self.delete_bundles(keep).await)
    }

    async fn put_token(&self, token: &TokenRecord) -> Result<()> {
        self.tell(self.insert_token(token).await)
    }

    async fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>> {
        self.tell(self.read_token(hash).await)
    }

    async fn enroll(&self, token_hash: &[u8; 32], enrolled: &Enrolled) -> Result<()> {
        self.tell(self.write_enrollment(token_hash, enrolled).await)
    }

    async fn hosts(&self) -> Result<Vec<HostRecord>> {
        self.tell(self.read_hosts().await)
    }

    async fn put_host(&self, host: &HostRecord) -> Result<()> {
        self.tell(self.write_host(host).await)
    }

    async fn host_seen(&self, host: &HostName, at: Timestamp, info: &v1::HostInfo) -> Result<()> {
        self.tell(self.write_seen(host, at, info).await)
    }

    async fn void_tokens(&self, host: &HostName) -> Result<u64> {
        self.tell(self.write_void_tokens(host).await)
    }

    async fn prune_tokens(&self, before: Timestamp) -> Result<u64> {
        self.tell(self.delete_tokens(before).await)
    }

    async fn put_observations(&self, observations: &[Observation]) -> Result<()> {
        self.tell(self.write_observations(observations).await)
    }

    async fn observations(&self) -> Result<Vec<Observation>> {
        self.tell(self.read_observations().await)
    }

    async fn put_inventory(&self, inventory: &InventoryRecord) -> Result<()> {
        self.tell(self.write_inventory(inventory).await)
    }

    async fn inventories(&self) -> Result<Vec<InventoryRecord>> {
        self.tell(self.read_inventories().await)
    }

    async fn forget_host(&self, host: &HostName) -> Result<()> {
        self.tell(self.delete_observed(host).await)
    }

    async fn add_events(&self, events: &[EventRecord]) -> Result<Vec<u64>> {
        self.tell(self.insert_events(events).await)
    }

    async fn events(&self, after: u64, of: &EventFilter, most: u32) -> Result<Vec<EventRecord>> {
        self.tell(self.read_events(after, of, most).await)
    }

    async fn before_newest_events(&self, after: u64, of: &EventFilter, last: u32) -> Result<u64> {
        self.tell(self.find_event(after, of, last).await)
    }

    async fn prune_events(&self, before: Timestamp) -> Result<u64> {
        self.tell(self.delete_events(before).await)
    }

    async fn paused(&self) -> Result<Vec<Option<CertificateName>>> {
        self.tell(self.read_paused().await)
    }

    async fn set_paused(&self, certificate: Option<&CertificateName>, paused: bool) -> Result<()> {
        self.tell(self.write_paused(certificate, paused).await)
    }

    /// Ends every connection, the write-ahead log folded into the database, and unlocks the directory.
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        drop(
            self.lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}
