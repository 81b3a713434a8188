//! Asking the master for a reload, and waiting until it has new workers.
//!
//! A reload's exit code proves nothing, and a signal even less: new workers do, and then handshakes.

use std::time::Duration;

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::time::Instant;

use super::{
    master::{Master, MasterError, Nginx},
    settings::{Reload, Settings},
};
use crate::exec::{CommandError, command};

/// Between two looks at the workers.
const POLL: Duration = Duration::from_millis(10);

/// A reload that couldn't be asked for.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The master can't be signalled.
    #[error(
        "nginx master {pid} can't be sent SIGHUP: {source}; run the agent as root, or set nginx.reload to a command that may"
    )]
    Signal {
        /// The master.
        pid: i32,
        /// The system's answer.
        source: nix::Error,
    },
    /// The operator's command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What came of waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The master has workers that it hadn't before.
    New(Master),
    /// Only the old ones, until the deadline.
    Old,
    /// The master is gone, or another one took over.
    Gone,
}

/// Asks the running master to reload, in the way that the settings say.
///
/// # Errors
/// When the signal can't be sent, or the command fails.
pub async fn reload(
    settings: &Settings,
    master: &Master,
    limit: Duration,
) -> Result<(), ReloadError> {
    match &settings.reload {
        Reload::Signal => {
            signal::kill(Pid::from_raw(master.pid), Signal::SIGHUP).map_err(|source| {
                ReloadError::Signal {
                    pid: master.pid,
                    source,
                }
            })
        }
        Reload::Command(text) => {
            command::run("nginx.reload", text, &[], limit).await?;
            Ok(())
        }
    }
}

/// Waits until the master has workers that weren't there before.
///
/// # Errors
/// When the pid file can't be read any more.
pub async fn wait_for_new_workers(
    settings: &Settings,
    before: &Master,
    deadline: Instant,
) -> Result<Waited, MasterError> {
    loop {
        let found = Nginx::find(settings, crate::clock::now())?.master;
        let Some(master) = found.filter(|master| master.is_same(before)) else {
            return Ok(Waited::Gone);
        };
        if master.has_new_workers(before) {
            return Ok(Waited::New(master));
        }
        if Instant::now() >= deadline {
            return Ok(Waited::Old);
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + POLL)).await;
    }
}
