//! `certwell-agent.service`, as systemd has it: what `enroll` starts and `leave` stops.
//!
//! systemd is asked by `systemctl`, as a person would: what is said of a failure can be seen again by hand.

use std::{path::Path, time::Duration};

use tokio::process::Command;

use crate::{config::DEFAULT_PATH, nginx::child};

/// The unit that the package installs.
pub const NAME: &str = "certwell-agent.service";
/// It is there where systemd is the init of the machine (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// For a question.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// For a start or a stop: longer than the unit's own limits (`TimeoutStopSec`), which end it before.
const JOB_LIMIT: Duration = Duration::from_secs(660);
/// So much of what is said is kept …
const KEPT: usize = 16 * 1024;
/// … and so many of the unit's last lines are shown.
const LINES: usize = 5;

/// What there is of the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// systemd doesn't run here, has no such unit, or the agent that is meant is another.
    None,
    /// An operator forbade it.
    Masked,
    /// It can be started.
    There {
        /// It runs, or is about to.
        active: bool,
        /// It starts with the machine.
        enabled: bool,
    },
}

/// systemd wouldn't, or the unit didn't start.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// `systemctl` can't be run, or doesn't answer.
    #[error(
        "systemctl {verb} can't be run: {problem}; see whether systemd is well: systemctl is-system-running"
    )]
    Run {
        /// What was asked.
        verb: &'static str,
        /// What came of it.
        problem: String,
    },
    /// It answers with a refusal.
    #[error("systemctl {verb} {NAME} failed: {words}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// Its words.
        words: String,
    },
    /// It was started, and isn't active.
    #[error(
        "{NAME} doesn't run: {words}; mend that, then systemctl restart {NAME} (systemctl status {NAME} tells more)"
    )]
    Down {
        /// Its own last words, or systemd's.
        words: String,
    },
}

impl Unit {
    /// Looks. The unit runs by the default configuration file: with another one at `path` it is not what is meant.
    ///
    /// # Errors
    /// When systemd doesn't answer.
    pub async fn look(path: &Path) -> Result<Self, UnitError> {
        if !is_meant(path, Path::new(BOOTED)) {
            return Ok(Self::None);
        }
        let shown = systemctl(
            "show",
            &["--property=LoadState,ActiveState,UnitFileState"],
            ASK_LIMIT,
        )
        .await?;
        Ok(read(&shown))
    }

    /// Whether it runs, or is about to.
    pub fn is_active(&self) -> bool {
        matches!(self, Self::There { active: true, .. })
    }

    /// Whether it can be started and stopped.
    pub fn is_there(&self) -> bool {
        matches!(self, Self::There { .. })
    }
}

/// Has it start now and with the machine; returns when it is ready.
///
/// # Errors
/// When it doesn't come up, with its own last words.
pub async fn start() -> Result<(), UnitError> {
    systemctl("enable", &[], ASK_LIMIT).await?;
    // Where it failed too often before, it would not be tried again; that there is nothing to reset is no failure.
    let _ = systemctl("reset-failed", &[], ASK_LIMIT).await;
    let started = systemctl("start", &[], JOB_LIMIT).await;
    let words = match started {
        Ok(_) => {
            let shown = systemctl("show", &["--property=ActiveState,SubState"], ASK_LIMIT).await?;
            if value(&shown, "ActiveState") == "active" {
                return Ok(());
            }
            // A condition of the unit that doesn't hold is no failure to systemd.
            format!(
                "systemd left it {} ({})",
                value(&shown, "ActiveState"),
                value(&shown, "SubState")
            )
        }
        Err(UnitError::Refused { words, .. }) => words,
        Err(error) => return Err(error),
    };
    let said = last_words().await;
    Err(UnitError::Down {
        words: if said.is_empty() { words } else { said },
    })
}

/// Ends it, and has it not start with the machine; returns when it has ended.
///
/// # Errors
/// When systemd refuses.
pub async fn disable() -> Result<(), UnitError> {
    stop().await?;
    systemctl("disable", &[], ASK_LIMIT).await.map(drop)
}

/// Ends it; returns when it has ended.
///
/// # Errors
/// When systemd refuses.
pub async fn stop() -> Result<(), UnitError> {
    systemctl("stop", &[], JOB_LIMIT).await.map(drop)
}

