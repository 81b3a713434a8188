//! Reloads the configuration when its files change. A bad edit keeps the last good configuration and is told.
//!
//! ```text
//! inotify on the parent directories --(changed)--> task: 100 ms of quiet, load --(Current)--> everybody
//! ```

use std::{
    collections::BTreeSet,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{Config, ConfigErrors, DIRECTORY, Issuer, Roots, source_files};

/// So long must it be quiet before a change is read.
const QUIET: Duration = Duration::from_millis(100);
/// And so long at most is waited for quiet.
const LONGEST: Duration = Duration::from_secs(2);

/// The configuration in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// The last good one.
    pub config: Arc<Config>,
    /// Why the files say something else than what is in force: one fragment that names file and line.
    pub problem: Option<String>,
}

/// Watches the files of the configuration at `path`, of which `initial` is in force.
///
/// The future does the watching; it ends when the last receiver is gone.
///
/// # Errors
/// When the system can't watch the directories.
pub fn watch(
    path: PathBuf,
    initial: Arc<Config>,
) -> notify::Result<(
    watch::Receiver<Current>,
    impl Future<Output = ()> + Send + 'static,
)> {
    let path = std::path::absolute(&path)?;
    let (changed, mut changes) = mpsc::channel(1);
    let (files, read) = watch::channel(BTreeSet::new());
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| matters(&event, &read.borrow())) {
            // Full means that the task is going to look anyway.
            let _ = changed.try_send(());
        }
    })?;
    let mut directories = Directories {
        watcher,
        watched: BTreeSet::new(),
        files,
    };
    directories.follow(&path, &initial)?;
    let running = initial.issuer.clone();
    let (current, receiver) = watch::channel(Current {
        config: initial,
        problem: None,
    });
    let task = async move {
        loop {
            // Once before the first change: the files may have changed since they were read.
            let loaded = load(path.clone()).await;
            let config = apply(&current, &path, &running, loaded);
            if let Err(error) = directories.follow(&path, &config) {
                tracing::warn!("can't watch the configuration for changes: {error}");
            }
            tokio::select! {
                // Both are cancel-safe: nothing is lost when the other wins.
                () = current.closed() => return,
                change = changes.recv() => if change.is_none() { return },
            }
            settle(&mut changes).await;
        }
    };
    Ok((receiver, task))
}

/// Reading is no change. New content matters in the files that were read; a file that comes, goes or is
/// renamed always does, since it may be a link that leads to one of them.
fn matters(event: &Event, read: &BTreeSet<PathBuf>) -> bool {
    let ours = || event.paths.iter().any(|path| read.contains(path));
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => ours(),
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => ours(),
        _ => true,
    }
}

/// Waits until nothing changed for a while: editors and configuration tools write several files, in steps.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    let last = Instant::now() + LONGEST;
    loop {
        let quiet = (Instant::now() + QUIET).min(last);
        match timeout_at(quiet, changes.recv()).await {
            Ok(Some(())) if quiet < last => {}
            _ => return,
        }
    }
}

/// Why files can't be taken up: in one line, and in full.
struct Refused {
    line: String,
    whole: String,
}

async fn load(path: PathBuf) -> Result<Config, Refused> {
    match tokio::task::spawn_blocking(move || Config::load(&path)).await {
        Ok(loaded) => loaded.map_err(|errors: ConfigErrors| Refused {
            line: errors.summary(),
            whole: errors.to_string(),
        }),
        Err(error) => Err(Refused {
            line: format!("the configuration can't be read: {error}"),
            whole: error.to_string(),
        }),
    }
}

