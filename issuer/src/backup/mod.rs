//! `certwell-issuer backup`: a directory with all that a new machine needs but the keys that open it, taken while the
//! issuer runs.
//!
//! ```text
//! BACKUP/certwell.db    the store, its secrets as they are sealed
//!        issuer.toml    the configuration, and conf.d/*.toml
//!        revoked.log    revocations until then
//! naming    how backups are called, and which of them go
//! ```

mod naming;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{Gid, Uid, setgid, setgroups, setuid},
};

use crate::{
    clock,
    config::{self, ConfigErrors, Issuer},
    fleet::revocations::{self, Revocations, RevocationsError},
    making::{MakeError, Undo, give, give_below},
    store::{
        StoreError,
        sqlite::{self, DATABASE},
    },
};

/// Name of the configuration in a backup.
pub(crate) const CONFIG: &str = "issuer.toml";
/// How far files lie below a backup: those of conf.d.
const DEPTH: u32 = 2;

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its directory.
    pub path: PathBuf,
    /// When it was begun: what was committed later isn't in it.
    pub at: Timestamp,
    /// Of all of its files.
    pub bytes: u64,
    /// Older ones that went.
    pub removed: Vec<PathBuf>,
    /// Others that are called by a time later than now.
    pub later: Vec<PathBuf>,
}

/// Why there is no new backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The configuration doesn't say what to back up.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The store can't be copied, or the copy isn't whole.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or directory can't be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The revocations can't be read, or not be written down beside the backups.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
    /// The directory asked for is there.
    #[error("{0} exists already, and nothing is overwritten; name another directory")]
    Exists(PathBuf),
    /// Two at once.
    #[error("another backup into {0} is under way; wait for its end")]
    UnderWay(PathBuf),
    /// The file system failed.
    #[error("the backup failed at {path}; check its rights, and that the disk isn't full")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is backed up, and where to.
#[derive(Debug)]
pub struct Prepared {
    config: PathBuf,
    issuer: Issuer,
    mistakes: Option<ConfigErrors>,
    /// The backup directory, or the backup itself where one is asked for.
    directory: PathBuf,
    is_output: bool,
    undo: Undo,
}

/// Reads the configuration and makes, where it is missing, the directory that the backup goes to: `output` itself, or
/// the backup directory. It belongs to whom the state directory belongs.
///
/// # Errors
/// When `[issuer]` has a mistake, or the directory can't be made.
pub fn prepare(config: &Path, output: Option<&Path>) -> Result<Prepared, BackupError> {
    let config = std::path::absolute(config).map_err(failed(config))?;
    let (issuer, mistakes) = Issuer::load(&config)?;
    let directory = match output {
        None => issuer.backup_directory.clone(),
        Some(output) => {
            let output = std::path::absolute(output).map_err(failed(output))?;
            if output.symlink_metadata().is_ok() {
                return Err(BackupError::Exists(output));
            }
            output
        }
    };
    let mut undo = Undo::default();
    if !directory.exists() {
        let state = &issuer.state_directory;
        let owner = fs::metadata(state).map_err(failed(state))?;
        undo.directory(&directory, 0o700)?;
        if nix::unistd::geteuid().is_root() {
            give(&directory, &owner).map_err(failed(&directory))?;
        }
        synced(directory.parent().unwrap_or(Path::new("/")))?;
    }
    Ok(Prepared {
        config,
        issuer,
        mistakes,
        directory,
        is_output: output.is_some(),
        undo,
    })
}

impl Prepared {
    /// Mistakes in the configuration, outside of `[issuer]`: it is backed up as it is.
    pub fn mistakes(&self) -> Option<&ConfigErrors> {
        self.mistakes.as_ref()
    }

    /// From here on this process is the service's user, where root began it: root would follow the links that this
    /// user lays in its own directories. There is no way back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn become_owner(&self) -> Result<(), BackupError> {
        let state = &self.issuer.state_directory;
        let owner = fs::metadata(state).map_err(failed(state))?;
        if !nix::unistd::geteuid().is_root() || owner.uid() == 0 {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        setgroups(&[group])
            .and_then(|()| setgid(group))
            .and_then(|()| setuid(user))
            .map_err(|e| failed(state)(e.into()))
    }

