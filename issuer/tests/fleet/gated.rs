//! The real store behind gates: what a test holds back goes on when the test says so.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use certwell_issuer::store::{
    Account, AlertRecord, AlertStore, DeliveryRecord, Enrolled, EventFilter, EventRecord, FleetCa,
    HostRecord, Intent, InventoryRecord, Issued, Observation, OrderFailure, PendingOrder, Recovery,
    Result, SilenceRecord, Store, StoreError, StoredLeaf, TokenRecord, sqlite::SqliteStore,
};
use certwell_proto::{Bundle, CertificateName, Generation, HostName, Lineage, v1};
use jiff::Timestamp;
use tokio::sync::watch;

/// Open until it is closed.
pub(crate) struct Gate {
    open: watch::Sender<bool>,
    /// How many ever came to it while it was closed.
    held: watch::Sender<u32>,
}

impl Gate {
    fn new() -> Self {
        Self {
            open: watch::Sender::new(true),
            held: watch::Sender::new(0),
        }
    }

    pub(crate) fn close(&self) {
        self.held.send_replace(0);
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns when somebody waits, or has waited, at the closed gate.
    pub(crate) async fn holds_one(&self) {
        self.held
            .subscribe()
            .wait_for(|held| *held > 0)
            .await
            .unwrap();
    }

    async fn pass(&self) {
        let mut open = self.open.subscribe();
        if !*open.borrow_and_update() {
            self.held.send_modify(|held| *held += 1);
            open.wait_for(|open| *open).await.unwrap();
        }
    }
}

/// Passes every call on; some through a gate.
pub(crate) struct GatedStore {
    store: SqliteStore,
    /// After a bundle was read.
    pub(crate) bundles: Gate,
    /// Before observations are written.
    pub(crate) observations: Gate,
    /// Before events are written.
    pub(crate) events: Gate,
    /// The most events that were asked for at once.
    pub(crate) most_events: AtomicU32,
    /// Calls of this name panic.
    panics: Mutex<Option<&'static str>>,
    /// How many did.
    panicked: AtomicU32,
    /// Calls of this name about alerts fail.
    fails: Mutex<Option<&'static str>>,
    /// How many did.
    failed: watch::Sender<u32>,
}

impl GatedStore {
    pub(crate) fn new(store: SqliteStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            bundles: Gate::new(),
            observations: Gate::new(),
            events: Gate::new(),
            most_events: AtomicU32::new(0),
            panics: Mutex::default(),
            panicked: AtomicU32::new(0),
            fails: Mutex::default(),
            failed: watch::Sender::new(0),
        })
    }

    /// From now on calls of this name panic.
    pub(crate) fn panic_at(&self, call: Option<&'static str>) {
        *self.panics.lock().unwrap() = call;
    }

    pub(crate) fn panicked(&self) -> u32 {
        self.panicked.load(Ordering::Relaxed)
    }

    /// From now on calls of this name about alerts fail, as on a full disk.
    pub(crate) fn fail_at(&self, call: Option<&'static str>) {
        *self.fails.lock().unwrap() = call;
    }

    /// Returns when so many more calls have failed.
    pub(crate) async fn fails_again(&self, more: u32) {
        let mut failed = self.failed.subscribe();
        let before = *failed.borrow_and_update();
        let again = failed.wait_for(|failed| *failed >= before + more);
        again.await.unwrap();
    }

    fn refuse(&self, call: &str) -> Result<()> {
        if *self.fails.lock().unwrap() != Some(call) {
            return Ok(());
        }
        self.failed.send_modify(|failed| *failed += 1);
        Err(StoreError::Corrupt {
            path: "certwell.db".into(),
            problem: "as the test wants it".into(),
        })
    }

    fn check(&self, call: &str) {
        let panics = *self.panics.lock().unwrap();
        if panics == Some(call) {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            panic!("as the test wants it");
        }
    }
}

