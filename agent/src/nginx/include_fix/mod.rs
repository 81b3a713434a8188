//! Puts the line that answers HTTP-01 into the server blocks that lack it, and takes it out again, byte for byte.
//!
//! ```text
//! layout   pure: where blocks and directives of one file begin and end, in bytes
//! edit     pure: one file's bytes with the includes where they belong
//! propose  which files are to be changed, and how
//! diff     that, as people read it
//! record   what lay there before, kept until it is taken back
//! replace  one file, whole
//! ```
//!
//! Every file is replaced whole, with the owner, mode and extended attributes that it had, and only where it still is
//! what was shown.

pub mod diff;
mod edit;
mod layout;
pub mod propose;
pub mod record;
mod replace;

use std::path::PathBuf;

pub use propose::{Proposal, propose};
pub use record::{Fix, Fixes};

/// A file as it is, and as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Links followed.
    pub path: PathBuf,
    /// `None` where there is no such file.
    pub before: Option<Vec<u8>>,
    /// What it is to hold.
    pub after: Vec<u8>,
}
