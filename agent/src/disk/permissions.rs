//! Who may read keys, and whether the directories around them can be trusted.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use certwell_notice::trust::{self, Distrust};
use nix::unistd::{Gid, Group, Uid};

use super::durable::{DiskError, parent, sync_directory};

/// Owner and group of what is staged: ours, and readable by the group of the setting, if there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    group: Option<Gid>,
}

/// Directories or groups that keys can't be trusted to.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
    /// `file-group` is unknown.
    #[error(
        "file-group {0:?} is no group of this machine; make it (groupadd --system {0}) or leave the setting out"
    )]
    UnknownGroup(String),
    /// Somebody else could exchange what lies in it.
    #[error("{path} {problem}, so another user could read or exchange a key; {remedy}", path = .path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// Such as "can be written by everybody".
        problem: String,
        /// A command.
        remedy: String,
    },
    /// It can't be made or looked at.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The system's list of groups can't be read.
    #[error("the group {0:?} can't be looked up: {1}")]
    Lookup(String, nix::Error),
}

impl Permissions {
    /// By the setting `file-group`.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn new(file_group: Option<&str>) -> Result<Self, PermissionError> {
        let Some(name) = file_group else {
            return Ok(Self::default());
        };
        match Group::from_name(name) {
            Ok(Some(group)) => Ok(Self {
                group: Some(group.gid),
            }),
            Ok(None) => Err(PermissionError::UnknownGroup(name.to_owned())),
            Err(error) => Err(PermissionError::Lookup(name.to_owned(), error)),
        }
    }

    /// The group that may read, by number.
    pub fn group(self) -> Option<u32> {
        self.group.map(Gid::as_raw)
    }

    /// Of a directory that leads to keys.
    pub fn directory_mode(self) -> u32 {
        if self.group.is_some() { 0o750 } else { 0o700 }
    }

    /// Of a file that holds a key.
    pub fn file_mode(self) -> u32 {
        if self.group.is_some() { 0o640 } else { 0o600 }
    }

    /// What is wrong with the mode or group of a file that holds a key; `None` when they are as they were set.
    pub fn fault(self, meta: &std::fs::Metadata) -> Option<String> {
        let mode = meta.mode() & 0o7777;
        if mode != self.file_mode() {
            return Some(format!(
                "has mode {mode:04o} instead of {:04o}",
                self.file_mode()
            ));
        }
        let group = self.group.filter(|group| group.as_raw() != meta.gid())?;
        Some(format!(
            "belongs to group {} instead of {group}",
            meta.gid()
        ))
    }

    /// Makes a directory with this mode and group, and its parents; one that is there already gets them.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn make_directory(self, path: &Path) -> Result<(), DiskError> {
        DirBuilder::new()
            .recursive(true)
            .mode(self.directory_mode())
            .create(path)
            .map_err(DiskError::about("making", path))?;
        let wanted = std::fs::Permissions::from_mode(self.directory_mode());
        let meta = std::fs::metadata(path).map_err(DiskError::about("looking at", path))?;
        if meta.mode() & 0o7777 != self.directory_mode() {
            std::fs::set_permissions(path, wanted)
                .map_err(DiskError::about("setting the mode of", path))?;
        }
        self.own(path, meta.gid())
    }

    /// The same, and forces it to disk that the directory is there: what is put in it and forced to disk stays.
    ///
    /// # Errors
    /// When it can't be made or forced to disk.
    pub fn make_lasting_directory(self, path: &Path) -> Result<(), DiskError> {
        self.make_directory(path)?;
        force_entry(path)
    }

    /// Gives a file or directory to the group of the setting.
    ///
    /// # Errors
    /// When that isn't allowed.
    pub fn own(self, path: &Path, present: u32) -> Result<(), DiskError> {
        match self.group {
            Some(group) if group.as_raw() != present => {
                std::os::unix::fs::chown(path, None, Some(group.as_raw()))
                    .map_err(DiskError::about("giving to its group", path))
            }
            _ => Ok(()),
        }
    }
}

/// Forces the entry of `path` in the directory above to disk; also where it was there, since whoever made it may have
/// been cut off. A directory that we may not read isn't ours to force.
fn force_entry(path: &Path) -> Result<(), DiskError> {
    match sync_directory(parent(path)) {
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        forced => forced,
    }
}

/// Makes a directory that everybody may look into, as `/etc` directories are, and forces it to disk that it is there.
///
/// # Errors
/// When it can't be made or forced to disk.
pub fn make_public_directory(path: &Path) -> Result<(), DiskError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| DiskError::about("making", path)(what_is_in_the_way(path, error)))?;
    force_entry(path)
}

/// "File exists" is no help to somebody who sees a link there, or a file.
fn what_is_in_the_way(path: &Path, error: io::Error) -> io::Error {
    let kind = io::ErrorKind::NotADirectory;
    match (std::fs::read_link(path), std::fs::symlink_metadata(path)) {
        (Ok(target), _) => io::Error::new(
            kind,
            format!(
                "it is a link to {}, where there is no directory; make that, or remove the link",
                target.display()
            ),
        ),
        (_, Ok(meta)) if !meta.is_dir() => io::Error::new(kind, "a file lies there; move it away"),
        _ => error,
    }
}

/// Refuses a directory whose entries somebody other than root and ourselves could exchange.
///
/// # Errors
/// When it belongs to another user, or others may write in it.
pub fn check_directory(path: &Path) -> Result<(), PermissionError> {
    Ok(trust::check_directory(path)?)
}

/// Refuses a directory that somebody other than root and ourselves could change or exchange, on any way to it: the
/// directories above, the links among them, and where those lead.
///
/// # Errors
/// When one of them belongs to another user, or others may write in it.
pub fn check_way(path: &Path) -> Result<(), PermissionError> {
    Ok(trust::check_way(path)?)
}

impl From<Distrust> for PermissionError {
    fn from(error: Distrust) -> Self {
        match error {
            Distrust::Untrusted {
                path,
                problem,
                remedy,
            } => Self::Untrusted {
                path,
                problem,
                remedy,
            },
            Distrust::Unseen { path, source } => Self::Disk(DiskError {
                what: "looking at",
                path,
                source,
            }),
        }
    }
}

/// Refuses a file with a key that others than its owner can read or write.
///
/// # Errors
/// When its mode or its owner is wrong, or its directory can't be trusted.
pub fn check_key_file(path: &Path) -> Result<(), PermissionError> {
    let meta = std::fs::metadata(path).map_err(DiskError::about("looking at", path))?;
    let us = Uid::effective().as_raw();
    let shown = path.display();
    if meta.uid() != us && meta.uid() != 0 {
        return Err(PermissionError::Untrusted {
            path: path.to_owned(),
            problem: format!("belongs to user {}", meta.uid()),
            remedy: format!("chown root {shown}"),
        });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(PermissionError::Untrusted {
            path: path.to_owned(),
            problem: format!("has mode {:04o}", meta.mode() & 0o7777),
            remedy: format!("chmod 0600 {shown}"),
        });
    }
    check_directory(parent(path))
}
