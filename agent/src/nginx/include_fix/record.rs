//! `STATE/include-fix/N/`: what lay there before a fix, kept until it is taken back.
//!
//! The record and the copies are on disk before the first file is replaced: whatever cuts a fix off, taking it back
//! puts all where it was.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use certwell_proto::fingerprint::{hex, sha256};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Change, replace::write};
use crate::disk::{
    self,
    durable::{DiskError, parent, remove_directory_if_there, replace, sync_directory},
};

const VERSION: u32 = 1;

/// The directory of all fixes, held by one process at a time.
#[derive(Debug)]
pub struct Fixes {
    root: PathBuf,
    _lock: Flock<File>,
}

/// One fix.
#[derive(Debug)]
pub struct Fix {
    directory: PathBuf,
    files: Vec<Kept>,
}

/// `record.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    files: Vec<Kept>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The file, links followed.
    pub path: PathBuf,
    /// The name of its copy beside the record; `None` where there was no such file.
    copy: Option<String>,
    /// SHA-256 of what it held, where it was there.
    before: Option<String>,
    /// SHA-256 of what it was given.
    after: String,
}

/// Why a fix wasn't made, or not taken back.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Somebody edited it.
    #[error("{0} was changed meanwhile, so nothing was put in; look at it, and run this again")]
    Meanwhile(PathBuf),
    /// Somebody edited it since.
    #[error(
        "{path} isn't any more what was put there, so nothing was taken back; what it held before is {copy}; take the include \
         out by hand, then remove {fix}, and --undo goes on with what was put in before that",
        path = .path.display(),
        copy = .copy.display(),
        fix = parent(.copy).display()
    )]
    Since {
        /// The file.
        path: PathBuf,
        /// Its copy.
        copy: PathBuf,
    },
    /// A record that can't be used.
    #[error("{path} can't be used ({why}); put back by hand what lies beside it", path = .path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Another process works there.
    #[error("another certwell-agent puts includes in, or takes them out; wait until it has ended")]
    Locked,
    /// A step failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Fixes {
    /// Makes the directory if need be, and holds it.
    ///
    /// # Errors
    /// When it can't be made, or another process holds it.
    pub fn open(root: PathBuf) -> Result<Self, RecordError> {
        disk::Permissions::default().make_directory(&root)?;
        let opened = File::open(&root).map_err(DiskError::about("opening", &root))?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
            .map_err(|_| RecordError::Locked)?;
        Ok(Self { root, _lock: lock })
    }

    /// Keeps what these changes replace, on disk.
    ///
    /// # Errors
    /// When a file isn't what it was when the change was made up, or nothing can be kept.
    pub fn keep(&self, changes: &[Change]) -> Result<Fix, RecordError> {
        let number = self.numbers()?.last().map_or(1, |last| last + 1);
        let directory = self.root.join(number.to_string());
        disk::Permissions::default().make_directory(&directory)?;
        let fix = Self::fill(directory, changes);
        if fix.is_err() {
            // The first error is the one to tell; a directory without a record is nothing.
            let _ = remove_directory_if_there(&self.root.join(number.to_string()));
        }
        fix
    }

    fn fill(directory: PathBuf, changes: &[Change]) -> Result<Fix, RecordError> {
        let mut files = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            check(change)?;
            let copy = change.before.as_ref().map(|_| at.to_string());
            if let (Some(name), Some(before)) = (&copy, &change.before) {
                replace(&directory.join(name), before, 0o600)?;
            }
            files.push(Kept {
                path: change.path.clone(),
                copy,
                before: change.before.as_deref().map(digest),
                after: digest(&change.after),
            });
        }
        let record = Record {
            version: VERSION,
            files,
        };
        let path = directory.join("record.json");
        let text = serde_json::to_vec_pretty(&record).map_err(|error| RecordError::Damaged {
            path: path.clone(),
            why: error.to_string(),
        })?;
        replace(&path, &text, 0o600)?;
        sync_directory(parent(&directory))?;
        Ok(Fix {
            directory,
            files: record.files,
        })
    }

    /// The last fix that wasn't taken back.
    ///
    /// # Errors
    /// When its record can't be used.
    pub fn last(&self) -> Result<Option<Fix>, RecordError> {
        for number in self.numbers()?.into_iter().rev() {
            let directory = self.root.join(number.to_string());
            let path = directory.join("record.json");
            let damaged = |why: String| RecordError::Damaged {
                path: path.clone(),
                why,
            };
            let text = match fs::read(&path) {
                Ok(text) => text,
                // It was cut off before anything was replaced.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(damaged(error.to_string())),
            };
            let record: Record =
                serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
            if record.version != VERSION {
                return Err(damaged(format!("version {} is unknown", record.version)));
            }
            return Ok(Some(Fix {
                directory,
                files: record.files,
            }));
        }
        Ok(None)
    }

    fn numbers(&self) -> Result<Vec<u32>, DiskError> {
        let entries =
            fs::read_dir(&self.root).map_err(DiskError::about("looking into", &self.root))?;
        let mut found: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        found.sort_unstable();
        Ok(found)
    }
}

