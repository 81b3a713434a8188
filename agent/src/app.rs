//! Wires the tasks of `certwell-agent run`, and ends them.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use certwell_metrics::Timings;
use certwell_proto::v1;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use prost::Message as _;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    clock,
    config::Config,
    disk::{Permissions, durable::DiskError, permissions::PermissionError},
    issuer::{Desired, IdentityError, IdentityStore, host_info},
    nginx::{Nginx, dump, run},
    outside,
    tasks::{
        alarm::AlarmTask,
        connection::{ConnectionTask, Link},
        identity::IdentityTask,
        installer::{HostFacts, Installer, OpenError, Parts},
        inventory::InventoryTask,
        metrics::{MetricsTask, Source},
        observed::Observed,
        post_install::{PostInstallTask, Problems},
        preflight::PreflightTask,
        probe::ProbeTask,
        reporter::Reporter,
        state_file::StateFileTask,
    },
};

/// For `nginx -v`, which people read in `certwell hosts show`.
const VERSION_LIMIT: Duration = Duration::from_secs(5);
/// A child that a killed agent was just starting holds the lock until it has begun: it is asked for again so often.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Tasks that haven't ended by then are cut off. An install that is being confirmed is not.
const GRACE: Duration = Duration::from_secs(10);

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The clock is lost.
    #[error(transparent)]
    Clock(#[from] clock::ClockError),
    /// Another agent, or an enrollment, works there.
    #[error("another certwell-agent works in {0}; stop it first")]
    Locked(PathBuf),
    /// The state directory can't be used.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// A file can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Disk or ledger.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A defect of ours.
    #[error("a part of the agent broke off; the lines before say which")]
    Broken,
    /// The system.
    #[error(
        "signals can't be received: {0}; raise the limit of open files (LimitNOFILE in the unit) and start the agent again"
    )]
    Signals(std::io::Error),
}

/// Held while somebody works in the state directory.
pub struct StateLock(#[expect(dead_code, reason = "held for its drop")] Flock<std::fs::File>);

/// Makes the state directory and locks it.
///
/// # Errors
/// When it can't be made, or somebody else holds it.
pub fn lock_state(config: &Config) -> Result<StateLock, AppError> {
    Permissions::new(config.file_group.as_deref())?
        .make_lasting_directory(&config.state_directory)?;
    let path = config.lock_file();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(DiskError::about("opening", &path))?;
    let mut tries = LOCK_TRIES;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(StateLock(lock)),
            Err((again, Errno::EWOULDBLOCK)) if tries > 0 => {
                tracing::debug!(path = %path.display(), tries, "somebody holds the lock; asked for again");
                tries -= 1;
                file = again;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(AppError::Locked(config.state_directory.clone()));
            }
            Err((_, errno)) => {
                return Err(DiskError {
                    what: "locking",
                    path,
                    source: errno.into(),
                }
                .into());
            }
        }
    }
}

/// Whether an agent holds the state directory. Nothing is made or changed, and two who look don't see each other.
///
/// # Errors
/// When the lock file is there but can't be looked at.
pub fn is_running(config: &Config) -> Result<bool, AppError> {
    let path = config.lock_file();
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(DiskError::about("opening", &path)(error).into()),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(DiskError {
            what: "looking at the lock",
            path,
            source: errno.into(),
        }
        .into()),
    }
}

/// What we say of this machine.
pub async fn gather_host_info(config: &Config) -> v1::HostInfo {
    let version = match Nginx::find(&config.nginx, clock::now()) {
        Ok(nginx) if config.exec.is_none() => {
            run::version(&nginx.invocation, VERSION_LIMIT).await.ok()
        }
        _ => None,
    };
    host_info::gather(version)
}

