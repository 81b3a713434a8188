//! Why a lineage is neither taken over nor given back.

use std::path::{Path, PathBuf};

use super::{adoption::StepError, note::NoteError};
use crate::{
    disk::durable::DiskError,
    nginx::{dump::DumpError, master::MasterError, run::RunError},
    plan::adopt::{Conflict, Unfit},
};

/// Why it doesn't go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Something that somebody else put there.
    #[error("{lineage}: {path} {conflict}", path = .path.display())]
    Conflict {
        /// The lineage.
        lineage: String,
        /// What is in the way.
        conflict: Conflict,
        /// The path that is wrong.
        path: PathBuf,
    },
    /// The certificate can't take its place.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// A step on disk.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A look at the disk, or the note.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The note is damaged.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// There is no nginx.
    #[error(transparent)]
    Absent(#[from] MasterError),
    /// nginx's workers couldn't read it: why.
    #[error("{0}")]
    Closed(String),
    /// A reload would load an operator's edit with it.
    #[error("{lineage}: {}", not_loaded(.file))]
    Edited {
        /// The lineage.
        lineage: String,
        /// The configuration file that is newer than nginx's workers.
        file: PathBuf,
    },
    /// nginx couldn't be asked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What it is configured to serve couldn't be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

pub(super) fn not_loaded(file: &Path) -> String {
    format!(
        "{} was changed after nginx began to serve, so an edit seems to be in progress, which a reload would load half-done: finish it, test it and reload nginx (nginx -t && systemctl reload nginx), and run this again",
        file.display()
    )
}
