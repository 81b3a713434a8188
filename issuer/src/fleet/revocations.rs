//! Revocations, in an append-only file outside the database: a restored backup can't forget them.
//!
//! One line each: the instant (milliseconds since the Unix epoch) and the host. Identities issued up to that
//! instant are refused.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::HostName;
use jiff::Timestamp;

/// Name of the file in the state directory.
pub const FILE: &str = "revoked.log";

/// The file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RevocationsError {
    /// A line that isn't one: somebody edited it.
    #[error(
        "{path}:{line}: not a revocation; it should read MILLISECONDS HOST, restore the line or remove it"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// The file system failed.
    #[error("{path} can't be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file of one state directory.
#[derive(Debug, Clone)]
pub struct Revocations(PathBuf);

impl Revocations {
    /// The file in this state directory; it need not exist.
    pub fn in_directory(state_directory: &Path) -> Self {
        Self(state_directory.join(FILE))
    }

    /// The latest revocation of each host.
    ///
    /// # Errors
    /// When the file can't be read, or a line isn't one.
    pub fn read(&self) -> Result<BTreeMap<HostName, Timestamp>, RevocationsError> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(self.io(source)),
        };
        let mut latest = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let (host, at) = parse(line).ok_or_else(|| RevocationsError::Line {
                path: self.0.clone(),
                line: index + 1,
            })?;
            let known = latest.entry(host).or_insert(at);
            *known = (*known).max(at);
        }
        Ok(latest)
    }

    /// Appends one, durable when it returns.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn append(&self, host: &HostName, at: Timestamp) -> Result<(), RevocationsError> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.0)?;
            file.write_all(format!("{} {host}\n", at.as_millisecond()).as_bytes())?;
            file.sync_all()?;
            self.0
                .parent()
                .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        write().map_err(|e| self.io(e))
    }

    fn io(&self, source: io::Error) -> RevocationsError {
        RevocationsError::Io {
            path: self.0.clone(),
            source,
        }
    }
}

fn parse(line: &str) -> Option<(HostName, Timestamp)> {
    let (at, host) = line.split_once(' ')?;
    Some((
        host.parse().ok()?,
        Timestamp::from_millisecond(at.parse().ok()?).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_back_and_the_latest_counts() {
        let directory = tempfile::tempdir().unwrap();
        let revocations = Revocations::in_directory(directory.path());
        assert!(revocations.read().unwrap().is_empty());
        let sally: HostName = "sally".parse().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        revocations.append(&sally, at(20)).unwrap();
        revocations.append(&sally, at(10)).unwrap();
        assert_eq!(revocations.read().unwrap(), [(sally, at(20))].into());
    }

    #[test]
    fn a_line_that_somebody_broke_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "10 sally\nrubbish\n").unwrap();
        let error = Revocations::in_directory(directory.path())
            .read()
            .unwrap_err();
        assert!(error.to_string().contains("revoked.log:2"), "{error}");
    }
}
