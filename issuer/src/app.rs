//! Wires the issuer's tasks together.
//!
//! ```text
//! config watch ─▶ registry ◀──▶ fleet services ◀── listener (TLS)  ◀── agents
//!                    ▲  │
//!                    │  ├─facts─▶ alerts ─▶ senders (one a notifier) ─▶ people
//!                    │  └─Control─▶ orders ─▶ issuance (one a certificate) ─▶ CA
//!                 admin service ◀── Unix socket ◀── certwell
//!                       ▲──────── page ◀── browsers
//! ```
//! Everything that lasts goes through the store; the registry, the accounts and the scribe each own one state.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use certwell_proto::{
    limits,
    v1::{
        admin_server::AdminServer, enrollment_server::EnrollmentServer, fleet_server::FleetServer,
    },
};
use jiff::SignedDuration;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{service::interceptor::InterceptedService, transport::Server};

use crate::{
    acme::{
        accounts::Accounts,
        names::Names,
        order::{AT_ONCE, Driver},
        orders::{self, Stored},
    },
    admin::{
        service::{AdminService, beside_backups},
        socket,
    },
    alert::{self, Alerting},
    clock,
    config::{self, Config, Current},
    fleet::{
        Control, Events, Registry, Scribe, Start,
        ca::Ca,
        enrollment::EnrollmentService,
        listener,
        peer::{Doorkeeper, Gate},
        recall,
        revocations::Revocations,
        service::FleetService,
    },
    health,
    page::{self, Access, Page, Pulse},
    plan, probe,
    store::{Store, keys::Kek, sqlite::SqliteStore},
};

/// Generations of each certificate that stay in the store: the newest and two older ones.
const GENERATIONS: u32 = 3;
/// How long events are kept, join tokens after they expired, and alerts after they were resolved.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How often what is older goes.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);
/// HTTP/2 pings find hosts that vanished without a word.
const KEEPALIVE: Duration = Duration::from_secs(45);
/// Calls under way are given so long to end when the issuer stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// The store is given so long to take what was said before the issuer stopped.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A call's answer may wait in this many places for its connection.
const READY: usize = 64;

/// A running issuer.
pub struct App {
    /// Where agents connect, port 0 resolved.
    pub addresses: Vec<SocketAddr>,
    /// Where `certwell` connects.
    pub admin_socket: PathBuf,
    /// Where browsers connect, port 0 resolved; `None`: nowhere.
    pub page: Option<SocketAddr>,
    store: Arc<dyn Store>,
    registry: Registry,
    scribe: Scribe,
    events: Events,
    accounts: Accounts,
    alerting: Alerting,
    stopping: watch::Sender<bool>,
    doors: JoinSet<anyhow::Result<()>>,
    servers: JoinSet<anyhow::Result<()>>,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// Starts the issuer that `config_path` describes, and runs it until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't start, or a task that must not end did.
pub async fn serve(config_path: &Path) -> anyhow::Result<()> {
    // Before any work: told to end while it starts, it ends in an orderly way as well.
    let mut end = EndSignals::listen()?;
    let mut app = App::start(config_path).await?;
    tracing::info!(addresses = ?app.addresses, admin_socket = %app.admin_socket.display(), page = app.page.map(tracing::field::display), "listening");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let result = app.run(end.recv()).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    app.stop().await;
    result
}

impl App {
    /// Reads everything, binds everything, starts every task.
    ///
    /// # Errors
    /// A clock before 2020, a configuration, key, database, socket or address that can't be used.
    pub async fn start(config_path: &Path) -> anyhow::Result<Self> {
        clock::check()?;
        let config = Config::load(config_path)?;
        let issuer = &config.issuer;
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let kek = Kek::load(
            &issuer.key_encryption_key,
            credentials.as_deref(),
            &issuer.state_directory,
        )?;
        let store = SqliteStore::open(&issuer.state_directory, &kek).await?;
        drop(kek);
        Self::start_on(Arc::new(store), config, config_path).await
    }

