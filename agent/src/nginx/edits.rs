//! Configuration files that are newer than the workers: an operator's edit in progress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

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
