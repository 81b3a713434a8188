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
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use crate::{
    clock,
    config::{self, Config, ConfigErrors},
    fleet::revocations::{self, Revocations, RevocationsError},
    making::{MakeError, Undo, hand_over},
    store::{
        StoreError,
        sqlite::{self, DATABASE},
    },
};

/// Name of the configuration in a backup.
pub(crate) const CONFIG: &str = "issuer.toml";

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

/// Makes a backup: the directory `output`, or one in the backup directory, where older ones of its own naming then go.
///
/// It is there only when it is whole, on disk, and has been read back.
///
/// # Errors
/// When something can't be read or written; what was made by then is removed.
pub async fn take(config_path: &Path, output: Option<&Path>) -> Result<Taken, BackupError> {
    let config = Config::load(config_path)?;
    let issuer = &config.issuer;
    let now = clock::now();
    let (directory, own) = match output {
        None => (issuer.backup_directory.clone(), true),
        Some(output) => {
            let output = std::path::absolute(output).map_err(failed(output))?;
            if output.symlink_metadata().is_ok() {
                return Err(BackupError::Exists(output));
            }
            let parent = output.parent().unwrap_or(Path::new("/"));
            (parent.to_owned(), false)
        }
    };
    let mut undo = Undo::default();
    if own && !directory.exists() {
        undo.directory(&directory, 0o700)?;
        belongs_with(&issuer.state_directory, &directory)?;
    }
    let _alone = alone(&directory)?;
    let entries = entries(&directory)?;
    let name = match output.and_then(Path::file_name) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => (0..)
            .map(|again| naming::name(now, again))
            .find(|name| !entries.contains(name))
            .unwrap_or_default(),
    };
    // A run that was cut off left these; nobody else is here now.
    for left in entries.iter().filter(|entry| naming::is_unfinished(entry)) {
        let left = directory.join(left);
        fs::remove_dir_all(&left).map_err(failed(&left))?;
    }

    let unfinished = directory.join(naming::unfinished(&name));
    undo.directory(&unfinished, 0o700)?;
    let database = unfinished.join(DATABASE);
    undo.made(&database);
    sqlite::copy(&issuer.state_directory, &database).await?;
    sqlite::verify(&database).await?;
    synced(&database)?;
    let mut bytes = size(&database)?;
    for file in config::source_files(config_path).map_err(failed(config_path))? {
        let to = match file == config_path {
            true => unfinished.join(CONFIG),
            false => {
                let more = unfinished.join(config::DIRECTORY);
                if !more.exists() {
                    undo.directory(&more, 0o700)?;
                }
                more.join(file.file_name().unwrap_or_default())
            }
        };
        bytes += copied(&mut undo, &file, &to)?;
    }
    let revoked = issuer.state_directory.join(revocations::FILE);
    if revoked.exists() {
        bytes += copied(&mut undo, &revoked, &unfinished.join(revocations::FILE))?;
    }
    for directory in [&unfinished.join(config::DIRECTORY), &unfinished] {
        if directory.exists() {
            belongs_with(&issuer.state_directory, directory)?;
            hand_over(directory)?;
            synced(directory)?;
        }
    }
    let path = directory.join(&name);
    fs::rename(&unfinished, &path).map_err(failed(&path))?;
    undo.keep();
    synced(&directory)?;

    let mut removed = Vec::new();
    if own {
        // What couldn't be written there when it happened, because a disk was full or away.
        let mirror = Revocations::in_directory(&issuer.state_directory);
        mirror.copy_missing(&directory)?;
        hand_over_file(&issuer.state_directory, &directory.join(revocations::FILE))?;
        for old in naming::surplus(&self::entries(&directory)?, issuer.backups_kept) {
            let old = directory.join(old);
            fs::remove_dir_all(&old).map_err(failed(&old))?;
            removed.push(old);
        }
    }
    Ok(Taken {
        path,
        at: now,
        bytes,
        removed,
    })
}

/// Gives the backups in a directory, and the directory itself where nothing else lies in it, to whom the state directory
/// belongs: what comes from another machine may belong to a user of another number, and the service goes on with it.
///
/// # Errors
/// When the system refuses.
pub fn take_over(directory: &Path, state_directory: &Path) -> Result<(), BackupError> {
    if !directory.exists() {
        return Ok(());
    }
    let entries = entries(directory)?;
    let is_ours = |name: &&String| {
        *name == revocations::FILE || naming::is_backup(name) || naming::is_unfinished(name)
    };
    for name in entries.iter().filter(is_ours) {
        let path = directory.join(name);
        for directory in [path.clone(), path.join(config::DIRECTORY)] {
            if directory.is_dir() && !directory.is_symlink() {
                belongs_with(state_directory, &directory)?;
                hand_over(&directory)?;
            }
        }
        if path.is_file() && !path.is_symlink() {
            belongs_with(state_directory, &path)?;
        }
    }
    if entries.iter().all(|name| is_ours(&name)) {
        belongs_with(state_directory, directory)?;
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

/// What root makes is the service's, as its state directory is: the service writes revocations there.
fn belongs_with(state_directory: &Path, path: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(state_directory).map_err(failed(state_directory))?;
    let present = fs::metadata(path).map_err(failed(path))?;
    if (owner.uid(), owner.gid()) == (present.uid(), present.gid())
        || !nix::unistd::geteuid().is_root()
    {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed(path))
}

fn hand_over_file(state_directory: &Path, path: &Path) -> Result<(), BackupError> {
    if path.exists() {
        belongs_with(state_directory, path)?;
    }
    Ok(())
}
