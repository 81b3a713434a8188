//! The steps of `plan::adopt` on disk: what lies there, and one change at a time, forced to disk.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

use crate::{
    disk::durable::{DiskError, remove_if_there, sync_directory},
    plan::adopt::{Conf, Entry, Found, Step},
};

const ASIDE: &str = "before-certwell";

/// Where things of one lineage lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    live_directory: PathBuf,
    renewal_directory: PathBuf,
    lineage: String,
}

/// Why a step wasn't done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The file system can't exchange.
    #[error(
        "{path} can't be exchanged for a link in one step ({errno}): the file system can't do it, as on an overlay's lower layer; make it a directory of this layer with `mv {path} {path}.moved && mv {path}.moved {path}`, or move certbot's directory to another file system, and adopt again",
        path = .path.display()
    )]
    CannotExchange {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Anything else.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Places {
    /// Of this lineage in a certbot directory.
    pub fn new(directory: &Path, lineage: &str) -> Self {
        Self {
            live_directory: directory.join("live"),
            renewal_directory: directory.join("renewal"),
            lineage: lineage.to_owned(),
        }
    }

    /// `live/LINEAGE`.
    pub fn live(&self) -> PathBuf {
        self.live_directory.join(&self.lineage)
    }

    /// `live/.LINEAGE.before-certwell`, at the same depth: certbot's links in it are relative, and lead where they did.
    pub fn aside(&self) -> PathBuf {
        self.live_directory
            .join(format!(".{}.{ASIDE}", self.lineage))
    }

    /// `renewal/LINEAGE.conf`.
    pub fn conf(&self) -> PathBuf {
        self.renewal_directory
            .join(format!("{}.conf", self.lineage))
    }

    /// `renewal/LINEAGE.conf.before-certwell`: certbot reads what ends in `.conf`.
    pub fn conf_aside(&self) -> PathBuf {
        self.renewal_directory
            .join(format!("{}.conf.{ASIDE}", self.lineage))
    }

    /// Whether anything of this lineage is there.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn exists(&self) -> Result<bool, DiskError> {
        let found = self.look(false)?;
        Ok(found.live != Entry::Absent
            || found.aside != Entry::Absent
            || found.conf != Conf::Absent
            || found.conf_aside)
    }

    /// What lies there. `noted` is what the note says.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub fn look(&self, noted: bool) -> Result<Found, DiskError> {
        let conf = match metadata(&self.conf())? {
            None => Conf::Absent,
            Some(meta) if meta.is_file() && meta.len() == 0 => Conf::Empty,
            Some(_) => Conf::Present,
        };
        Ok(Found {
            live: entry(&self.live())?,
            aside: entry(&self.aside())?,
            conf,
            conf_aside: metadata(&self.conf_aside())?.is_some(),
            noted,
        })
    }

    /// Does one step; those about the note are the caller's.
    ///
    /// # Errors
    /// When it can't be done; what lay there is then as it was.
    pub fn perform(&self, step: Step, target: &Path) -> Result<(), StepError> {
        let (live, aside) = (self.live(), self.aside());
        let rename = |from: &Path, to: &Path| {
            std::fs::rename(from, to).map_err(DiskError::about("renaming", from))?;
            sync_directory(&self.renewal_directory)
        };
        match step {
            Step::Note | Step::Done => Ok(()),
            Step::SetConfAside => Ok(rename(&self.conf(), &self.conf_aside())?),
            Step::PutConfBack => Ok(rename(&self.conf_aside(), &self.conf())?),
            Step::RemoveLink => {
                remove_if_there(&aside)?;
                Ok(sync_directory(&self.live_directory)?)
            }
            Step::MakeLink => {
                std::os::unix::fs::symlink(target, &aside)
                    .map_err(DiskError::about("making", &aside))?;
                Ok(sync_directory(&self.live_directory)?)
            }
            Step::Exchange => {
                renameat2(
                    AT_FDCWD,
                    &aside,
                    AT_FDCWD,
                    &live,
                    RenameFlags::RENAME_EXCHANGE,
                )
                .map_err(|errno| cannot_exchange(live, errno))?;
                Ok(sync_directory(&self.live_directory)?)
            }
        }
    }
}

fn cannot_exchange(path: PathBuf, errno: Errno) -> StepError {
    match errno {
        Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP => {
            StepError::CannotExchange { path, errno }
        }
        errno => DiskError {
            what: "exchanging",
            path,
            source: errno.into(),
        }
        .into(),
    }
}

fn entry(path: &Path) -> Result<Entry, DiskError> {
    let Some(meta) = metadata(path)? else {
        return Ok(Entry::Absent);
    };
    if meta.is_symlink() {
        let target =
            std::fs::read_link(path).map_err(DiskError::about("reading the link", path))?;
        return Ok(Entry::Link(target));
    }
    Ok(if meta.is_dir() {
        Entry::Directory
    } else {
        Entry::Other
    })
}

fn metadata(path: &Path) -> Result<Option<std::fs::Metadata>, DiskError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::about("looking at", path)(error)),
    }
}
