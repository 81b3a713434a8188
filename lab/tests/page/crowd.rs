//! Many hosts, played by the lab: each joins, holds its stream open and reports, as its agent would. What they report
//! on was never ordered: the issuer's store is given it while the issuer stands still.

use std::{sync::mpsc, thread::JoinHandle, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_issuer::store::{Intent, Issued, Store as _, keys::Kek, sqlite::SqliteStore};
use certwell_lab::{World, clock, rpc::Caller};
use certwell_proto::{Fingerprint, Generation, Identifier, Secret, v1};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;
use tokio::{sync::oneshot, task::JoinSet};

pub(crate) const HOSTS: usize = 200;
pub(crate) const CERTIFICATES: usize = 50;
/// The last ones never come.
pub(crate) const ABSENT: usize = 5;
/// The host that refuses the first of its certificates, and how many.
const FAILING: usize = 7;
pub(crate) const FAILED: usize = 20;
/// The hosts, from the first one, on which one certificate is held.
pub(crate) const HELD: usize = 3;
/// All is served there, and something else is in the way.
const TROUBLED: usize = 11;
const GENERATION: u64 = 7;
const AT_ONCE: usize = 20;
const REFUSED: &str = "nginx -t failed after the activation: SSL_CTX_use_PrivateKey(\"/etc/certwell/live/privkey.pem\") \
    failed (key values mismatch); generation 6 stays";

/// Their streams end when it is dropped.
pub(crate) struct Crowd {
    until: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Everybody who comes has come, and has reported.
    pub(crate) fn joins(world: &mut World) -> Result<Self> {
        world.issuer.stop();
        world.issuer.stop_looking()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (ca, leaves) = runtime.block_on(given(world))?;
        world.issuer.declare("20-crowd", &declared())?;
        world.issuer.serve()?;
        let mut arguments = vec!["token".to_owned(), "create".into()];
        for number in 0..HOSTS - ABSENT {
            arguments.extend(["--host".into(), host(number)]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let printed = world.issuer.certwell(&arguments)?.success("token create")?;
        let tokens: Vec<String> = printed
            .stdout
            .split_whitespace()
            .filter(|word| word.starts_with("certwell1."))
            .map(ToOwned::to_owned)
            .collect();
        ensure!(
            tokens.len() == HOSTS - ABSENT,
            "{} tokens were made",
            tokens.len()
        );
        let issuer = world.net.issuer();
        let (until, ended) = oneshot::channel::<()>();
        let (there, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let come = come(tokens, issuer, ca, leaves).await;
                let streams = come.map_err(|error| there.send(Err(error)));
                if let Ok(streams) = streams {
                    let _ = there.send(Ok(()));
                    let _ = ended.await;
                    drop(streams);
                }
            });
        });
        let crowd = Self {
            until: Some(until),
            thread: Some(thread),
        };
        ready
            .recv_timeout(Duration::from_secs(120))
            .context("they don't come")??;
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.until = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn host(number: usize) -> String {
    format!("edge-{number:03}")
}

fn certificate(number: usize) -> String {
    format!("c{number:02}.example.org")
}

fn declared() -> String {
    let hosts = (0..HOSTS).map(|number| format!("[host.{}]\nlabels = [\"edge\"]\n", host(number)));
    let certificates = (0..CERTIFICATES).map(|number| {
        format!(
            "[certificate.{:?}]\nhosts = [\"label:edge\"]\n",
            certificate(number)
        )
    });
    hosts.chain(certificates).collect()
}

/// Puts an issued bundle of each certificate into the store; returns the fleet's CA, and the leaves.
async fn given(world: &World) -> Result<(Vec<CertificateDer<'static>>, Vec<Vec<u8>>)> {
    let state = world.issuer.state();
    let kek = Kek::load(&world.issuer.key_file(), None, &state)?;
    let store = SqliteStore::open(&state, &kek).await?;
    let now = clock::now();
    let mut leaves = Vec::new();
    for number in 0..CERTIFICATES {
        let name = certificate(number);
        let identifiers: Vec<Identifier> = vec![name.parse()?];
        let key = KeyPair::generate()?;
        // Old and young ones, none of them due.
        let begin = now - SignedDuration::from_hours(24 * (number as i64 + 1));
        let (leaf, begin, end) = leaf(&name, &key, begin)?;
        store
            .begin_order(&Intent {
                certificate: name.parse()?,
                generation: Generation(GENERATION),
                identifiers: identifiers.clone(),
                authority: "pebble".into(),
                directory: world.ca.directory(),
                private_key: Secret::new(key.serialize_der()),
                csr: vec![0],
                replaces: None,
                at: now,
            })
            .await?;
        store
            .finish_order(&Issued {
                certificate: name.parse()?,
                generation: Generation(GENERATION),
                identifiers,
                authority: "pebble".into(),
                fullchain: vec![leaf.clone()],
                root: leaf.clone(),
                not_before: begin,
                not_after: end,
                at: now,
            })
            .await?;
        leaves.push(leaf);
    }
    let ca = store.fleet_ca().await?.certificate;
    store.close().await;
    Ok((vec![ca.into()], leaves))
}

/// A certificate that lives for 90 days.
fn leaf(name: &str, key: &KeyPair, begin: Timestamp) -> Result<(Vec<u8>, Timestamp, Timestamp)> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let end = begin + SignedDuration::from_hours(24 * 90);
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |instant: Timestamp| epoch + Duration::from_secs(instant.as_second().unsigned_abs());
    (params.not_before, params.not_after) = (at(begin), at(end));
    Ok((params.self_signed(key)?.der().to_vec(), begin, end))
}

/// What keeps a host's stream open.
type Stream = (
    v1::fleet_client::FleetClient<tonic::transport::Channel>,
    tonic::Streaming<v1::DesiredState>,
);

async fn come(
    tokens: Vec<String>,
    issuer: std::net::SocketAddr,
    ca: Vec<CertificateDer<'static>>,
    leaves: Vec<Vec<u8>>,
) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    let numbered: Vec<(usize, String)> = tokens.into_iter().enumerate().collect();
    for batch in numbered.chunks(AT_ONCE) {
        let mut coming: JoinSet<Result<Stream>> = JoinSet::new();
        for (number, token) in batch.iter().cloned() {
            let (ca, report) = (ca.clone(), report(number, &leaves));
            coming.spawn(async move {
                let caller = Caller::enroll(&token, issuer, &ca).await?;
                let mut fleet = caller.fleet().await?;
                let mut stream = fleet.watch(v1::WatchRequest::default()).await?.into_inner();
                stream.message().await?.context("no desired state")?;
                fleet.report(report).await?;
                Ok((fleet, stream))
            });
        }
        while let Some(come) = coming.join_next().await {
            streams.push(come??);
        }
    }
    Ok(streams)
}

