//! Asking the master for a reload, and waiting until it has new workers.
//!
//! A reload's exit code proves nothing, and a signal even less: new workers do, and then handshakes.

use std::{io, time::Duration};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{process::Command, time::Instant};

use super::{
    child,
    master::{Master, MasterError, Nginx},
    run::refusal,
    settings::{Reload, Settings},
};

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
    /// The operator's command can't be run.
    #[error("the reload command {command:?} can't be run: {source}; correct nginx.reload")]
    Start {
        /// As configured.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The operator's command failed.
    #[error(
        "the reload command {command:?} failed with {status}: {words}; run it by hand to see why, or correct nginx.reload"
    )]
    Failed {
        /// As configured.
        command: String,
        /// Its exit status.
        status: String,
        /// What it said.
        words: String,
    },
    /// The operator's command didn't end.
    #[error(
        "the reload command {command:?} didn't end within {limit:?}; run it by hand to see why, or correct nginx.reload"
    )]
    TimedOut {
        /// As configured.
        command: String,
        /// The time it was given.
        limit: Duration,
    },
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
        Reload::Command(command) => by_command(command, limit).await,
    }
}

async fn by_command(command: &str, limit: Duration) -> Result<(), ReloadError> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    let output = child::output(shell, b"", limit)
        .await
        .map_err(|source| ReloadError::Start {
            command: command.to_owned(),
            source,
        })?
        .ok_or_else(|| ReloadError::TimedOut {
            command: command.to_owned(),
            limit,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    Err(ReloadError::Failed {
        command: command.to_owned(),
        status: output.status.to_string(),
        words: refusal(&String::from_utf8_lossy(&said)),
    })
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
