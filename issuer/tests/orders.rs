//! The order protocol survives being cut off at any point: whatever was in flight, exactly one order is finalized
//! for an intent, and exactly one generation comes out of it.
//!
//! The CA is a scripted one, so that it can count; everything else is the real driver. End-to-end runs against a
//! real CA, with real kills, are in `lab`.
#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use certwell_issuer::{
    acme::{
        client::{Acme, AcmeError},
        csr,
        names::Names,
        order::{Driver, Then},
    },
    config::{Alerts, Config, Issuer, KeyType, Page, Renewal},
    fleet::{Events, Registry, Scribe, Start},
    plan::{
        facts::FleetFacts,
        order::{Authorization, ChallengeState, OrderStatus, OrderView},
    },
    store::{FleetCa, Intent, Store, memory::MemoryStore},
};
use certwell_proto::{CertificateName, Identifier, Lineage, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer as Signer,
    KeyPair,
};

/// Lets a number of calls through, then stops everything for ever.
#[derive(Default)]
struct Switch {
    left: AtomicUsize,
    passed: AtomicUsize,
}

impl Switch {
    fn after(calls: usize) -> Self {
        Self {
            left: AtomicUsize::new(calls),
            passed: AtomicUsize::new(0),
        }
    }

    async fn pass(&self) {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 {
            std::future::pending::<()>().await;
        }
        self.left.store(left - 1, Ordering::SeqCst);
        self.passed.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct CaOrder {
    answered: bool,
    finalized: Vec<Vec<u8>>,
    polls_after: u32,
}

/// What the CA remembers; outlives any number of issuers.
struct CaState {
    key: KeyPair,
    certificate: rcgen::Certificate,
    orders: Mutex<BTreeMap<String, CaOrder>>,
    /// Fails validation this many times.
    refusals: AtomicUsize,
}

impl CaState {
    fn new(refusals: usize) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Arc::new(Self {
            key,
            certificate,
            orders: Mutex::default(),
            refusals: AtomicUsize::new(refusals),
        })
    }

    fn sign(&self, csr: &[u8]) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let issuer = Signer::from_ca_cert_der(self.certificate.der(), &self.key).unwrap();
        request.signed_by(&issuer).unwrap().der().to_vec()
    }
}

/// One connection to the CA, which may be cut before or after the effect of any call.
struct Client {
    ca: Arc<CaState>,
    switch: Arc<Switch>,
}

fn refused(problem: &str, kind: &str) -> AcmeError {
    AcmeError {
        problem: problem.into(),
        kind: kind.into(),
        retry_at: None,
    }
}

#[tonic::async_trait]
impl Acme for Client {
    async fn new_order(&self, _: &[Identifier], _: Option<&[u8]>) -> Result<String, AcmeError> {
        self.switch.pass().await;
        let url = {
            let mut orders = self.ca.orders.lock().unwrap();
            let url = format!("https://ca/order/{}", orders.len());
            orders.insert(url.clone(), CaOrder::default());
            url
        };
        self.switch.pass().await;
        Ok(url)
    }

    async fn order(&self, url: &str, _: bool) -> Result<OrderView, AcmeError> {
        self.switch.pass().await;
        let view = {
            let mut orders = self.ca.orders.lock().unwrap();
            let order = orders
                .get_mut(url)
                .ok_or_else(|| refused("no such order", "malformed"))?;
            let refuses = order.answered
                && self
                    .ca
                    .refusals
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
            let (status, challenge) = if refuses {
                (OrderStatus::Invalid, ChallengeState::Failed("404".into()))
            } else if !order.answered {
                (OrderStatus::Pending, ChallengeState::Open)
            } else if order.finalized.is_empty() {
                (OrderStatus::Ready, ChallengeState::Valid)
            } else if order.polls_after == 0 {
                order.polls_after = 1;
                (OrderStatus::Processing, ChallengeState::Valid)
            } else {
                (OrderStatus::Valid, ChallengeState::Valid)
            };
            let authorizations = vec![Authorization {
                identifier: "media.hachyderm.io".into(),
                challenge,
            }];
            OrderView {
                status,
                authorizations,
                error: None,
            }
        };
        self.switch.pass().await;
        Ok(view)
    }

    async fn answer(&self, url: &str, _: &[usize]) -> Result<(), AcmeError> {
        self.switch.pass().await;
        self.ca
            .orders
            .lock()
            .unwrap()
            .get_mut(url)
            .unwrap()
            .answered = true;
        self.switch.pass().await;
        Ok(())
    }

