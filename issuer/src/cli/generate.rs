//! `certwell completions` and `certwell man`, from the definitions in [`super::args`].

use std::{
    io::{self, Write as _},
    path::Path,
};

use certwell_proto::Exit;
use clap::CommandFactory as _;

use super::{args::Cli, client::CliError};

/// Completions for a shell, on standard output.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit, CliError> {
    // By way of a buffer: clap_complete panics when a pipe closes.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "certwell", &mut script);
    io::stdout().write_all(&script)?;
    Ok(Exit::Done)
}

/// The page of `certwell` on standard output, or every page into a directory.
pub(super) fn man(directory: Option<&Path>) -> Result<Exit, CliError> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        io::stdout().write_all(&page)?;
        return Ok(Exit::Done);
    };
    clap_mangen::generate_to(Cli::command(), directory).map_err(|e| {
        let exit = match e.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Internal,
        };
        CliError::new(
            exit,
            format!(
                "can't write man pages into {}: {e}; make the directory first",
                directory.display()
            ),
        )
    })?;
    Ok(Exit::Done)
}