    /// Makes the backup; in the backup directory older ones of its own naming then go.
    ///
    /// It is there only when it is whole, on disk, and has been read back: a directory that was asked for is there
    /// before, and holds the database last.
    ///
    /// # Errors
    /// When something can't be read or written; what was made by then is removed.
    pub async fn take(mut self) -> Result<Taken, BackupError> {
        let now = clock::now();
        let _alone = alone(&self.directory)?;
        let directory = self.directory.clone();
        let entries = entries(&directory)?;
        let name = (0..)
            .map(|again| naming::name(now, again))
            .find(|name| !entries.contains(name))
            .unwrap_or_default();
        // A run that was cut off left these; nobody else is here now.
        for left in entries.iter().filter(|entry| naming::is_unfinished(entry)) {
            let left = directory.join(left);
            fs::remove_dir_all(&left).map_err(failed(&left))?;
        }

        let unfinished = directory.join(naming::unfinished(&name));
        let bytes = self.fill(&unfinished).await?;
        let path = match self.is_output {
            false => directory.join(&name),
            true => directory.clone(),
        };
        if self.is_output {
            // Whoever looks for a backup looks for the database.
            for part in [config::DIRECTORY, CONFIG, revocations::FILE, DATABASE] {
                let (from, to) = (unfinished.join(part), path.join(part));
                if from.exists() {
                    fs::rename(&from, &to).map_err(failed(&to))?;
                }
            }
            fs::remove_dir(&unfinished).map_err(failed(&unfinished))?;
        } else {
            fs::rename(&unfinished, &path).map_err(failed(&path))?;
        }
        self.undo.keep();
        synced(&directory)?;

        let mut taken = Taken {
            path,
            at: now,
            bytes,
            removed: Vec::new(),
            later: Vec::new(),
        };
        if self.is_output {
            return Ok(taken);
        }
        // What couldn't be written there when it happened, because a disk was full or away.
        let mirror = Revocations::in_directory(&self.issuer.state_directory);
        mirror.copy_missing(&directory)?;
        let entries = self::entries(&directory)?;
        for old in naming::surplus(&entries, self.issuer.backups_kept, &name) {
            let old = directory.join(old);
            fs::remove_dir_all(&old).map_err(failed(&old))?;
            taken.removed.push(old);
        }
        let later = naming::later(&entries, now).into_iter();
        let later = later.map(|name| directory.join(name));
        taken.later = later.filter(|path| !taken.removed.contains(path)).collect();
        Ok(taken)
    }

    /// Puts everything into a new directory; how many bytes.
    async fn fill(&mut self, unfinished: &Path) -> Result<u64, BackupError> {
        let (undo, state) = (&mut self.undo, &self.issuer.state_directory);
        undo.directory(unfinished, 0o700)?;
        let database = unfinished.join(DATABASE);
        undo.made(&database);
        sqlite::copy(state, &database).await?;
        sqlite::verify(&database).await?;
        synced(&database)?;
        let mut bytes = size(&database)?;
        for file in config::source_files(&self.config).map_err(failed(&self.config))? {
            let to = match file == self.config {
                true => unfinished.join(CONFIG),
                false => {
                    let more = unfinished.join(config::DIRECTORY);
                    if !more.exists() {
                        undo.directory(&more, 0o700)?;
                    }
                    more.join(file.file_name().unwrap_or_default())
                }
            };
            bytes += copied(undo, &file, &to)?;
        }
        let revoked = state.join(revocations::FILE);
        if revoked.exists() {
            bytes += copied(undo, &revoked, &unfinished.join(revocations::FILE))?;
        }
        for directory in [&unfinished.join(config::DIRECTORY), unfinished] {
            if directory.exists() {
                synced(directory)?;
            }
        }
        Ok(bytes)
    }
}

/// Those of a directory's backups that are called by a time after this one.
///
/// # Errors
/// When the directory can't be read.
pub fn later(directory: &Path, now: Timestamp) -> io::Result<Vec<PathBuf>> {
    let entries = names(directory)?;
    let later = naming::later(&entries, now).into_iter();
    Ok(later.map(|name| directory.join(name)).collect())
}

/// Gives the backups in a directory, and the directory itself where nothing else lies in it, to whom the state directory
/// belongs: what comes from another machine may belong to a user of another number, and the service goes on with it.
///
/// # Errors
/// When the system refuses.
pub fn take_over(directory: &Path, state_directory: &Path) -> Result<(), BackupError> {
    if !directory.exists() || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(state_directory).map_err(failed(state_directory))?;
    let entries = entries(directory)?;
    let is_ours = |name: &&String| {
        *name == revocations::FILE || naming::is_backup(name) || naming::is_unfinished(name)
    };
    for name in entries.iter().filter(is_ours) {
        let path = directory.join(name);
        give_below(&path, &owner, DEPTH).map_err(failed(&path))?;
    }
    if entries.iter().all(|name| is_ours(&name)) {
        give_below(directory, &owner, 0).map_err(failed(directory))?;
    }
    Ok(())
}

/// The newest backup in a directory, if there is any.
///
/// # Errors
/// When the directory can't be read.
pub fn newest(directory: &Path) -> io::Result<Option<PathBuf>> {
    let entries = names(directory)?;
    Ok(naming::newest(&entries).map(|name| directory.join(name)))
}

/// When the newest backup in a directory was made, by its name; `None`: there is none.
///
/// # Errors
/// When the directory can't be read.
pub fn newest_at(directory: &Path) -> io::Result<Option<Timestamp>> {
    let entries = names(directory)?;
    Ok(naming::newest(&entries).and_then(|name| naming::made_at(name)))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Io {
        path: path.clone(),
        source,
    }
}

/// One run at a time in a directory; until the lock is dropped.
fn alone(directory: &Path) -> Result<Flock<File>, BackupError> {
    let file = File::open(directory).map_err(failed(directory))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => BackupError::UnderWay(directory.to_owned()),
        other => failed(directory)(other.into()),
    })
}

fn entries(directory: &Path) -> Result<Vec<String>, BackupError> {
    names(directory).map_err(failed(directory))
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn copied(undo: &mut Undo, from: &Path, to: &Path) -> Result<u64, BackupError> {
    let content = fs::read(from).map_err(failed(from))?;
    undo.file(to, &content, 0o600)?;
    Ok(content.len() as u64)
}

fn size(path: &Path) -> Result<u64, BackupError> {
    Ok(path.metadata().map_err(failed(path))?.len())
}

fn synced(path: &Path) -> Result<(), BackupError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(failed(path))
}