    async fn finalize(&self, url: &str, csr: &[u8]) -> Result<(), AcmeError> {
        self.switch.pass().await;
        self.ca
            .orders
            .lock()
            .unwrap()
            .get_mut(url)
            .unwrap()
            .finalized
            .push(csr.to_vec());
        self.switch.pass().await;
        Ok(())
    }

    async fn download(&self, url: &str) -> Result<Vec<Vec<u8>>, AcmeError> {
        self.switch.pass().await;
        let csr = self.ca.orders.lock().unwrap()[url].finalized[0].clone();
        let chain = vec![self.ca.sign(&csr)];
        self.switch.pass().await;
        Ok(chain)
    }
}

fn name() -> CertificateName {
    "media.hachyderm.io".parse().unwrap()
}

fn store() -> Arc<MemoryStore> {
    let lineage = Lineage {
        id: uuid::Uuid::from_u128(7),
        started_ms: 1,
    };
    let ca = FleetCa {
        fleet: "hachyderm".parse().unwrap(),
        certificate: vec![],
        key: Secret::new(vec![]),
    };
    Arc::new(MemoryStore::new(lineage, ca))
}

/// An issuer that has just started on this store.
fn driver(store: &Arc<MemoryStore>) -> Driver {
    let config = Config {
        issuer: Issuer {
            fleet: "hachyderm".parse().unwrap(),
            state_directory: "/nowhere".into(),
            listen: vec![],
            endpoints: vec![],
            admin_socket: "/nowhere".into(),
            admin_group: None,
            key_encryption_key: "/nowhere".into(),
            backup_directory: "/nowhere".into(),
            backups_kept: 14,
        },
        page: Page::default(),
        alerts: Alerts::default(),
        renewal: Renewal {
            at_fraction: 0.66,
            preflight_wait: std::time::Duration::from_secs(30),
            retry_first: std::time::Duration::from_secs(60),
            retry_max: std::time::Duration::from_secs(3600),
        },
        probe: Default::default(),
        notifiers: Default::default(),
        authorities: BTreeMap::new(),
        hosts: BTreeMap::new(),
        certificates: BTreeMap::new(),
    };
    let facts = FleetFacts {
        fleet: "hachyderm".parse().unwrap(),
        lineage: Lineage {
            id: uuid::Uuid::from_u128(7),
            started_ms: 1,
        },
        config: Arc::new(config),
        config_problem: None,
        paused: false,
        certificates: BTreeMap::new(),
        hosts: BTreeMap::new(),
        thumbprints: BTreeMap::new(),
        inventories: BTreeMap::new(),
        recovery: None,
        sightings: certwell_issuer::plan::seen::Sightings::none(jiff::Timestamp::UNIX_EPOCH),
        issuer: Default::default(),
        intruders: Default::default(),
    };
    let store: Arc<dyn Store> = store.clone();
    let events = Events::start(store.clone());
    let (gate, _) = tokio::sync::watch::channel(Arc::default());
    let scribe = Scribe::start(store.clone());
    let (registry, _) = Registry::start(Start {
        facts,
        events: events.clone(),
        scribe,
        gate,
    });
    Driver {
        store,
        registry,
        events,
        at_once: Arc::new(tokio::sync::Semaphore::new(1)),
        names: Names::default(),
    }
}