async fn systemctl(
    verb: &'static str,
    options: &[&str],
    limit: Duration,
) -> Result<String, UnitError> {
    let mut command = Command::new("systemctl");
    command
        .args(["--no-pager", "--no-ask-password", verb])
        .args(options)
        .arg(NAME)
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C");
    let run = |problem: String| UnitError::Run { verb, problem };
    let output = child::last_output(command, KEPT, limit)
        .await
        .map_err(|error| run(error.to_string()))?
        .ok_or_else(|| run(format!("no answer within {} s", limit.as_secs())))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = one_line(&output.stderr, LINES);
    Err(UnitError::Refused {
        verb,
        words: if words.is_empty() {
            output.status.to_string()
        } else {
            words
        },
    })
}

/// What it said when it was last started, from where it gave up; empty where the journal has nothing.
async fn last_words() -> String {
    let shown = systemctl("show", &["--property=InvocationID"], ASK_LIMIT).await;
    let invocation = shown.map(|shown| value(&shown, "InvocationID").to_owned());
    let Some(invocation) = invocation.ok().filter(|id| !id.is_empty()) else {
        return String::new();
    };
    let mut sync = Command::new("journalctl");
    sync.arg("--sync");
    let _ = child::last_output(sync, KEPT, ASK_LIMIT).await;
    let mut command = Command::new("journalctl");
    command
        .args(["--no-pager", "--quiet", "--output=cat", "--lines=20"])
        .arg(format!("_SYSTEMD_INVOCATION_ID={invocation}"));
    match child::last_output(command, KEPT, ASK_LIMIT).await {
        Ok(Some(output)) => one_line(from_the_end(&output.stdout), LINES),
        _ => String::new(),
    }
}

/// From the last line by which the agent says why it ends, as on a terminal; else all of it.
fn from_the_end(said: &[u8]) -> &[u8] {
    let begin = b"certwell-agent: ";
    let found = said.windows(begin.len()).rposition(|at| at == begin);
    &said[found.unwrap_or(0)..]
}

fn one_line(bytes: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    // A unit that is started again and again says the same each time.
    said.dedup();
    said[said.len().saturating_sub(lines)..].join("; ")
}

fn value<'a>(shown: &'a str, key: &str) -> &'a str {
    shown
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_default()
}

/// Whether the agent of this configuration file is one that systemd may have a unit of.
fn is_meant(path: &Path, booted: &Path) -> bool {
    path == Path::new(DEFAULT_PATH) && booted.is_dir()
}

fn read(shown: &str) -> Unit {
    match value(shown, "LoadState") {
        "masked" => Unit::Masked,
        "not-found" | "" => Unit::None,
        _ => Unit::There {
            active: !matches!(value(shown, "ActiveState"), "inactive" | "failed"),
            enabled: value(shown, "UnitFileState").starts_with("enabled"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_understood() {
        let unit = |load: &str, active: &str, file: &str| {
            read(&format!(
                "LoadState={load}\nActiveState={active}\nUnitFileState={file}\n"
            ))
        };
        let there = |active, enabled| Unit::There { active, enabled };
        assert_eq!(unit("not-found", "inactive", ""), Unit::None);
        assert_eq!(unit("masked", "inactive", "masked"), Unit::Masked);
        assert_eq!(unit("loaded", "inactive", "disabled"), there(false, false));
        assert_eq!(unit("loaded", "failed", "enabled"), there(false, true));
        assert_eq!(
            unit("loaded", "active", "enabled-runtime"),
            there(true, true)
        );
        // On its way down it still holds the state directory.
        assert_eq!(
            unit("loaded", "deactivating", "disabled"),
            there(true, false)
        );
        assert_eq!(
            unit("bad-setting", "inactive", "enabled"),
            there(false, true)
        );
    }

    #[test]
    fn words_that_are_said_again_and_again_are_told_once() {
        assert_eq!(one_line(b"a\n\na\n b\n", 5), "a; b");
        assert_eq!(one_line(b"1\n2\n3\n", 2), "2; 3");
        let said = b"INFO begun\ncertwell-agent: 1 mistake\nline\n";
        assert_eq!(
            one_line(from_the_end(said), 5),
            "certwell-agent: 1 mistake; line"
        );
        assert_eq!(one_line(from_the_end(b"INFO begun\n"), 5), "INFO begun");
        let twice = b"certwell-agent: no link\nINFO begun\ncertwell-agent: 1 mistake\n";
        assert_eq!(
            one_line(from_the_end(twice), 5),
            "certwell-agent: 1 mistake"
        );
    }

    #[test]
    fn another_configuration_file_means_another_agent_than_the_units() {
        let booted = tempfile::tempdir().unwrap();
        let usual = Path::new(DEFAULT_PATH);
        assert!(is_meant(usual, booted.path()));
        assert!(!is_meant(
            Path::new("/tmp/elsewhere/agent.toml"),
            booted.path()
        ));
        assert!(!is_meant(usual, &booted.path().join("another-init")));
    }
}