/// The whole agent, until a signal ends it.
///
/// # Errors
/// When it can't begin.
pub async fn run(config: Config) -> Result<(), AppError> {
    // Before any work: told to end in the middle of it, it ends in an orderly way as well.
    let mut end = EndSignals::listen()?;
    clock::plausible(clock::now())?;
    let config = Arc::new(config);
    let _lock = lock_state(&config)?;
    let store = IdentityStore::new(config.identity_directory());
    let identity = Arc::new(store.load()?);
    certwell_log::set_host(identity.host.as_str());
    tracing::info!(host = %identity.host, fleet = %identity.fleet, "certwell-agent {}", env!("CARGO_PKG_VERSION"));
    let (stop, shutdown) = watch::channel(false);

    let (identity_tx, identity_rx) = watch::channel(identity.clone());
    let (desired_tx, desired_rx) = watch::channel(last_desired(&config));
    let (kept_tx, kept_rx) = watch::channel(Vec::new());
    let (link_tx, link_rx) = watch::channel(Link::default());
    let (observed_tx, observed_rx) = watch::channel(Observed::default());
    let (facts_tx, facts_rx) = watch::channel(HostFacts::default());
    let (hook_tx, hook_rx) = watch::channel(Problems::new());
    let (results_tx, results_rx) = watch::channel(std::collections::BTreeMap::new());
    let (inventory_tx, inventory_rx) = watch::channel(None);
    let (seen_tx, seen_rx) = watch::channel(None);

    let steps = Timings::default();
    let installer = Installer::open(
        Parts {
            config: config.clone(),
            agent: dump::SELF.into(),
            desired: desired_rx.clone(),
            link: link_rx.clone(),
            observed: observed_tx,
            facts: facts_tx,
            hook: hook_rx,
            steps: steps.clone(),
            shutdown: shutdown.clone(),
        },
        gather_host_info(&config).await,
    )?;
    let lineage = installer.lineage().or(identity.lineage);

    let mut tasks = JoinSet::new();
    tasks.spawn(
        ConnectionTask {
            identity: identity_rx.clone(),
            observed: observed_rx.clone(),
            desired: desired_tx,
            kept: kept_tx,
            link: link_tx,
            lineage,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        IdentityTask {
            store,
            identity: identity_tx,
            link: link_rx.clone(),
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        MetricsTask {
            listen: config.metrics,
            source: Source {
                observed: observed_rx.clone(),
                link: link_rx.clone(),
                identity: identity_rx.clone(),
                inventory: inventory_rx.clone(),
                steps,
            },
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        InventoryTask {
            config: config.clone(),
            host: facts_rx.clone(),
            observed: observed_rx.clone(),
            inventory: inventory_tx,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        ProbeTask {
            desired: desired_rx.clone(),
            seen: seen_tx,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        PreflightTask {
            desired: desired_rx,
            host: facts_rx,
            settings: config.nginx.clone(),
            exec: config.exec.clone(),
            results: results_tx,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        Reporter {
            observed: observed_rx.clone(),
            preflights: results_rx,
            inventory: inventory_rx,
            seen: seen_rx.clone(),
            link: link_rx.clone(),
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        PostInstallTask {
            settings: config.post_install.clone(),
            record_path: config.post_install_file(),
            live_directory: config.live_directory.clone(),
            observed: observed_rx.clone(),
            problems: hook_tx,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        AlarmTask {
            notifiers: config
                .alarms
                .iter()
                .map(|(name, notifier)| (name.clone(), outside::told_outside(notifier.clone())))
                .collect(),
            record_path: config.alarm_file(),
            host: identity.host.to_string(),
            fleet: identity.fleet.to_string(),
            observed: observed_rx.clone(),
            link: link_rx.clone(),
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    tasks.spawn(
        StateFileTask {
            state_path: config.state_file(),
            desired_path: config.desired_file(),
            host: identity.host.to_string(),
            fleet: identity.fleet.to_string(),
            identity_not_after: identity_rx,
            observed: observed_rx,
            seen: seen_rx,
            link: link_rx,
            kept: kept_rx,
            shutdown: shutdown.clone(),
        }
        .run(),
    );
    // Apart from the others: it ends when it is safe to, however long a confirm takes.
    let mut installing = tokio::spawn(installer.run());

    let notified = sd_notify::notify(&[NotifyState::Ready]);
    if let Err(error) = notified {
        tracing::warn!(%error, "the service manager can't be told");
    }
    let quiet = keep_watchdog_quiet();
    tokio::pin!(quiet);
    let broken = tokio::select! {
        () = end.recv() => false,
        // None of them ends by itself: a panic ends the process in an orderly way.
        _ = tasks.join_next() => true,
        _ = &mut installing => true,
        never = &mut quiet => match never {},
    };
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    if !installing.is_finished() {
        // The service manager's watchdog goes on while it waits for our end.
        tokio::select! {
            _ = installing => {}
            never = &mut quiet => match never {},
        }
    }
    let rest = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, rest).await;
    if broken {
        Err(AppError::Broken)
    } else {
        Ok(())
    }
}

/// SIGTERM and SIGINT, from when it is made.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn listen() -> Result<Self, AppError> {
        let listen = |kind| signal(kind).map_err(AppError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// This thread runs all tasks, so it is alive if this is: three times in the time that the service manager gives.
async fn keep_watchdog_quiet() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(limit / 3).await;
    }
}

/// What the issuer wanted when it was last reached; a file that can't be read is as good as none.
pub(crate) fn last_desired(config: &Config) -> Option<Arc<Desired>> {
    let bytes = std::fs::read(config.desired_file()).ok()?;
    let wire = v1::DesiredState::decode(bytes.as_slice()).ok()?;
    Desired::try_from(wire).ok().map(Arc::new)
}
