//! An issuer of the test's own: the real protocol over real TLS, and a memory of what it was told.

use std::{
    collections::BTreeMap,
    net::{Shutdown, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use certwell_proto::{
    JoinToken, Secret, identity,
    v1::{self, enrollment_server::EnrollmentServer, fleet_server::FleetServer},
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{fleet::Authority, service::Service, transport::Io};

/// A report with the result of this preflight is refused.
pub(crate) const REFUSED: &str = "refused";

/// What the test sets, and what it reads.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) bundles: BTreeMap<(String, u64), v1::Bundle>,
    pub(crate) reports: BTreeMap<String, v1::CertificateReport>,
    pub(crate) preflights: BTreeMap<String, v1::PreflightResult>,
    pub(crate) host_problem: String,
    /// Each that was told.
    pub(crate) inventories: Vec<v1::Inventory>,
    pub(crate) fetches: Vec<(String, u64)>,
    /// Fetches are answered when this is over.
    pub(crate) hold_fetches: bool,
    pub(crate) watches: u32,
    /// Reports that were refused.
    pub(crate) refused: u32,
    pub(crate) renewals: u32,
    /// When a renewal was asked for.
    pub(crate) renewal_calls: Vec<tokio::time::Instant>,
    /// So many renewals are refused at first.
    pub(crate) refuse_renewals: u32,
    /// So many reports aren't taken at first.
    pub(crate) busy: u32,
    pub(crate) enroll_calls: u32,
    /// Answers to Enroll that are lost on the way.
    pub(crate) lose: u32,
    /// CSR and bound key of each enrollment.
    pub(crate) enrolled: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) token_used: bool,
    pub(crate) identity_life: i64,
    /// Fingerprints of the identities that watched.
    pub(crate) seen_identities: Vec<Vec<u8>>,
}

pub(crate) struct TestIssuer {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Arc<Authority>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) desired: Arc<watch::Sender<v1::DesiredState>>,
    held: Mutex<Option<v1::DesiredState>>,
    /// Each that was ever accepted.
    connections: Arc<Mutex<Vec<std::net::TcpStream>>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

pub(crate) const SECRET: [u8; 32] = [42; 32];

impl TestIssuer {
    pub(crate) async fn start() -> Self {
        let ca = Arc::new(Authority::new("fleet CA"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let desired = v1::DesiredState {
            lineage: Some(v1::Lineage {
                id: vec![7; 16],
                started_ms: 1_000,
            }),
            endpoints: vec![address.to_string()],
            reconnect_window_ms: 300,
            ..Default::default()
        };
        let mut issuer = Self {
            address,
            ca,
            memory: Arc::new(Mutex::new(Memory {
                identity_life: 600,
                ..Default::default()
            })),
            desired: Arc::new(watch::Sender::new(desired)),
            held: Mutex::new(None),
            connections: Arc::default(),
            task: None,
        };
        issuer.serve(listener);
        issuer
    }

    fn serve(&mut self, listener: TcpListener) {
        let service = Service {
            ca: self.ca.clone(),
            memory: self.memory.clone(),
            desired: self.desired.clone(),
        };
        let acceptor = TlsAcceptor::from(server_config(&self.ca));
        let (sender, receiver) = mpsc::channel(8);
        let connections = self.connections.clone();
        let accepting = async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let tcp = tcp.into_std().unwrap();
                connections.lock().unwrap().push(tcp.try_clone().unwrap());
                let tcp = tokio::net::TcpStream::from_std(tcp).unwrap();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        let _ = sender.send(Ok::<_, std::io::Error>(Io(stream))).await;
                    }
                });
            }
        };
        let serving = tonic::transport::Server::builder()
            .add_service(EnrollmentServer::new(service.clone()))
            .add_service(FleetServer::new(service))
            .serve_with_incoming(ReceiverStream::new(receiver));
        self.task = Some(tokio::spawn(async move {
            tokio::select! {
                () = accepting => {}
                _ = serving => {}
            }
        }));
    }

    /// Connections break, and nobody answers any more.
    pub(crate) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        for connection in self.connections.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Answers again, at the same address.
    pub(crate) async fn restart(&mut self) {
        let address = self.address;
        let listener = eventually("the address is free again", || async move {
            TcpListener::bind(address).await.ok()
        })
        .await;
        self.serve(listener);
    }

    pub(crate) fn token(&self) -> String {
        JoinToken {
            secret: Secret::new(SECRET.to_vec()),
            ca_pin: self.ca.fingerprint(),
            endpoints: vec![self.address.to_string()],
            host: "sally".parse().unwrap(),
            fleet: "hachyderm".parse().unwrap(),
        }
        .to_text()
    }

    /// Offers a bundle: it is stored, then everybody is told.
    pub(crate) fn offer(&self, authority: &Authority, bundle: &v1::Bundle, names: &[&str]) {
        self.memory.lock().unwrap().bundles.insert(
            (bundle.certificate.clone(), bundle.generation),
            bundle.clone(),
        );
        let fingerprints = bundle
            .key_pairs
            .iter()
            .map(|pair| {
                certwell_proto::Fingerprint::of(&pair.fullchain[0])
                    .0
                    .to_vec()
            })
            .collect();
        let leaf = certwell_proto::Leaf::read(&bundle.key_pairs[0].fullchain[0]).unwrap();
        self.assign(
            authority,
            v1::DesiredCertificate {
                name: bundle.certificate.clone(),
                generation: bundle.generation,
                identifiers: names.iter().map(ToString::to_string).collect(),
                fingerprints,
                authority: "test".into(),
                not_after: leaf.not_after.as_second(),
            },
        );
    }

    /// What is assigned from here on is told at once, by [`Self::release_offers`].
    pub(crate) fn hold_offers(&self) {
        *self.held.lock().unwrap() = Some(self.desired.borrow().clone());
    }

    pub(crate) fn release_offers(&self) {
        if let Some(desired) = self.held.lock().unwrap().take() {
            self.desired.send_replace(desired);
        }
    }

    /// Assigns a certificate, in the place of an earlier one of its name.
    pub(crate) fn assign(&self, authority: &Authority, certificate: v1::DesiredCertificate) {
        let change = |desired: &mut v1::DesiredState| {
            desired
                .certificates
                .retain(|other| other.name != certificate.name);
            desired.certificates.push(certificate);
            desired.authorities = vec![v1::Authority {
                name: "test".into(),
                roots: vec![authority.der()],
            }];
        };
        match self.held.lock().unwrap().as_mut() {
            Some(held) => change(held),
            None => self.desired.send_modify(change),
        }
    }

    /// What was last told of a certificate, once it is as wanted.
    pub(crate) async fn told(
        &self,
        what: &str,
        name: &str,
        wanted: impl Fn(&v1::CertificateReport) -> bool,
    ) -> v1::CertificateReport {
        let last = Mutex::new(String::new());
        let found = tokio::time::timeout(LIMIT, async {
            loop {
                let report = self.memory.lock().unwrap().reports.get(name).cloned();
                if let Some(report) = report {
                    if wanted(&report) {
                        return report;
                    }
                    *last.lock().unwrap() = format!("{report:?}");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| panic!("never told: {what}; last: {}", last.lock().unwrap()))
    }
}

const LIMIT: Duration = Duration::from_secs(40);

/// Waits for a condition.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            if let Some(value) = found().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn server_config(ca: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().into()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    // Dated back as the issuer's own.
    let (chain, key) = ca.server(&[identity::SERVER_NAME], (-3_600, 86_400));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            chain.into_iter().map(CertificateDer::from).collect(),
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