fn report(number: usize, leaves: &[Vec<u8>]) -> v1::Report {
    let at = clock::now().as_millisecond();
    let fact = |generation: u64| {
        Some(v1::Fact {
            generation,
            agent_at_ms: at,
        })
    };
    let one = |(of, leaf): (usize, &Vec<u8>)| {
        let outcome = match (number, of) {
            (FAILING, 0..FAILED) => v1::Outcome::Rejected,
            (0..HELD, 3) => v1::Outcome::Held,
            _ => v1::Outcome::Converged,
        };
        let (serves, state, fingerprint) = match outcome {
            v1::Outcome::Converged => (
                GENERATION,
                v1::ListenerState::Current,
                Fingerprint::of(leaf),
            ),
            _ => (GENERATION - 1, v1::ListenerState::Old, Fingerprint([6; 32])),
        };
        let listener = |port: u16| v1::Listener {
            address: format!("198.51.100.{number}:{port}"),
            name: certificate(of),
            state: state.into(),
            fingerprint: fingerprint.0.to_vec(),
            ..v1::Listener::default()
        };
        v1::CertificateReport {
            name: certificate(of),
            fetched: fact(GENERATION),
            installed: fact(serves),
            tested: fact(serves),
            reloaded: fact(serves),
            served: Some(v1::Served {
                generation: Some(serves),
                agent_at_ms: at,
                fingerprint: fingerprint.0.to_vec(),
                listeners: vec![listener(443), listener(8443)],
            }),
            outcome_generation: GENERATION,
            outcome: outcome.into(),
            problem: match outcome {
                v1::Outcome::Rejected => REFUSED.into(),
                v1::Outcome::Held => {
                    "an edit of nginx's configuration seems to be in progress".into()
                }
                _ => String::new(),
            },
            active_fullchain: Vec::new(),
        }
    };
    let row = |(of, leaf): (usize, &Vec<u8>)| v1::InventoryRow {
        source: format!("/etc/certwell/live/{}/fullchain.pem", certificate(of)),
        covers: vec![certificate(of)],
        issuer: "Pebble".into(),
        not_before: at / 1000 - 86_400,
        not_after: at / 1000 + 86_400 * 60,
        fingerprint: Fingerprint::of(leaf).0.to_vec(),
        managed: v1::ManagedBy::Certwell.into(),
        managed_name: certificate(of),
        renews: true,
        served: v1::ServedState::Yes.into(),
        listeners: vec![format!("198.51.100.{number}:443")],
        server_names: vec![certificate(of)],
        used_at: vec![format!("/etc/nginx/sites-enabled/{}:9", certificate(of))],
        problems: Vec::new(),
    };
    v1::Report {
        certificates: leaves.iter().enumerate().map(one).collect(),
        host_problem: if number == TROUBLED {
            "the clock of this host is 7 min ahead of the issuer's".into()
        } else {
            String::new()
        },
        inventory: Some(v1::Inventory {
            at_ms: at,
            rows: leaves.iter().enumerate().map(row).collect(),
            ..v1::Inventory::default()
        }),
        ..v1::Report::default()
    }
}
