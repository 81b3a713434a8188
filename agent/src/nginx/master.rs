//! The running master and its workers, from the pid file and `/proc`.
//!
//! nginx overwrites its own argv with the title `nginx: master process BINARY ARGUMENTS`, so the arguments are read
//! out of that title. After an upgrade of the package `/proc/PID/exe` names a deleted file, yet still executes it:
//! a test by that binary answers for the master that would reload.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{run::Invocation, settings::Settings, title};
use crate::outside::nginx_side;

const MASTER_TITLE: &str = "nginx: master process";
const WORKER_TITLE: &str = "nginx: worker process";
const DRAINING_TITLE: &str = "nginx: worker process is shutting down";
/// USER_HZ, in which `/proc/PID/stat` counts: 100 on every architecture that Debian builds for.
const TICKS_PER_SECOND: i64 = 100;

/// How nginx is called here, and its master when one runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nginx {
    /// The master's own binary and arguments, or the settings' when none runs.
    pub invocation: Invocation,
    /// The running master.
    pub master: Option<Master>,
}

/// A running master process.
#[derive(Debug, Clone)]
pub struct Master {
    /// Its process id.
    pub pid: i32,
    /// Start in clock ticks since boot: with the pid it identifies a process.
    pub ticks: u64,
    /// When it started.
    pub started: Timestamp,
    /// Its binary was replaced on disk since: an upgrade without a restart.
    pub replaced: bool,
    /// Its worker processes, without cache helpers.
    pub workers: Vec<Worker>,
}

/// A worker process.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    /// Start in clock ticks since boot: with the pid it identifies a process.
    pub ticks: u64,
    /// The same as a date, to about 20 ms.
    pub started: Timestamp,
    /// It only finishes old connections.
    pub draining: bool,
}

/// Why nothing can be said about nginx.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// No master runs and the configured binary doesn't exist.
    #[error(
        "nginx is absent: no master runs by {pid_file} and there is no binary at {binary}; install nginx, or set nginx.binary"
    )]
    Absent {
        /// The pid file of the settings.
        pid_file: PathBuf,
        /// The binary of the settings.
        binary: PathBuf,
    },
    /// A file that should be readable isn't.
    #[error("{path} can't be read: {source}; run the agent as root, and check nginx.pid-file")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl Nginx {
    /// Finds the nginx that the settings are about; `now` dates the processes.
    ///
    /// # Errors
    /// When neither a master nor the binary exists, or the pid file can't be read.
    pub fn find(settings: &Settings, now: Timestamp) -> Result<Self, MasterError> {
        if let Some((invocation, master)) = running(&settings.pid_file, &settings.binary, now)? {
            return Ok(Self {
                invocation,
                master: Some(master),
            });
        }
        if !settings.binary.exists() {
            return Err(MasterError::Absent {
                pid_file: settings.pid_file.clone(),
                binary: settings.binary.clone(),
            });
        }
        let invocation = Invocation {
            prefix: settings.prefix.clone(),
            config: Some(settings.config.clone()),
            side: nginx_side(None),
            ..Invocation::plain(&settings.binary)
        };
        Ok(Self {
            invocation,
            master: None,
        })
    }
}

// Dates are worked out anew at each look and differ by milliseconds; ticks are what the kernel keeps.
impl PartialEq for Worker {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.ticks, self.draining) == (other.pid, other.ticks, other.draining)
    }
}

impl Eq for Worker {}

impl PartialEq for Master {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) && self.replaced == other.replaced && self.workers == other.workers
    }
}

impl Eq for Master {}

impl Worker {
    /// Whether both are one process, draining or not.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.ticks) == (other.pid, other.ticks)
    }
}

impl Master {
    /// Whether both are one process; a process id is given again to another.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.pid, self.ticks) == (other.pid, other.ticks)
    }

    /// Workers that take new connections.
    pub fn active(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| !worker.draining)
    }

    /// Whether `other` has a worker that takes connections and wasn't there before.
    pub fn has_new_workers(&self, before: &Self) -> bool {
        self.active()
            .any(|worker| !before.workers.iter().any(|old| old.is_same(worker)))
    }

    /// Whether what was on disk at `before` has been read since: by new workers of that master, or by another one that
    /// came in its place, after a restart or an upgrade.
    pub fn has_loaded_since(&self, before: &Self) -> bool {
        if self.is_same(before) {
            self.has_new_workers(before)
        } else {
            self.ticks >= before.ticks && self.active().next().is_some()
        }
    }

    /// When the oldest worker that takes connections started: what is configured since isn't served yet.
    pub fn serving_since(&self) -> Option<Timestamp> {
        self.active().map(|worker| worker.started).min()
    }
}

