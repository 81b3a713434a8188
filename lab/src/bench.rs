//! Figures of speed and size.

use std::process::ExitCode;

use anyhow::Result;

pub(crate) fn run() -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
