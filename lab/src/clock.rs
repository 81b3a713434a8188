//! The one place that reads the clock, and clocks that go wrong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};

use crate::program::Program;

/// The present instant.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    Timestamp::now()
}

/// `program` under another clock of the day, by Debian's libfaketime; how long things take it measures truly.
///
/// # Errors
/// When the library isn't there.
pub fn under(program: Program) -> Result<Program> {
    let directories = fs::read_dir("/usr/lib")?.flatten();
    let library = directories
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
        .context("libfaketime isn't there (apt install faketime)")?;
    Ok(program
        .env("LD_PRELOAD", library.display().to_string())
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1"))
}

/// The clock of one machine, which can be set while programs run by it.
#[derive(Debug, Clone)]
pub struct MachineClock(PathBuf);

impl MachineClock {
    /// One that is right, kept in a file of its own.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn new(directory: &Path) -> Result<Self> {
        let clock = Self(directory.join("clock"));
        clock.set_off(SignedDuration::ZERO)?;
        Ok(clock)
    }

    /// Sets it, so that it is ahead by so much.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_off(&self, ahead: SignedDuration) -> Result<()> {
        // It is read all the time: no reader sees half a file.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{:+}", ahead.as_secs()))?;
        Ok(fs::rename(&new, &self.0)?)
    }

    /// `program` on that machine.
    ///
    /// # Errors
    /// When libfaketime isn't there.
    pub fn under(&self, program: Program) -> Result<Program> {
        Ok(under(program)?
            .env("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string())
            .env("FAKETIME_NO_CACHE", "1"))
    }
}