    /// Likewise, on a store that is open already and with a configuration that has been read.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_on(
        store: Arc<dyn Store>,
        config: Config,
        config_path: &Path,
    ) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let issuer = &config.issuer;
        let ca = Ca::new(store.fleet_ca().await?)?;
        let revocations = Revocations::in_directory(&issuer.state_directory);
        apply_revocations(store.as_ref(), &revocations).await?;
        if let Err(error) = beside_backups(&revocations, &issuer.backup_directory) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "revocations can't be written down beside the backups"
            );
        }
        let stored = Stored::read(store.as_ref()).await?;
        let mut facts = recall(store.as_ref(), &config, &ca, &stored).await?;
        if let Some(recovery) = &mut facts.recovery {
            recovery.revoked = revocations.read()?;
        }

        // Bound before any task runs: an address in use must not cost an order.
        let listeners = listener::bind(&issuer.listen).await?;
        let addresses = listeners
            .iter()
            .map(tokio::net::TcpListener::local_addr)
            .collect::<Result<_, _>>()
            .context("a bound address can't be read")?;
        let page_listener = page::bind(&config.page).await?;
        let page_address = page_listener
            .as_ref()
            .map(tokio::net::TcpListener::local_addr)
            .transpose()
            .context("the page's bound address can't be read")?;
        let access = page_address
            .map(|address| Access::open(&config.page, &issuer.state_directory, address))
            .transpose()?;
        let (admin, allowed) = socket::listen(
            &issuer.admin_socket,
            socket::group(issuer.admin_group.as_deref())?,
        )?;

        let mut tasks = JoinSet::new();
        let events = Events::start(store.clone());
        let scribe = Scribe::start(store.clone());
        let (gate, gate_reader) = watch::channel(Arc::new(Gate::of(&facts)));
        let (registry, control) = Registry::start(Start {
            facts,
            events: events.clone(),
            scribe: scribe.clone(),
            gate,
        });
        let doorkeeper = Doorkeeper {
            gate: gate_reader,
            registry: registry.clone(),
        };

        let (current, watching) = config::watch(config_path.to_owned(), config.clone())
            .context("the configuration's directory can't be watched")?;
        tasks.spawn(async move {
            watching.await;
            Ok(())
        });
        tasks.spawn(tell_config(current, registry.clone()));
        tasks.spawn({
            let looking = probe::run(registry.clone());
            async move {
                looking.await;
                Ok(())
            }
        });

        let driver = Driver {
            store: store.clone(),
            registry: registry.clone(),
            events: events.clone(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            names: Names::default(),
        };
        tasks.spawn(end_recovery(store.clone(), control.clone()));
        let alerting = Alerting::start(alert::Start {
            store: store.clone(),
            registry: registry.clone(),
            events: events.clone(),
            control: control.clone(),
            find: plan::alert::alerts,
        })
        .await?;
        let accounts = Accounts::start(store.clone());
        let ordering = orders::run(stored, accounts.clone(), driver, control);
        tasks.spawn(async move {
            ordering.await;
            Ok(())
        });

        let identity = listener::keep_identity(ca.clone())?;
        let tls = listener::server_config(&ca, identity.clone())?;
        tasks.spawn(until_lost(identity));
        let (ready, connections) = tokio::sync::mpsc::channel(READY);
        let mut doors = JoinSet::new();
        for listener in listeners {
            let (tls, ready) = (tls.clone(), ready.clone());
            doors.spawn(async move {
                listener::accept(listener, tls, ready).await;
                Ok(())
            });
        }
        let fleet = FleetServer::new(FleetService {
            doorkeeper: doorkeeper.clone(),
            registry: registry.clone(),
            store: store.clone(),
            events: events.clone(),
        })
        .max_decoding_message_size(limits::MESSAGE)
        .max_encoding_message_size(limits::WATCH_MESSAGE);
        let enrollment = EnrollmentServer::new(EnrollmentService {
            doorkeeper,
            registry: registry.clone(),
            store: store.clone(),
            ca: ca.clone(),
            events: events.clone(),
        })
        .max_decoding_message_size(limits::MESSAGE);
        let (stopping, stop) = watch::channel(false);
        let mut servers = JoinSet::new();
        let told = until_told(stop.clone());
        servers.spawn(async move {
            Server::builder()
                .http2_keepalive_interval(Some(KEEPALIVE))
                .add_service(fleet)
                .add_service(enrollment)
                .serve_with_incoming_shutdown(ReceiverStream::new(connections), told)
                .await
                .context("the agents' listener failed")
        });

        let admin_service = Arc::new(AdminService {
            registry: registry.clone(),
            store: store.clone(),
            ca,
            events: events.clone(),
            alerting: alerting.clone(),
            revocations,
            page: access.clone(),
            backups: issuer.backup_directory.clone(),
        });
        let admin_server =
            InterceptedService::new(AdminServer::from_arc(admin_service.clone()), allowed);
        if let (Some(listener), Some(access)) = (page_listener, access) {
            let pulse = Pulse::new(stop.clone());
            let beating = pulse.clone().run(admin_service.clone());
            tasks.spawn(async move {
                beating.await;
                Ok(())
            });
            let router = page::router(Arc::new(Page::new(admin_service, access, pulse)));
            let serving = page::serve(listener, router, stop.clone());
            servers.spawn(async move {
                serving.await;
                Ok(())
            });
        }
        servers.spawn(async move {
            Server::builder()
                .add_service(admin_server)
                .serve_with_incoming_shutdown(UnixListenerStream::new(admin), until_told(stop))
                .await
                .context("the admin socket failed")
        });
        tasks.spawn(housekeeping(store.clone()));
        tasks.spawn(look_after(config.clone(), registry.clone()));

        Ok(Self {
            addresses,
            admin_socket: issuer.admin_socket.clone(),
            page: page_address,
            store,
            registry,
            scribe,
            events,
            accounts,
            alerting,
            stopping,
            doors,
            servers,
            tasks,
        })
    }

    /// What is known of the fleet.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Runs until it is `told` to end.
    ///
    /// # Errors
    /// When a task ended that should have gone on.
    pub async fn run(&mut self, told: impl Future<Output = ()>) -> anyhow::Result<()> {
        // Cancel-safe: ends are only waited for, `join_next` loses no result.
        tokio::select! {
            () = told => Ok(()),
            () = watchdog() => Ok(()),
            Some(ended) = self.tasks.join_next() => unexpected(ended),
            Some(ended) = self.servers.join_next() => unexpected(ended),
            Some(ended) = self.doors.join_next() => unexpected(ended),
            () = self.registry.ended() => lost("registry"),
            () = self.events.ended() => lost("events"),
            () = self.scribe.ended() => lost("scribe"),
            () = self.accounts.ended() => lost("accounts"),
            () = self.alerting.ended() => lost("alerts"),
        }
    }

    /// Lets nobody in any more, cuts streams and lets calls under way end, stops every task, has what was said so
    /// far committed, and closes the store. An order under way is resumed at the next start.
    pub async fn stop(mut self) {
        self.doors.shutdown().await;
        self.stopping.send_replace(true);
        let farewell = async {
            self.registry.stop().await;
            while self.servers.join_next().await.is_some() {}
        };
        let _ = timeout(FAREWELL, farewell).await;
        self.servers.shutdown().await;
        self.tasks.shutdown().await;
        let last = async {
            self.alerting.finish().await;
            self.registry.finish().await;
            self.scribe.finish().await;
            self.events.finish().await;
        };
        if timeout(LAST_WORDS, last).await.is_err() {
            tracing::error!(
                "the store didn't take in time what hosts said last; they say it again when they connect"
            );
        }
        // As long as the store is ours no other issuer can have made its own socket there.
        let _ = std::fs::remove_file(&self.admin_socket);
        self.store.close().await;
    }
}