macro_rules! gated {
    ($($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl Store for GatedStore {
            async fn bundle(
                &self,
                certificate: &CertificateName,
                generation: Generation,
            ) -> Result<Option<Bundle>> {
                let bundle = self.store.bundle(certificate, generation).await;
                self.bundles.pass().await;
                bundle
            }

            async fn put_observations(&self, observations: &[Observation]) -> Result<()> {
                self.check("put_observations");
                self.observations.pass().await;
                self.store.put_observations(observations).await
            }

            async fn add_events(&self, events: &[EventRecord]) -> Result<Vec<u64>> {
                self.check("add_events");
                self.events.pass().await;
                self.store.add_events(events).await
            }

            async fn events(
                &self,
                after: u64,
                of: &EventFilter,
                most: u32,
            ) -> Result<Vec<EventRecord>> {
                self.most_events.fetch_max(most, Ordering::Relaxed);
                self.store.events(after, of, most).await
            }

            async fn close(&self) {
                self.store.close().await;
            }

            $(async fn $call(&self, $($argument: $type),*) -> Result<$answer> {
                self.check(stringify!($call));
                self.store.$call($($argument),*).await
            })*
        }
    };
}

gated! {
    lineage() -> Lineage;
    fleet_ca() -> FleetCa;
    begin_recovery(lineage: Lineage, at: Timestamp) -> ();
    recovery() -> Option<Recovery>;
    end_recovery(at: Timestamp) -> ();
    highest_generations() -> Vec<(CertificateName, Generation)>;
    raise_generation(certificate: &CertificateName, highest: Generation) -> ();
    account(directory: &str) -> Option<Account>;
    accounts() -> Vec<Account>;
    put_account(account: &Account) -> ();
    begin_order(intent: &Intent) -> ();
    pending_orders() -> Vec<PendingOrder>;
    order_placed(certificate: &CertificateName, generation: Generation, url: &str) -> ();
    order_failed(certificate: &CertificateName, generation: Generation, failure: &OrderFailure) -> ();
    record_failure(certificate: &CertificateName, failure: &OrderFailure) -> ();
    failures() -> Vec<(CertificateName, OrderFailure)>;
    abandon_order(certificate: &CertificateName, generation: Generation) -> ();
    finish_order(issued: &Issued) -> ();
    newest_issued() -> Vec<Issued>;
    leaves() -> Vec<(CertificateName, Generation, StoredLeaf)>;
    prune_bundles(keep: u32) -> u64;
    put_token(token: &TokenRecord) -> ();
    token(hash: &[u8; 32]) -> Option<TokenRecord>;
    enroll(token_hash: &[u8; 32], enrolled: &Enrolled) -> ();
    hosts() -> Vec<HostRecord>;
    put_host(host: &HostRecord) -> ();
    host_seen(host: &HostName, at: Timestamp, info: &v1::HostInfo) -> ();
    void_tokens(host: &HostName) -> u64;
    prune_tokens(before: Timestamp) -> u64;
    observations() -> Vec<Observation>;
    put_inventory(inventory: &InventoryRecord) -> ();
    inventories() -> Vec<InventoryRecord>;
    forget_host(host: &HostName) -> ();
    before_newest_events(after: u64, of: &EventFilter, last: u32) -> u64;
    prune_events(before: Timestamp) -> u64;
    paused() -> Vec<Option<CertificateName>>;
    set_paused(certificate: Option<&CertificateName>, paused: bool) -> ();
}

macro_rules! gated_alerts {
    ($($call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait::async_trait]
        impl AlertStore for GatedStore {
            $(async fn $call(&self, $($argument: $type),*) -> Result<$answer> {
                self.check(stringify!($call));
                self.refuse(stringify!($call))?;
                self.store.$call($($argument),*).await
            })*
        }
    };
}

gated_alerts! {
    put_alerts(alerts: &[AlertRecord]) -> Vec<u64>;
    alerts(since: Timestamp) -> Vec<AlertRecord>;
    put_delivery(delivery: &DeliveryRecord) -> ();
    deliveries(since: Timestamp) -> Vec<DeliveryRecord>;
    add_silence(silence: &SilenceRecord) -> u64;
    silences() -> Vec<SilenceRecord>;
    end_silence(id: u64) -> bool;
    evaluated(at: Timestamp) -> ();
    last_evaluation() -> Option<Timestamp>;
    prune_alerts(before: Timestamp) -> u64;
}
