//! Notices changes in the directories that matter, by their parents and with a pause for what comes together.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use notify::{Event, EventKind, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// What comes together is told together.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Watches directories, not what lies below them.
pub struct FileWatch {
    // None where the system has no more watches to give: the slow check remains.
    watcher: Option<notify::RecommendedWatcher>,
    /// With the directory that was there: a watch is of an inode, not of a path.
    watched: BTreeMap<PathBuf, Inode>,
    changed: Arc<Changed>,
}

/// Device and number.
type Inode = (u64, u64);

fn inode(path: &Path) -> Option<Inode> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[derive(Default)]
struct Changed {
    paths: Mutex<HashSet<PathBuf>>,
    notify: Notify,
}

impl FileWatch {
    /// Watches nothing yet.
    pub fn new() -> Self {
        let changed = Arc::new(Changed::default());
        let told = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            // Reading is no change, and we read ourselves.
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            told.paths().extend(event.paths);
            told.notify.notify_one();
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "changes of files are noticed by the slow check alone"))
            .ok();
        Self {
            watcher,
            watched: BTreeMap::new(),
            changed,
        }
    }

    /// Watches exactly these from now on. Those that weren't watched before: what changed in them wasn't noticed.
    pub fn set(&mut self, directories: BTreeSet<PathBuf>) -> HashSet<PathBuf> {
        let mut fresh = HashSet::new();
        let Some(watcher) = &mut self.watcher else {
            return fresh;
        };
        let found: BTreeMap<PathBuf, Option<Inode>> = directories
            .into_iter()
            .map(|directory| {
                let inode = inode(&directory);
                (directory, inode)
            })
            .collect();
        // Before the watches of those that came in their place.
        self.watched.retain(|directory, inode| {
            let stays = found.get(directory) == Some(&Some(*inode));
            if !stays {
                // It may be gone from the disk as well.
                let _ = watcher.unwatch(directory);
            }
            stays
        });
        let mut kept = std::mem::take(&mut self.watched);
        for (directory, inode) in found {
            let Some(inode) = inode.filter(|_| !kept.contains_key(&directory)) else {
                continue;
            };
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    fresh.insert(directory.clone());
                    kept.insert(directory, inode);
                }
                Err(error) => {
                    tracing::debug!(%error, directory = %directory.display(), "not watched");
                }
            }
        }
        self.watched = kept;
        fresh
    }

    /// The paths that changed, once it is quiet for a moment. Nothing is lost when this is cut short: paths are kept
    /// until they are handed out.
    pub async fn changes(&self) -> HashSet<PathBuf> {
        while self.changed.paths().is_empty() {
            self.changed.notify.notified().await;
        }
        tokio::time::sleep(DEBOUNCE).await;
        std::mem::take(&mut *self.changed.paths())
    }
}

impl Changed {
    fn paths(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FileWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a changed path can be a part of nginx's configuration: not a log, a pid file, or a temporary file of an
/// editor or of nginx's own test.
pub fn is_configuration(path: &Path, not: &[&Path]) -> bool {
    if not.contains(&path) {
        return false;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = name.starts_with('.') || name.ends_with('~') || name.ends_with("_temp");
    let other = [".log", ".pid", ".oldbin", ".swp", ".tmp", ".new"]
        .iter()
        .any(|suffix| name.ends_with(suffix));
    !temporary && !other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_noticed_and_reading_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = FileWatch::new();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "a").unwrap();
        watch.set([directory.path().to_owned()].into());
        std::fs::read(&file).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(400), watch.changes()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        std::fs::write(&file, "b").unwrap();
        let changes = tokio::time::timeout(Duration::from_secs(10), watch.changes())
            .await
            .unwrap();
        assert!(changes.contains(&file));
    }

    #[tokio::test]
    async fn a_directory_that_took_the_place_of_another_is_watched_anew() {
        let directory = tempfile::tempdir().unwrap();
        let watched = directory.path().join("sites");
        std::fs::create_dir(&watched).unwrap();
        let mut watch = FileWatch::new();
        let fresh = watch.set([watched.clone()].into());
        assert_eq!(fresh, HashSet::from([watched.clone()]));
        assert!(watch.set([watched.clone()].into()).is_empty());
        std::fs::rename(&watched, directory.path().join("old")).unwrap();
        std::fs::create_dir(&watched).unwrap();
        let fresh = watch.set([watched.clone()].into());
        assert_eq!(fresh, HashSet::from([watched.clone()]));
        let _ = tokio::time::timeout(Duration::from_millis(400), watch.changes()).await;
        let file = watched.join("media");
        std::fs::write(&file, "a").unwrap();
        let changes = tokio::time::timeout(Duration::from_secs(10), watch.changes())
            .await
            .unwrap();
        assert!(changes.contains(&file), "{changes:?}");
    }

    #[test]
    fn logs_and_pid_files_are_no_configuration() {
        let pid = Path::new("/run/n");
        for (path, wanted) in [
            ("/etc/nginx/nginx.conf", true),
            ("/etc/nginx/sites-enabled/media", true),
            ("/etc/nginx/error.log", false),
            ("/etc/nginx/nginx.pid", false),
            ("/etc/nginx/.nginx.conf.swp", false),
            ("/run/n", false),
        ] {
            assert_eq!(is_configuration(Path::new(path), &[pid]), wanted, "{path}");
        }
    }
}
