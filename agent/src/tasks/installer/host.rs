//! What the installer knows of this host's nginx, asked again only when it may have changed.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::server::Server;
use crate::{
    clock, exec,
    nginx::{
        Challenge, Invocation, Nginx, Parsed, Settings, Tested,
        dump::{self, DumpError},
        edits::{self, Edit},
        links,
        master::MasterError,
    },
    tasks::watch_files::is_configuration,
};

/// For one run of nginx; a configuration with thousands of names that resolve slowly takes its time.
pub(super) const RUN_LIMIT: Duration = Duration::from_secs(120);
/// Directories beside the main configuration file that are watched before its includes are known.
const SIDE_DIRECTORIES: usize = 64;
/// A refused configuration isn't asked for again within one pass.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What other tasks may know of this host's nginx.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// What nginx answers to HTTP-01; `None` until the first map is in place.
    pub answers: Option<Vec<Challenge>>,
    /// What it is configured to serve; `None` while that isn't known.
    pub parsed: Option<Arc<Parsed>>,
    /// Why it isn't known; empty when it is.
    pub problem: String,
}

/// See the module.
pub(super) struct HostView {
    settings: Settings,
    /// The server in the place of nginx.
    exec: Option<Arc<exec::Settings>>,
    /// The binary that is run to parse `nginx -T`.
    agent: PathBuf,
    cached: Option<Cached>,
    /// nginx refused its configuration so lately that it would again.
    refused: Option<(Instant, String)>,
    /// Files of the configuration when it was last known, whatever became of it.
    files: Vec<PathBuf>,
    /// Of these files, when a change was last looked for.
    seen: u64,
    /// How long the last test took.
    pub(super) test_took: Duration,
}

struct Cached {
    invocation: Invocation,
    pid: Option<i32>,
    stamp: u64,
    parsed: Arc<Parsed>,
}

