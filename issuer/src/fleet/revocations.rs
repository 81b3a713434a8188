//! Revocations, in an append-only file outside the database: a restored backup can't forget them.
//!
//! One line each: the instant (milliseconds since the Unix epoch) and the host. Identities issued up to that
//! instant are refused.
//!
//! A line takes effect once it is durable, newline included: [`Revocations::append`] returns only then. What a power
//! cut left of a line is passed over when the file is read, and cut off before the next line is written.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
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
    #[error(
        "{path} can't be used; check that the issuer's user may read and write it, and that the disk isn't full"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file of one directory.
#[derive(Debug, Clone)]
pub struct Revocations(PathBuf);

impl Revocations {
    /// The file in this state directory; it need not exist.
    pub fn in_directory(state_directory: &Path) -> Self {
        Self(state_directory.join(FILE))
    }

    /// This file, of whatever name; it need not exist.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The latest revocation of each host.
    ///
    /// # Errors
    /// When the file can't be read, or a whole line isn't one.
    pub fn read(&self) -> Result<BTreeMap<HostName, Timestamp>, RevocationsError> {
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(self.io(source)),
        };
        let whole = &bytes[..bytes.len() - torn(&bytes)];
        let mut latest = BTreeMap::new();
        for (index, line) in String::from_utf8_lossy(whole).lines().enumerate() {
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
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                // Root may append where the service's user could lay a link.
                .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
                .open(&self.0)?;
            let mut before = Vec::new();
            file.read_to_end(&mut before)?;
            let torn = torn(&before);
            if torn > 0 {
                before.truncate(before.len() - torn);
                file.set_len(before.len() as u64)?;
            }
            // An editor may have left a revocation without its newline: it must not grow together with this one.
            let between = match before.last() {
                None | Some(b'\n') => "",
                Some(_) => "\n",
            };
            file.write_all(format!("{between}{} {host}\n", at.as_millisecond()).as_bytes())?;
            file.sync_all()?;
            self.0
                .parent()
                .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
        };
        write().map_err(|e| self.io(e))
    }

    /// Appends to the same file in another directory what that lacks; the file is made where it is missing, the
    /// directory isn't.
    ///
    /// # Errors
    /// When either file can't be used.
    pub fn copy_missing(&self, directory: &Path) -> Result<(), RevocationsError> {
        let other = Self::in_directory(directory);
        let known = other.read()?;
        for (host, at) in self.read()? {
            if known.get(&host).is_none_or(|known| *known < at) {
                other.append(&host, at)?;
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> RevocationsError {
        RevocationsError::Io {
            path: self.0.clone(),
            source,
        }
    }
}

/// How many bytes at the end are the beginning of a line that was never completed.
fn torn(bytes: &[u8]) -> usize {
    let tail = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(bytes, |newline| &bytes[newline + 1..]);
    let is_revocation = std::str::from_utf8(tail).ok().and_then(parse).is_some();
    if is_revocation { 0 } else { tail.len() }
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

    /// A file that reads `text`, and the revocations in it.
    fn holding(text: &[u8]) -> (tempfile::TempDir, Revocations) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), text).unwrap();
        let revocations = Revocations::in_directory(directory.path());
        (directory, revocations)
    }

    fn at_ms(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn what_a_power_cut_left_of_a_line_is_passed_over_and_never_joined_to_the_next() {
        let (sally, esme): (HostName, HostName) =
            ("sally".parse().unwrap(), "esme".parse().unwrap());
        for tail in [b"1".as_slice(), b"20 ", b"20", b"\0\0\0\0", b"\xff"] {
            let (_directory, revocations) = holding(&[b"10 sally\n".as_slice(), tail].concat());
            let before = [(sally.clone(), at_ms(10))].into();
            assert_eq!(revocations.read().unwrap(), before, "{tail:?}");
            revocations.append(&esme, at_ms(30)).unwrap();
            let after = [(sally.clone(), at_ms(10)), (esme.clone(), at_ms(30))].into();
            assert_eq!(revocations.read().unwrap(), after, "{tail:?}");
        }
    }

    #[test]
    fn a_revocation_that_lacks_only_its_newline_counts_and_the_next_has_a_line_of_its_own() {
        let (directory, revocations) = holding(b"10 sally");
        let sally: HostName = "sally".parse().unwrap();
        assert_eq!(
            revocations.read().unwrap(),
            [(sally.clone(), at_ms(10))].into()
        );
        revocations
            .append(&"esme".parse().unwrap(), at_ms(30))
            .unwrap();
        assert_eq!(
            fs::read_to_string(directory.path().join(FILE)).unwrap(),
            "10 sally\n30 esme\n"
        );
    }

    #[test]
    fn a_whole_line_that_is_no_revocation_is_refused_wherever_it_stands() {
        for text in ["rubbish\n10 sally\n", "10 sally\nrubbish\n", "\n10 sally\n"] {
            assert!(
                matches!(
                    holding(text.as_bytes()).1.read(),
                    Err(RevocationsError::Line { .. })
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn another_directory_is_told_what_it_lacks_and_nothing_twice() {
        let (_directory, revocations) = holding(b"10 sally\n20 esme\n30 sally\n");
        let (other, there) = holding(b"10 sally\n20 esme\n40 fritz\n");
        for _ in 0..2 {
            revocations.copy_missing(other.path()).unwrap();
            assert_eq!(
                fs::read_to_string(&there.0).unwrap(),
                "10 sally\n20 esme\n40 fritz\n30 sally\n"
            );
        }
        let nowhere = other.path().join("nowhere");
        assert!(revocations.copy_missing(&nowhere).is_err() && !nowhere.exists());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_what_to_check() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(FILE)).unwrap();
        let revocations = Revocations::in_directory(directory.path());
        for error in [
            revocations.read().unwrap_err(),
            revocations
                .append(&"sally".parse().unwrap(), at_ms(1))
                .unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("revoked.log") && text.contains("disk"),
                "{text}"
            );
        }
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
