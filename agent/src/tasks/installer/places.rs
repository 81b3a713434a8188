//! Whether keys can be put where they belong: our directories are there, and nobody else can change what lies in them.

use crate::{
    config::Config,
    disk::{
        LiveDirectory,
        permissions::{PermissionError, check_way},
    },
};

/// Refuses to put keys where another user could read or exchange them.
///
/// # Errors
/// When a directory of ours, or one above it, belongs to another user, or others may write in it.
pub fn check(config: &Config) -> Result<(), PermissionError> {
    for directory in [
        &config.state_directory,
        &config.store_directory(),
        &config.live_directory,
    ] {
        check_way(directory)?;
    }
    Ok(())
}

/// The same before anything is put there; a live directory that somebody removed is made anew.
pub(super) fn make_ready(live: &LiveDirectory, config: &Config) -> Result<(), PermissionError> {
    live.make()?;
    check(config)
}