async fn intend(store: &MemoryStore) {
    let identifiers: Vec<Identifier> = vec!["media.hachyderm.io".parse().unwrap()];
    let (private_key, csr) = csr::make(KeyType::EcdsaP256, &identifiers).unwrap();
    let intent = Intent {
        certificate: name(),
        generation: 1.into(),
        identifiers,
        authority: "scripted".into(),
        directory: "https://ca/".into(),
        private_key,
        csr,
        replaces: None,
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    store.begin_order(&intent).await.unwrap();
}

/// Runs an issuer on what the store holds until it has a certificate, or is cut off.
async fn run(store: &Arc<MemoryStore>, ca: &Arc<CaState>, switch: &Arc<Switch>) {
    let driver = driver(store);
    let Some(mut pending) = store.pending_orders().await.unwrap().pop() else {
        return;
    };
    let client = Client {
        ca: ca.clone(),
        switch: switch.clone(),
    };
    let roots = [ca.certificate.der().to_vec()];
    let work = driver.drive(&client, &mut pending, &roots);
    // Longer than any run takes in paused time; a cut-off one hangs until then and is dropped, as a kill would.
    if let Ok(result) = tokio::time::timeout(std::time::Duration::from_secs(3_000), work).await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn cut_off_at_any_point_one_order_is_finalized_and_one_generation_made() {
    let whole = Arc::new(Switch::after(usize::MAX));
    {
        let (store, ca) = (store(), CaState::new(0));
        intend(&store).await;
        run(&store, &ca, &whole).await;
    }
    let points = whole.passed.load(Ordering::SeqCst);
    assert!(points >= 14, "a whole run has {points} points");
    for point in 0..=points {
        let (store, ca) = (store(), CaState::new(0));
        intend(&store).await;
        run(&store, &ca, &Arc::new(Switch::after(point))).await;
        run(&store, &ca, &Arc::new(Switch::after(usize::MAX))).await;

        let (finalized, placed) = {
            let orders = ca.orders.lock().unwrap();
            let finalized = orders.values().flat_map(|order| &order.finalized).count();
            (finalized, orders.len())
        };
        assert_eq!(finalized, 1, "cut off at point {point} of {points}");
        assert!(placed <= 2, "at most one orphan: {placed}");
        let issued = store.newest_issued().await.unwrap();
        assert_eq!(issued.len(), 1);
        assert_eq!(issued[0].generation, 1.into());
        assert!(store.pending_orders().await.unwrap().is_empty());
        let bundle = store.bundle(&name(), 1.into()).await.unwrap().unwrap();
        assert_eq!(bundle.key_pairs[0].fullchain, issued[0].fullchain);
    }
    println!("cut off at {} points", points + 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_validation_keeps_the_intent_for_another_order() {
    let (store, ca) = (store(), CaState::new(1));
    intend(&store).await;
    let driver = driver(&store);
    let client = Client {
        ca: ca.clone(),
        switch: Arc::new(Switch::after(usize::MAX)),
    };
    let mut pending = store.pending_orders().await.unwrap().pop().unwrap();
    let ended = driver.drive(&client, &mut pending, &[]).await.unwrap_err();
    assert_eq!(ended.then, Then::OrderAgain);
    assert!(ended.failure.validation);
    assert_eq!(
        ended.failure.problem,
        "the CA could not validate media.hachyderm.io: 404"
    );
    assert!(
        ca.orders
            .lock()
            .unwrap()
            .values()
            .all(|order| order.finalized.is_empty())
    );
    let media: Identifier = "media.hachyderm.io".parse().unwrap();
    let known = driver.names.last_failed(std::slice::from_ref(&media));
    assert_eq!(known, Some((media.clone(), ended.failure.at)));

    // Validated at last, which counts for every certificate that has the name.
    pending.url = None;
    let roots = [ca.certificate.der().to_vec()];
    store
        .order_failed(&name(), 1.into(), &ended.failure)
        .await
        .unwrap();
    driver.drive(&client, &mut pending, &roots).await.unwrap();
    assert_eq!(driver.names.last_failed(&[media]), None);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_leads_to_no_root_is_not_stored_and_costs_no_second_order_once_the_roots_are_right()
 {
    let (store, ca) = (store(), CaState::new(0));
    intend(&store).await;
    let driver = driver(&store);
    let client = Client {
        ca: ca.clone(),
        switch: Arc::new(Switch::after(usize::MAX)),
    };
    let mut pending = store.pending_orders().await.unwrap().pop().unwrap();
    let stranger = CaState::new(0).certificate.der().to_vec();
    let ended = driver
        .drive(&client, &mut pending, &[stranger])
        .await
        .unwrap_err();
    assert_eq!(ended.then, Then::Resume);
    assert!(
        ended.failure.problem.contains("can't be used"),
        "{}",
        ended.failure.problem
    );
    assert!(store.newest_issued().await.unwrap().is_empty());

    let right = ca.certificate.der().to_vec();
    driver.drive(&client, &mut pending, &[right]).await.unwrap();
    assert_eq!(ca.orders.lock().unwrap().len(), 1);
    assert_eq!(store.newest_issued().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_ca_forgot_is_placed_again_with_a_new_intent() {
    let (store, ca) = (store(), CaState::new(0));
    intend(&store).await;
    store
        .order_placed(&name(), 1.into(), "https://ca/order/gone")
        .await
        .unwrap();
    let driver = driver(&store);
    let client = Client {
        ca: ca.clone(),
        switch: Arc::new(Switch::after(usize::MAX)),
    };
    let mut pending = store.pending_orders().await.unwrap().pop().unwrap();
    let ended = driver.drive(&client, &mut pending, &[]).await.unwrap_err();
    // Its CSR may have been sent before: this intent is over.
    assert_eq!(ended.then, Then::Abandon);
}