impl Fix {
    /// Replaces the files. When one can't be replaced, or isn't what was shown, those before it are put back.
    ///
    /// # Errors
    /// When nothing was put in.
    pub fn put_in(&self, changes: &[Change]) -> Result<Put, RecordError> {
        let mut put = Put { done: Vec::new() };
        for change in changes {
            let modified = fs::metadata(&change.path)
                .and_then(|meta| meta.modified())
                .ok();
            let written =
                check(change).and_then(|()| Ok(write(&change.path, &change.after, None)?));
            if let Err(error) = written {
                put.take_back()?;
                return Err(error);
            }
            put.done.push((change.clone(), modified));
        }
        Ok(put)
    }

    /// Puts back what lay there. What was made new is removed, unless another hand made something of it.
    ///
    /// # Errors
    /// When a file isn't what was put there: all are left then.
    pub fn take_back(&self) -> Result<Put, RecordError> {
        let mut back = Vec::new();
        for kept in &self.files {
            let present = present(&kept.path)?;
            let found = present.as_deref().map(digest);
            if found == kept.before {
                continue;
            }
            let is_ours = found.as_ref() == Some(&kept.after);
            match (&kept.copy, is_ours) {
                (Some(name), true) => {
                    let copy = self.directory.join(name);
                    let before = fs::read(&copy).map_err(DiskError::about("reading", &copy))?;
                    back.push((kept, present, Some(before)));
                }
                (None, true) => back.push((kept, present, None)),
                // The agent fills the map; it harms nobody.
                (None, false) => {}
                (Some(name), false) => {
                    return Err(RecordError::Since {
                        path: kept.path.clone(),
                        copy: self.directory.join(name),
                    });
                }
            }
        }
        let mut put = Put { done: Vec::new() };
        for (kept, present, before) in back {
            let modified = fs::metadata(&kept.path)
                .and_then(|meta| meta.modified())
                .ok();
            let written = match &before {
                Some(before) => write(&kept.path, before, None),
                None => remove(&kept.path),
            };
            if let Err(error) = written {
                put.take_back()?;
                return Err(error.into());
            }
            let change = Change {
                path: kept.path.clone(),
                before: present,
                after: before.unwrap_or_default(),
            };
            put.done.push((change, modified));
        }
        Ok(put)
    }

    /// Forgets it, after it was taken back.
    ///
    /// # Errors
    /// When its record stays.
    pub fn forget(self) -> Result<(), RecordError> {
        Ok(remove_directory_if_there(&self.directory)?)
    }

    /// Its files.
    pub fn files(&self) -> &[Kept] {
        &self.files
    }
}

/// Files that were replaced just now.
#[derive(Debug)]
pub struct Put {
    done: Vec<(Change, Option<SystemTime>)>,
}

impl Put {
    /// How many.
    pub fn count(&self) -> usize {
        self.done.len()
    }

    /// Which.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.done.iter().map(|(change, _)| change.path.as_path())
    }

    /// Puts them back as they were, their modification times included: nobody is to wait for an edit that there wasn't.
    ///
    /// # Errors
    /// When one can't be put back; the record still has it.
    pub fn take_back(self) -> Result<(), DiskError> {
        for (change, modified) in self.done.into_iter().rev() {
            match &change.before {
                Some(before) => write(&change.path, before, modified)?,
                None => remove(&change.path)?,
            }
        }
        Ok(())
    }
}

fn digest(bytes: &[u8]) -> String {
    hex(&sha256(bytes))
}

fn present(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::about("reading", path)(error)),
    }
}

fn check(change: &Change) -> Result<(), RecordError> {
    if present(&change.path)? == change.before {
        Ok(())
    } else {
        Err(RecordError::Meanwhile(change.path.clone()))
    }
}

fn remove(path: &Path) -> Result<(), DiskError> {
    disk::durable::remove_if_there(path)?;
    sync_directory(parent(path))
}