/// SIGTERM and SIGINT, from when it is made.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM can't be handled")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT can't be handled")?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn until_told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|told| *told).await;
}

fn unexpected(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(Ok(())) => Err(anyhow::anyhow!("a task ended that should have gone on")),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(error).context("a task failed"),
    }
}

/// A task that owns a state is gone: whoever holds its handle would go on without, and say nothing.
fn lost(task: &str) -> anyhow::Result<()> {
    Err(anyhow::anyhow!(
        "the {task} task ended that should have gone on"
    ))
}

/// Ends when the server's identity isn't renewed any more.
async fn until_lost<T>(mut identity: watch::Receiver<T>) -> anyhow::Result<()> {
    while identity.changed().await.is_ok() {}
    lost("identity")
}

/// Tells systemd that the loop turns, twice as often as it asks; never returns.
async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}

async fn tell_config(
    mut current: watch::Receiver<Current>,
    registry: Registry,
) -> anyhow::Result<()> {
    while current.changed().await.is_ok() {
        let fresh = current.borrow_and_update().clone();
        registry.config(fresh).await;
    }
    Ok(())
}

/// Notes that a recovery is over, so that the next start doesn't wait for hosts again.
async fn end_recovery(
    store: Arc<dyn Store>,
    mut control: watch::Receiver<Arc<Control>>,
) -> anyhow::Result<()> {
    if control
        .wait_for(|control| control.recovering.is_empty())
        .await
        .is_ok()
    {
        store.end_recovery(clock::now()).await?;
    }
    std::future::pending().await
}

async fn housekeeping(store: Arc<dyn Store>) -> anyhow::Result<()> {
    loop {
        if let Err(error) = async {
            store.prune_bundles(GENERATIONS).await?;
            let before = clock::now() - EVENTS_KEPT;
            store.prune_tokens(before).await?;
            store.prune_alerts(before).await?;
            store.prune_events(before).await
        }
        .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "old records can't be removed"
            );
        }
        tokio::time::sleep(HOUSEKEEPING).await;
    }
}

/// Looks at the issuer's own machine.
async fn look_after(config: Arc<Config>, registry: Registry) -> anyhow::Result<()> {
    health::watch(&config.issuer, registry).await;
    std::future::pending().await
}

/// What the file outside the database knows of revocations goes before what the database knows.
async fn apply_revocations(store: &dyn Store, revocations: &Revocations) -> anyhow::Result<()> {
    let revoked = revocations.read()?;
    for mut host in store.hosts().await? {
        let Some(&at) = revoked.get(&host.name) else {
            continue;
        };
        if host.revoked.is_none_or(|known| known < at) {
            host.revoked = Some(at);
            store.put_host(&host).await?;
        }
    }
    Ok(())
}