/// Publishes what was loaded, if it says anything new; returns what is in force.
fn apply(
    current: &watch::Sender<Current>,
    path: &Path,
    running: &Issuer,
    loaded: Result<Config, Refused>,
) -> Arc<Config> {
    let before = current.borrow().clone();
    let next = match loaded {
        Err(Refused { line, whole }) => {
            if before.problem.as_ref() != Some(&line) {
                tracing::error!(
                    "the configuration is refused, the last good one stays in force:\n{whole}"
                );
            }
            Current {
                config: before.config.clone(),
                problem: Some(line),
            }
        }
        Ok(mut config) => {
            let keys = changed_keys(running, &config.issuer);
            let issuer = (!keys.is_empty()).then(|| format!("{} in [issuer]", keys.join(", ")));
            let page = (config.page != before.config.page).then(|| "[page]".to_owned());
            let changed: Vec<String> = issuer.into_iter().chain(page).collect();
            let problem = (!changed.is_empty()).then(|| {
                format!(
                    "{}: {} changed; restart certwell-issuer to apply it",
                    path.display(),
                    changed.join(" and ")
                )
            });
            if let Some(problem) = problem
                .as_ref()
                .filter(|now| before.problem.as_ref() != Some(now))
            {
                tracing::warn!("{problem}");
            }
            config.issuer = running.clone();
            config.page = before.config.page.clone();
            let config = if config == *before.config {
                before.config.clone()
            } else {
                Arc::new(config)
            };
            Current { config, problem }
        }
    };
    if next.config != before.config {
        tracing::info!(
            certificates = next.config.certificates.len(),
            hosts = next.config.hosts.len(),
            "the configuration was reloaded"
        );
    }
    if before.problem.is_some() && next.problem.is_none() {
        tracing::info!("the configuration is good again");
    }
    let config = next.config.clone();
    current.send_if_modified(|held| {
        let modified = *held != next;
        *held = next;
        modified
    });
    config
}

fn changed_keys(running: &Issuer, read: &Issuer) -> Vec<&'static str> {
    let Issuer {
        fleet,
        state_directory,
        listen,
        endpoints,
        admin_socket,
        admin_group,
        key_encryption_key,
        backup_directory,
        // Read by `certwell-issuer backup` alone.
        backups_kept: _,
    } = read;
    [
        ("fleet", *fleet != running.fleet),
        (
            "state-directory",
            *state_directory != running.state_directory,
        ),
        ("listen", *listen != running.listen),
        ("endpoints", *endpoints != running.endpoints),
        ("admin-socket", *admin_socket != running.admin_socket),
        ("admin-group", *admin_group != running.admin_group),
        (
            "key-encryption-key",
            *key_encryption_key != running.key_encryption_key,
        ),
        (
            "backup-directory",
            *backup_directory != running.backup_directory,
        ),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

/// The directories that are watched. Not the files: those are replaced by rename, and a watch stays behind.
struct Directories {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    /// The files that are read.
    files: watch::Sender<BTreeSet<PathBuf>>,
}

impl Directories {
    /// Watches what this configuration is read from: its directory, `conf.d`, and where root certificates and secrets lie.
    fn follow(&mut self, path: &Path, config: &Config) -> notify::Result<()> {
        let mut files: BTreeSet<PathBuf> =
            source_files(path).unwrap_or_default().into_iter().collect();
        files.insert(path.to_owned());
        files.extend(
            config
                .authorities
                .values()
                .filter_map(|authority| match &authority.roots {
                    Roots::File { path, .. } => Some(path.clone()),
                    Roots::System => None,
                }),
        );
        let notifiers = config.notifiers.values();
        files.extend(notifiers.flat_map(|notifier| notifier.files.iter().cloned()));
        let wanted: BTreeSet<PathBuf> = files
            .iter()
            .filter_map(|file| file.parent().map(Path::to_owned))
            .chain([path.with_file_name(DIRECTORY)])
            .filter(|directory| directory.is_dir())
            .collect();
        self.files.send_replace(files);
        for gone in self.watched.difference(&wanted) {
            // It may have been removed together with its watch.
            let _ = self.watcher.unwatch(gone);
        }
        for directory in &wanted {
            // Again, even when it is watched: a directory that was replaced needs a new watch.
            self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        self.watched = wanted;
        Ok(())
    }
}
