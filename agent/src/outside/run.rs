//! Runs a command on either side of the agent's sandbox, and ends it with all that it started.

use std::{
    io,
    process::{Output, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::process::Command;

use super::{
    sandbox::{PROPERTIES, passed_on},
    side::Side,
    transient::{Account, Job, Transient, is_not_set_up},
};
use crate::nginx::child;

/// For one question to the service manager.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Of the units of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A transient unit, ended with all that runs in it when this is dropped before [`Outside::ended`].
pub(crate) struct Outside {
    transient: Transient,
    running: bool,
}

/// A command's output.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it said, and how it ended.
    pub(crate) output: Output,
    /// It had to run inside, since systemd didn't start it outside, and why.
    pub(crate) kept_inside: Option<String>,
}

/// Why nothing is known of how a command ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// It wasn't started.
    #[error(transparent)]
    Start(#[from] io::Error),
    /// It was, and may have done its work.
    #[error("systemd-run didn't tell its end: {0}")]
    Lost(String),
}

impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Start(error) => error,
            OutputError::Lost(_) => Self::other(error.to_string()),
        }
    }
}

impl Outside {
    /// A unit of its own, in the sandbox of another where `like` names one.
    pub(crate) async fn new(like: Option<&str>, limit: Duration) -> Self {
        let properties = match like {
            Some(unit) => sandbox_of(unit).await,
            None => Vec::new(),
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("certwell-agent-run-{}-{number}.service", std::process::id());
        Self {
            transient: Transient {
                name,
                properties,
                limit,
            },
            running: true,
        }
    }

    /// What is to be started.
    pub(crate) fn transient(&self) -> &Transient {
        &self.transient
    }

    /// Nothing of it runs any more.
    pub(crate) fn ended(mut self) {
        self.running = false;
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if !self.running {
            return;
        }
        // Whoever waits for it is gone. Nothing can be done where this fails: systemd ends the unit by itself later.
        let killed = std::process::Command::new("systemctl")
            .args(["kill", "--signal=KILL", &self.transient.name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        tracing::debug!(unit = self.transient.name, ?killed, "ended");
    }
}

/// Runs `job` to its end; `None` when it took longer than `limit`. At most `kept` bytes of the end of each output are
/// kept.
///
/// # Errors
/// When it can't be started, or was and doesn't tell how it ended.
pub(crate) async fn output(
    job: &Job,
    side: &Side,
    kept: usize,
    limit: Duration,
) -> Result<Option<Ran>, OutputError> {
    let mut why = None;
    if let Side::Outside { like } = side {
        match outside(job, like.as_deref(), kept, limit).await {
            Ok(ran) => {
                return Ok(ran.map(|output| Ran {
                    output,
                    kept_inside: None,
                }));
            }
            Err(Problem::NotStarted(problem)) => {
                warn(&problem);
                why = Some(problem);
            }
            Err(Problem::Lost(problem)) => return Err(OutputError::Lost(problem)),
        }
    }
    let ran = child::last_output(job.command().into(), kept, limit).await?;
    Ok(ran.map(|output| Ran {
        output,
        kept_inside: why,
    }))
}

/// Said once for each start of the agent: it is the same at each command.
pub(crate) fn warn(problem: &str) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            problem,
            "the host's own commands can't be run outside the agent's sandbox; they run inside it, where some fail: see \
             whether systemd-run works here, which needs the packages systemd and dbus"
        );
    });
}

/// Why nothing is known of a command that was to run outside.
enum Problem {
    /// systemd didn't start it: it may be run inside.
    NotStarted(String),
    /// It was started.
    Lost(String),
}

async fn outside(
    job: &Job,
    like: Option<&str>,
    kept: usize,
    limit: Duration,
) -> Result<Option<Output>, Problem> {
    let outside = Outside::new(like, limit).await;
    let command = outside.transient().command(job);
    let ran = child::last_output(command.into(), kept, limit).await;
    let ran = match ran {
        Err(error) => {
            outside.ended();
            return Err(Problem::NotStarted(format!("systemd-run: {error}")));
        }
        Ok(None) => return Ok(None),
        Ok(Some(ran)) => ran,
    };
    let account = outside.transient().account(ran.status, &ran.stderr);
    if matches!(account, Account::Lost(_)) {
        // It may run still.
        drop(outside);
    } else {
        outside.ended();
    }
    match account {
        Account::NotStarted(why) => Err(Problem::NotStarted(format!("systemd-run: {why}"))),
        Account::Lost(why) => Err(Problem::Lost(why)),
        Account::Ran { status, .. } if like.is_some() && is_not_set_up(status) => {
            Err(Problem::NotStarted(format!(
                "systemd-run: the sandbox of {} can't be made again ({status})",
                like.unwrap_or_default()
            )))
        }
        Account::Ran { status, stderr } => Ok(Some(Output {
            status,
            stdout: ran.stdout,
            stderr,
        })),
    }
}

/// What a transient unit has to be told to have the sandbox of this one.
async fn sandbox_of(unit: &str) -> Vec<String> {
    let mut command = Command::new("systemctl");
    command.args([
        "show",
        unit,
        "--property=LoadState",
        &format!("--property={}", PROPERTIES.join(",")),
    ]);
    let shown = match child::output(command, b"", ASK_LIMIT).await {
        Ok(Some(shown)) if shown.status.success() => shown,
        answer => {
            tracing::debug!(unit, ?answer, "its sandbox isn't known");
            return Vec::new();
        }
    };
    let sandbox = passed_on(unit, &String::from_utf8_lossy(&shown.stdout));
    if !sandbox.left_out.is_empty() {
        tracing::debug!(
            unit,
            left_out = sandbox.left_out.join(", "),
            "a part of its sandbox isn't handed on"
        );
    }
    sandbox.properties
}
