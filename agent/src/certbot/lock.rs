//! The lock that certbot takes for as long as it runs: with it in our hands, no certbot is at work in the directory,
//! nor another one of us.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
};

use crate::disk::durable::DiskError;

const NAME: &str = ".certbot.lock";

/// Held until it is dropped, or the process ends.
#[derive(Debug)]
pub struct CertbotLock {
    path: PathBuf,
    _file: File,
}

/// Why it isn't ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody is at work.
    #[error(
        "certbot, or another `certwell-agent adopt`, is at work in {path}; run this again when it has ended",
        path = .0.display()
    )]
    Held(PathBuf),
    /// The system.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl CertbotLock {
    /// Takes the lock of this certbot directory.
    ///
    /// # Errors
    /// When somebody has it, or it can't be made.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(NAME);
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(DiskError::about("opening", &path))?;
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN | Errno::ACCESS) => {
                    return Err(LockError::Held(directory.to_owned()));
                }
                Err(errno) => {
                    return Err(DiskError::about("locking", &path)(errno.into()).into());
                }
            }
            // certbot removes the file when it lets go: the one that was locked may be gone by now.
            let locked = file
                .metadata()
                .map_err(DiskError::about("looking at", &path))?;
            match std::fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Self { path, _file: file });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(DiskError::about("looking at", &path)(error).into()),
            }
        }
    }
}

impl Drop for CertbotLock {
    fn drop(&mut self) {
        // First removed and then let go, as certbot does it. What stays is an empty file that hinders nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}
