//! `STATE/adopted.json`: which lineages certwell took over, and whether nginx is known to serve them since.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::disk::durable::{DiskError, replace};

const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    version: u32,
    /// By the lineage's name.
    pub lineages: BTreeMap<String, Adoption>,
}

/// One lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The certificate of certwell's that takes its place.
    pub certificate: String,
    /// Whether it was tested and nginx reloaded; otherwise a run was cut off, and the next one goes on.
    pub settled: bool,
}

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} can't be read: {problem}; move it aside: what lies in certbot's directory tells the same",
    path = .path.display()
)]
pub struct NoteError {
    path: PathBuf,
    problem: String,
}

impl Default for Adopted {
    fn default() -> Self {
        Self {
            version: VERSION,
            lineages: BTreeMap::new(),
        }
    }
}

impl Adopted {
    /// Reads it; empty when there is none.
    ///
    /// # Errors
    /// When it can't be read, or a newer agent wrote it.
    pub fn load(path: &Path) -> Result<Self, NoteError> {
        let wrong = |problem: String| NoteError {
            path: path.to_owned(),
            problem,
        };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let read: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if read.version > VERSION {
            return Err(wrong("a newer certwell-agent wrote it".into()));
        }
        Ok(read)
    }

    /// Replaces the file and forces it to disk.
    ///
    /// # Errors
    /// When it can't be written; it is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), DiskError> {
        let text = serde_json::to_vec(self)
            .map_err(|error| DiskError::about("writing", path)(io::Error::other(error)))?;
        replace(path, &text, 0o600)
    }
}