/// Every nginx master on this machine, as far as `/proc` shows: its process id, and how it was called.
pub fn masters() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<(i32, String)> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| {
            let title = title(pid)?;
            let called = title.strip_prefix(MASTER_TITLE)?.trim().to_owned();
            Some((pid, called))
        })
        .collect();
    found.sort_unstable();
    found
}

fn running(
    pid_file: &Path,
    fallback: &Path,
    now: Timestamp,
) -> Result<Option<(Invocation, Master)>, MasterError> {
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(MasterError::Read {
                path: pid_file.to_owned(),
                source,
            });
        }
    };
    // A stale file names no process, or one that isn't an nginx master.
    let Some(pid) = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1) else {
        return Ok(None);
    };
    let Some(title) = title(pid).filter(|title| title.starts_with(MASTER_TITLE)) else {
        return Ok(None);
    };
    let Some(stat) = Stat::of(pid) else {
        return Ok(None);
    };
    let boot = boot(now)?;

    let (named, mut invocation) = title::read(title[MASTER_TITLE.len()..].trim());
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut replaced = false;
    invocation.binary = match fs::read_link(proc.join("exe")) {
        Ok(path) if !path.to_string_lossy().ends_with(" (deleted)") => path,
        Ok(_) => {
            replaced = true;
            proc.join("exe")
        }
        // Not to be seen from inside a sandbox: what the master calls itself, else the setting.
        Err(_) => Some(named)
            .filter(|path| path.is_absolute() && path.exists())
            .unwrap_or_else(|| fallback.to_owned()),
    };
    invocation.directory = fs::read_link(proc.join("cwd"))
        .ok()
        .filter(|path| path.is_dir());
    invocation.side = nginx_side(Some(pid));
    let master = Master {
        pid,
        ticks: stat.ticks,
        started: date(boot, stat.ticks),
        replaced,
        workers: workers(pid, boot),
    };
    Ok(Some((invocation, master)))
}

fn workers(master: i32, boot: Timestamp) -> Vec<Worker> {
    let mut found: Vec<Worker> = children(master)
        .into_iter()
        .filter_map(|pid| {
            let stat = Stat::of(pid).filter(|stat| stat.parent == master)?;
            let title = title(pid).filter(|title| title.starts_with(WORKER_TITLE))?;
            let draining = title.starts_with(DRAINING_TITLE);
            Some(Worker {
                pid,
                ticks: stat.ticks,
                started: date(boot, stat.ticks),
                draining,
            })
        })
        .collect();
    found.sort_unstable_by_key(|worker| (worker.ticks, worker.pid));
    found
}

/// Child processes; the kernel's own list where it keeps one, else a look at every process.
fn children(master: i32) -> Vec<i32> {
    if let Ok(list) = fs::read_to_string(format!("/proc/{master}/task/{master}/children")) {
        return list
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.parent == master))
        .collect()
}

fn title(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

struct Stat {
    parent: i32,
    ticks: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields are counted after the last `)`: a process name may hold blanks and parentheses.
    fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // A zombie is no process that serves.
        if matches!(fields.first(), None | Some(&("Z" | "X"))) {
            return None;
        }
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The instant from which `/proc` counts. Not `btime`, which is whole seconds only.
fn boot(now: Timestamp) -> Result<Timestamp, MasterError> {
    let path = PathBuf::from("/proc/uptime");
    let read = |source| MasterError::Read {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(&path).map_err(read)?;
    let seconds = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    let uptime = seconds.map(|seconds| SignedDuration::from_millis((seconds * 1000.0) as i64));
    uptime
        .and_then(|uptime| now.checked_sub(uptime).ok())
        .ok_or_else(|| {
            read(io::Error::new(
                io::ErrorKind::InvalidData,
                "no number of seconds",
            ))
        })
}

fn date(boot: Timestamp, ticks: u64) -> Timestamp {
    let ticks = i64::try_from(ticks).unwrap_or(i64::MAX / 1000);
    boot.checked_add(SignedDuration::from_millis(
        ticks.saturating_mul(1000 / TICKS_PER_SECOND),
    ))
    .unwrap_or(boot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_blanks_does_not_shift_the_fields() {
        let text = "7 (ng) inx (x) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::read(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 4711));
        assert!(Stat::read(&text.replace(" S ", " Z ")).is_none());
        assert!(Stat::read("").is_none());
    }

    #[test]
    fn our_own_start_is_dated_close_to_now() {
        let now = crate::clock::now();
        let stat = Stat::of(std::process::id() as i32).unwrap();
        let age = now.duration_since(date(boot(now).unwrap(), stat.ticks));
        assert!(
            age >= SignedDuration::from_millis(-50) && age < SignedDuration::from_mins(10),
            "{age}"
        );
    }
}
