//! Which nginx is ours and how it is asked to reload.

use std::path::PathBuf;

/// What the operator says of the nginx on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The master whose pid this file holds is ours.
    pub pid_file: PathBuf,
    /// The binary, used while no master runs.
    pub binary: PathBuf,
    /// `-c`, used while no master runs.
    pub config: PathBuf,
    /// `-p`, used while no master runs; absent: as nginx was built.
    pub prefix: Option<PathBuf>,
    /// The file that the agent keeps for HTTP-01, included by nginx at http level.
    pub challenge_map: PathBuf,
    /// How a tested configuration gets into the running nginx.
    pub reload: Reload,
}

/// How nginx is asked to reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// SIGHUP to the master: our own test came before, `nginx -s reload` would only parse everything again.
    Signal,
    /// A command of the operator's, run by `/bin/sh -c`.
    Command(String),
}