impl HostView {
    pub(super) fn new(settings: Settings, exec: Option<exec::Settings>, agent: PathBuf) -> Self {
        Self {
            settings,
            exec: exec.map(Arc::new),
            agent,
            cached: None,
            refused: None,
            files: Vec::new(),
            seen: 0,
            test_took: Duration::ZERO,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the operator says of a server that isn't nginx, where it is one.
    pub(super) fn exec(&self) -> Option<&Arc<exec::Settings>> {
        self.exec.as_ref()
    }

    /// The running master, or how nginx would be started.
    pub(super) fn find(&self) -> Result<Nginx, MasterError> {
        Nginx::find(&self.settings, clock::now())
    }

    /// What it is configured to serve; asked anew when master or configuration changed.
    pub(super) async fn parsed(&mut self, nginx: &Nginx) -> Result<Arc<Parsed>, DumpError> {
        let pid = nginx.master.as_ref().map(|master| master.pid);
        if let Some(cached) = &self.cached
            && cached.pid == pid
            && cached.invocation == nginx.invocation
            && cached.stamp == stamp(&cached.parsed.files)
        {
            let parsed = cached.parsed.clone();
            // Where links lead may have changed without nginx's configuration.
            let Some(fresh) = links::followed_anew(&parsed) else {
                return Ok(parsed);
            };
            let fresh = Arc::new(fresh);
            if let Some(cached) = &mut self.cached {
                cached.parsed = fresh.clone();
            }
            return Ok(fresh);
        }
        self.cached = None;
        if let Some((at, words)) = &self.refused
            && at.elapsed() < REFUSED_FOR
        {
            return Err(DumpError::Refused {
                words: words.clone(),
            });
        }
        let began = clock::now();
        let dumped = dump::listeners(&self.agent, &nginx.invocation, RUN_LIMIT).await;
        self.refused = match &dumped {
            Err(DumpError::Refused { words }) => Some((Instant::now(), words.clone())),
            _ => None,
        };
        let parsed = Arc::new(dumped?);
        for warning in &parsed.warnings {
            tracing::warn!(warning, "a part of nginx's configuration isn't understood");
        }
        let first = self.files.is_empty();
        self.files.clone_from(&parsed.files);
        if first {
            self.seen = stamp(&self.files);
        }
        // What changed while nginx read it may have been read before or after: it is asked again at the next use.
        let stamp = stamp(&parsed.files);
        if !changed_since(began, &parsed.files) {
            self.cached = Some(Cached {
                invocation: nginx.invocation.clone(),
                pid,
                stamp,
                parsed: parsed.clone(),
            });
        }
        Ok(parsed)
    }

    /// Whether the configuration isn't what it was when this was last asked; where it isn't known, any change may be one.
    /// That it has been read meanwhile, for one certificate, is no answer for the others.
    pub(super) fn configuration_changed(&mut self) -> bool {
        let now = stamp(&self.files);
        let changed = self.cached.is_none() || now != self.seen;
        self.seen = now;
        changed
    }

    /// Something changed that nginx's answer depends on.
    pub(super) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    /// What it says of what would be loaded; the words of what kept it from saying anything.
    pub(super) async fn test(&mut self, server: &Server) -> Result<Tested, String> {
        let tested = server.test().await?;
        if let Tested::Passed { took } = &tested {
            self.test_took = *took;
        }
        Ok(tested)
    }

    /// The newest change of the configuration that isn't ours.
    pub(super) fn newest_change(&self, live: &Path) -> Option<Edit> {
        edits::newest_foreign_change(
            &self.files,
            live,
            &self.settings.challenge_map,
            clock::now(),
        )
    }

    /// When the challenge map was written.
    pub(super) fn map_written(&self) -> Option<Timestamp> {
        let map = std::slice::from_ref(&self.settings.challenge_map);
        edits::newest_change(map, &[], Timestamp::MAX).map(|edit| edit.at)
    }

    /// Whether nginx reads the challenge map, as far as that is known.
    pub(super) fn reads_map(&self) -> Option<bool> {
        let cached = self.cached.as_ref()?;
        let wanted = std::fs::canonicalize(&self.settings.challenge_map).ok()?;
        Some(
            cached
                .parsed
                .files
                .iter()
                .any(|file| std::fs::canonicalize(file).is_ok_and(|file| file == wanted)),
        )
    }

    /// Directories in which a change of the configuration would show.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        // Where sites-enabled holds links, edits happen in sites-available.
        let mut found: BTreeSet<PathBuf> = self
            .files
            .iter()
            .flat_map(|file| [Some(file.clone()), std::fs::canonicalize(file).ok()])
            .flatten()
            .filter_map(|file| file.parent().map(Path::to_owned))
            .collect();
        if let Some(main) = self.settings.config.parent()
            && found.is_empty()
            && self.exec.is_none()
        {
            found.insert(main.to_owned());
            let below = std::fs::read_dir(main).into_iter().flatten().flatten();
            found.extend(
                below
                    .map(|entry| entry.path())
                    .filter(|path| path.is_dir())
                    .take(SIDE_DIRECTORIES),
            );
        }
        found
    }
}

/// Changes when a file of the configuration changes, or a directory of them gets or loses an entry.
///
/// Not by the directories' own times: nginx's test touches them where its pid file lies among the configuration.
fn stamp(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut directories = BTreeSet::new();
    for file in files {
        file.hash(&mut hasher);
        if let Ok(meta) = std::fs::metadata(file) {
            (meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.len()).hash(&mut hasher);
        }
        directories.extend(file.parent());
    }
    for directory in directories {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| is_configuration(path, &[]))
            .collect();
        names.sort_unstable();
        names.hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether any of these, or a file beside them that may be a part of the configuration, was written at that instant or
/// later.
fn changed_since(instant: Timestamp, files: &[PathBuf]) -> bool {
    // Files are dated by the kernel's coarse clock, which lags by up to a tick of 10 ms. What is dated later than now
    // tells nothing: a clock was set.
    let from = instant.as_nanosecond() - 20_000_000;
    let to = clock::now().as_nanosecond();
    let recent = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| {
            let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
            let written = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            meta.is_file() && [changed, written].iter().any(|at| (from..=to).contains(at))
        })
    };
    let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    files.iter().any(|file| recent(file))
        || directories.into_iter().any(|directory| {
            let beside = std::fs::read_dir(directory).into_iter().flatten().flatten();
            beside
                .map(|entry| entry.path())
                .any(|path| is_configuration(&path, &[]) && recent(&path))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::run;

    #[test]
    fn what_was_written_since_the_dump_began_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "a").unwrap();
        std::fs::write(directory.path().join("error.log"), "a").unwrap();
        let files = [file.clone()];
        let before = clock::now() - jiff::SignedDuration::from_millis(30);
        let much_later = clock::now() + jiff::SignedDuration::from_secs(1);
        assert!(changed_since(before, &files));
        assert!(!changed_since(much_later, &files));
        // An edit that keeps the date of the file is one all the same.
        let old = std::time::UNIX_EPOCH;
        let opened = std::fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(old).unwrap();
        assert!(changed_since(before, &files));
    }

