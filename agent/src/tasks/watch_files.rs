//! Notices changes in the directories that matter, by their parents and with a pause for what comes together.

use std::{
    collections::{HashMap, HashSet},
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
    watched: HashMap<PathBuf, Inode>,
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
    seen: Mutex<Seen>,
    notify: Notify,
}

/// What was told since it was last asked for.
#[derive(Default)]
struct Seen {
    paths: HashSet<PathBuf>,
    /// As in [`FileWatch`].
    watched: HashSet<PathBuf>,
    /// Watched directories that something happened to themselves: their watch may be gone, though a new directory
    /// there may have the old one's number.
    doubtful: HashSet<PathBuf>,
}

impl Seen {
    fn take_note(&mut self, event: Event) {
        if event.need_rescan() {
            // The kernel's queue ran over: anything may have changed.
            self.paths.extend(self.watched.iter().cloned());
            self.doubtful.clone_from(&self.watched);
        }
        let of_themselves = event
            .paths
            .iter()
            .filter(|path| self.watched.contains(*path));
        self.doubtful.extend(of_themselves.cloned());
        self.paths.extend(event.paths);
    }
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
            told.seen().take_note(event);
            told.notify.notify_one();
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "changes of files are noticed by the slow check alone"))
            .ok();
        Self {
            watcher,
            watched: HashMap::new(),
            changed,
        }
    }

    /// Watches exactly these from now on; one that has several names is watched, and told of, by the first. Those that
    /// weren't watched before: what changed in them wasn't noticed.
    pub fn set(&mut self, directories: Vec<PathBuf>) -> HashSet<PathBuf> {
        let mut fresh = HashSet::new();
        let Some(watcher) = &mut self.watcher else {
            return fresh;
        };
        let mut inodes = HashSet::new();
        let found: HashMap<PathBuf, Inode> = directories
            .into_iter()
            .filter_map(|directory| inode(&directory).map(|inode| (directory, inode)))
            .filter(|(_, inode)| inodes.insert(*inode))
            .collect();
        let doubtful = {
            let mut seen = self.changed.seen();
            seen.watched = found.keys().cloned().collect();
            std::mem::take(&mut seen.doubtful)
        };
        // Before the watches of those that came in their place.
        self.watched.retain(|directory, inode| {
            let stays = found.get(directory) == Some(inode) && !doubtful.contains(directory);
            if !stays {
                // It may be gone from the disk as well.
                let _ = watcher.unwatch(directory);
            }
            stays
        });
        for (directory, inode) in found {
            if self.watched.contains_key(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    fresh.insert(directory.clone());
                    self.watched.insert(directory, inode);
                }
                Err(error) => {
                    tracing::debug!(%error, directory = %directory.display(), "not watched");
                }
            }
        }
        fresh
    }

    /// Whether a directory may be watched no more, so that they are to be set again.
    pub fn is_doubtful(&self) -> bool {
        !self.changed.seen().doubtful.is_empty()
    }

    /// The paths that changed, once it is quiet for a moment. Nothing is lost when this is cut short: paths are kept
    /// until they are handed out.
    pub async fn changes(&self) -> HashSet<PathBuf> {
        while self.changed.seen().paths.is_empty() {
            self.changed.notify.notified().await;
        }
        tokio::time::sleep(DEBOUNCE).await;
        std::mem::take(&mut self.changed.seen().paths)
    }
}

impl Changed {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
        watch.set(vec![directory.path().to_owned()]);
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
        let fresh = watch.set(vec![watched.clone()]);
        assert_eq!(fresh, HashSet::from([watched.clone()]));
        assert!(watch.set(vec![watched.clone()]).is_empty());
        std::fs::rename(&watched, directory.path().join("old")).unwrap();
        std::fs::create_dir(&watched).unwrap();
        let fresh = watch.set(vec![watched.clone()]);
        assert_eq!(fresh, HashSet::from([watched.clone()]));
        let _ = tokio::time::timeout(Duration::from_millis(400), watch.changes()).await;
        let file = watched.join("media");
        std::fs::write(&file, "a").unwrap();
        let changes = tokio::time::timeout(Duration::from_secs(10), watch.changes())
            .await
            .unwrap();
        assert!(changes.contains(&file), "{changes:?}");
    }

    async fn assert_told_of(watch: &FileWatch, file: &Path) {
        std::fs::write(file, "a").unwrap();
        let told = async { while !watch.changes().await.contains(file) {} };
        let told = tokio::time::timeout(Duration::from_secs(10), told).await;
        assert!(told.is_ok(), "{}", file.display());
    }

    #[tokio::test]
    async fn a_directory_that_has_the_number_of_a_removed_one_is_watched_anew() {
        let directory = tempfile::tempdir().unwrap();
        let watched = directory.path().join("live");
        std::fs::create_dir(&watched).unwrap();
        let mut watch = FileWatch::new();
        watch.set(vec![watched.clone()]);
        let before = inode(&watched);
        // As ext4 gives numbers away; elsewhere they may be new.
        std::fs::remove_dir(&watched).unwrap();
        std::fs::create_dir(&watched).unwrap();
        if inode(&watched) != before {
            eprintln!(
                "SKIPPED in part: this file system gave the new directory a number of its own"
            );
        }
        let told = tokio::time::timeout(Duration::from_secs(10), watch.changes()).await;
        assert!(told.unwrap().contains(&watched));
        assert!(watch.is_doubtful());
        let fresh = watch.set(vec![watched.clone()]);
        assert_eq!(fresh, HashSet::from([watched.clone()]));
        assert_told_of(&watch, &watched.join("media")).await;
    }

    #[tokio::test]
    async fn a_directory_of_two_names_is_told_of_by_the_first_and_stays_watched_by_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut watch = FileWatch::new();
        let fresh = watch.set(vec![link.clone(), real.clone()]);
        assert_eq!(fresh, HashSet::from([link.clone()]));
        assert_told_of(&watch, &link.join("a")).await;
        watch.set(vec![real.clone()]);
        assert_told_of(&watch, &real.join("b")).await;
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
