//! `holds.json`: what a person told the agent to keep its hands off, and until when. Written by `certwell-agent hold`,
//! read by the running agent.

use std::{collections::BTreeMap, io, path::Path};

use certwell_proto::CertificateName;
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::durable::{DiskError, parent, replace};

const VERSION: u32 = 1;

/// All holds, lapsed ones among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holds {
    version: u32,
    /// By name.
    pub certificates: BTreeMap<String, Hold>,
}

/// One certificate's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// When it was asked for.
    pub since: Timestamp,
    /// When it lapses by itself.
    pub until: Timestamp,
    /// Why, in a person's words.
    pub note: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// None where there is no file.
    Known(Holds),
    /// It is there and can't be used; the sentence says what to do.
    Unreadable(String),
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            version: VERSION,
            certificates: BTreeMap::new(),
        }
    }
}

impl Holds {
    /// Reads the file.
    pub fn read(path: &Path) -> Read {
        let unreadable = |why: String| {
            Read::Unreadable(format!(
                "{} can't be used ({why}); remove it, and hold again what is to be held",
                path.display()
            ))
        };
        match std::fs::read(path) {
            Ok(text) => match serde_json::from_slice::<Self>(&text) {
                Ok(holds) if holds.version == VERSION => Read::Known(holds),
                Ok(holds) => unreadable(format!("version {} is unknown", holds.version)),
                Err(error) => unreadable(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Read::Known(Self::default()),
            Err(error) => unreadable(error.to_string()),
        }
    }

    /// Reads, changes and replaces the file in one step, as others see it.
    ///
    /// # Errors
    /// When it can't be locked or written: it is then as it was. A file that can't be used is left as it is.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self)) -> Result<(), ChangeError> {
        let directory = parent(path);
        let opened =
            std::fs::File::open(directory).map_err(DiskError::about("opening", directory))?;
        // Of the directory, since the file is replaced. The agent doesn't take it: it reads what is whole.
        let _lock =
            Flock::lock(opened, FlockArg::LockExclusive).map_err(|(_, errno)| DiskError {
                what: "locking",
                path: directory.to_owned(),
                source: errno.into(),
            })?;
        let mut holds = match Self::read(path) {
            Read::Known(holds) => holds,
            Read::Unreadable(why) => return Err(ChangeError::Unreadable(why)),
        };
        change(&mut holds);
        let text = serde_json::to_vec_pretty(&holds).map_err(|error| DiskError {
            what: "writing",
            path: path.to_owned(),
            source: io::Error::other(error),
        })?;
        Ok(replace(path, &text, 0o600)?)
    }

    /// The hold of a certificate, lapsed or not.
    pub fn of(&self, name: &CertificateName) -> Option<&Hold> {
        self.certificates.get(name.as_str())
    }

    /// Begins a hold, in the place of an earlier one.
    pub fn set(&mut self, name: &CertificateName, hold: Hold) {
        self.certificates.insert(name.to_string(), hold);
    }

    /// Forgets those that have lapsed.
    pub fn forget_lapsed(&mut self, now: Timestamp) {
        self.certificates.retain(|_, hold| hold.until > now);
    }
}

/// Why a hold isn't begun or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// See [`Read::Unreadable`].
    #[error("{0}; until then the agent keeps its hands off every certificate of this host")]
    Unreadable(String),
    /// A step on disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}
