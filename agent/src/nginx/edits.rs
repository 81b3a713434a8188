//! Configuration files that are newer than the workers: an operator's edit in progress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

/// Process starts are counted in hundredths of a second, and files are dated by the kernel's coarse clock; an edit
/// made within a second of a reload was most likely what the reload was for.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// A configuration file and when it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub file: PathBuf,
    /// Its modification time.
    pub at: Timestamp,
}

/// The newest of these files, those that can't be read left out; `ours` are files that the agent itself keeps.
pub fn newest_change(files: &[PathBuf], ours: &[&Path]) -> Option<Edit> {
    files
        .iter()
        .filter(|file| !ours.contains(&file.as_path()))
        .filter_map(|file| {
            let modified = fs::metadata(file)
                .and_then(|metadata| metadata.modified())
                .ok()?;
            Some(Edit {
                file: file.clone(),
                at: Timestamp::try_from(modified).ok()?,
            })
        })
        .max_by_key(|edit| edit.at)
}

/// The newest change that workers serving since `serving` can't have loaded.
pub fn since(serving: Timestamp, files: &[PathBuf], ours: &[&Path]) -> Option<Edit> {
    newest_change(files, ours).filter(|edit| edit.at.duration_since(serving) > TOLERANCE)
}
