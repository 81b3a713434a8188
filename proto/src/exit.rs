//! The exit codes of every binary, stable for scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `status`, all converged.
    Done = 0,
    /// Something went wrong inside certwell.
    Internal = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Something isn't converged.
    NotConverged = 3,
    /// A configuration file is wrong.
    Configuration = 4,
    /// The other side can't be reached.
    Unreachable = 5,
    /// The other side, or the system, refuses.
    Denied = 6,
    /// No such certificate, host or file.
    NotFound = 7,
    /// It exists already, is in use, or somebody else holds it.
    Conflict = 8,
    /// nginx refused its configuration.
    NginxRefused = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A help text's list of them, 80 columns wide.
pub const HELP: &str = "\
Exit codes: 0 done / all converged, 1 internal, 2 usage, 3 not converged,
4 configuration, 5 unreachable, 6 denied, 7 not found, 8 conflict,
9 nginx refused.";