    #[tokio::test]
    async fn a_parse_that_an_edit_overtook_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("nginx.conf");
        let text = "events {} http { server { listen unix:s; server_name a.org; } }";
        std::fs::write(&config, text).unwrap();
        let answer = serde_json::json!({ "Parsed": Parsed { files: vec![config.clone()], ..Parsed::default() } });
        // Stands in for the child: the edit comes while it works.
        let script = format!(
            "cat > /dev/null\n[ -e once ] || echo x >> {}\ntouch once\necho '{answer}'\n",
            config.display()
        )
        .replace(
            "once",
            &directory.path().join(".once").display().to_string(),
        );
        let agent = run::tests::program(directory.path(), &script);
        // What was made just now is not what is meant.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let nginx = Nginx {
            invocation: Invocation::plain("/usr/sbin/nginx"),
            master: None,
        };
        let mut view = HostView::new(settings(directory.path()), None, agent);
        view.parsed(&nginx).await.unwrap();
        assert!(view.cached.is_none());
        tokio::time::sleep(Duration::from_millis(50)).await;
        view.parsed(&nginx).await.unwrap();
        assert!(view.cached.is_some());
        // A file that nginx only writes beside its configuration is no change of it.
        assert!(!view.configuration_changed());
        std::fs::write(directory.path().join("access.log"), "x").unwrap();
        assert!(!view.configuration_changed());
        std::fs::write(&config, "events {}").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        view.parsed(&nginx).await.unwrap();
        assert!(view.configuration_changed(), "though it has been read");
        assert!(!view.configuration_changed(), "told once");
    }

    #[test]
    fn the_directories_that_links_lead_to_are_watched_too() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        for sub in ["available", "enabled"] {
            std::fs::create_dir(root.join(sub)).unwrap();
        }
        std::fs::write(root.join("available/media"), "").unwrap();
        std::os::unix::fs::symlink("../available/media", root.join("enabled/media")).unwrap();
        let mut view = HostView::new(settings(&root), None, dump::SELF.into());
        view.files = vec![root.join("enabled/media")];
        assert_eq!(
            view.directories(),
            BTreeSet::from([root.join("available"), root.join("enabled")])
        );
    }

    fn settings(root: &Path) -> Settings {
        Settings {
            pid_file: root.join("nginx.pid"),
            binary: "/usr/sbin/nginx".into(),
            config: root.join("nginx.conf"),
            prefix: None,
            challenge_map: root.join("map.conf"),
            reload: crate::nginx::Reload::Signal,
        }
    }

    #[test]
    fn the_stamp_notices_edits_and_new_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, "a").unwrap();
        let files = [file.clone()];
        let first = stamp(&files);
        assert_eq!(stamp(&files), first);
        std::fs::write(&file, "ab").unwrap();
        let edited = stamp(&files);
        assert_ne!(edited, first);
        std::fs::write(directory.path().join("error.log"), "").unwrap();
        std::fs::write(directory.path().join(".nginx.conf.swp"), "").unwrap();
        assert_eq!(stamp(&files), edited, "no part of the configuration");
        std::fs::write(directory.path().join("more.conf"), "").unwrap();
        assert_ne!(stamp(&files), edited);
    }
}
