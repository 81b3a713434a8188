//! Short-lived runs of the nginx binary, with what it said.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::servers::WorkerUser;
use crate::outside::{self, Job, Side};

/// How nginx is called so that it reads the configuration that its master reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// What is executed; `/proc/PID/exe` when the master's own file was replaced by an upgrade.
    pub binary: PathBuf,
    /// `-p`.
    pub prefix: Option<PathBuf>,
    /// `-c`.
    pub config: Option<PathBuf>,
    /// Each `-g`.
    pub globals: Vec<String>,
    /// `-e`, known since nginx 1.19.5.
    pub error_log: Option<String>,
    /// The master's working directory, to which its relative paths are relative.
    pub directory: Option<PathBuf>,
    /// Where `-t` and `-T` run: they bind, open and make what nginx does, so that the agent's sandbox is in their way.
    pub side: Side,
}

/// What `nginx -t` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    /// The configuration is taken.
    Passed {
        /// How long it took: a reload parses just as long.
        took: Duration,
    },
    /// The configuration is refused.
    Refused {
        /// nginx's `[emerg]` and `[alert]` lines with file and line, joined by `; `.
        words: String,
    },
}

/// A run that told nothing about the configuration.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such file.
    #[error("no nginx binary at {0}: install nginx, or set nginx.binary")]
    Absent(PathBuf),
    /// It can't be started.
    #[error("{binary} can't be run: {source}")]
    Start {
        /// What was to be executed.
        binary: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something else ended it: out of memory, an operator, a fault of its own.
    #[error("{binary} {what} was killed by signal {signal} before it answered")]
    Killed {
        /// What was executed.
        binary: PathBuf,
        /// The verb among its arguments.
        what: &'static str,
        /// By number.
        signal: i32,
    },
    /// It didn't end.
    #[error("{binary} {what} was stopped after {limit:?} without an answer")]
    TimedOut {
        /// What was executed.
        binary: PathBuf,
        /// The verb among its arguments.
        what: &'static str,
        /// The time it was given.
        limit: Duration,
    },
    /// It failed in the agent's sandbox, which may be the reason.
    #[error(
        "{binary} {what} can't be run outside the agent's own sandbox ({why}), and inside it says: {words}; see whether systemd-run works on this host"
    )]
    KeptInside {
        /// What was executed.
        binary: PathBuf,
        /// The verb among its arguments.
        what: &'static str,
        /// What kept it inside.
        why: String,
        /// nginx's own words.
        words: String,
    },
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Exit code 0.
    pub(crate) succeeded: bool,
    /// Standard error.
    pub(crate) stderr: String,
    /// From start to end.
    pub(crate) took: Duration,
}

impl Invocation {
    /// The binary with its default configuration.
    pub fn plain(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            prefix: None,
            config: None,
            globals: Vec::new(),
            error_log: None,
            directory: None,
            side: Side::Inside,
        }
    }

    /// `-p`, `-c`, `-g` and `-e` as arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut list: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: OsString| list.extend([flag.into(), value]);
        if let Some(prefix) = &self.prefix {
            add("-p", prefix.into());
        }
        if let Some(config) = &self.config {
            add("-c", config.into());
        }
        for globals in &self.globals {
            add("-g", globals.into());
        }
        if let Some(log) = &self.error_log {
            add("-e", log.into());
        }
        list
    }

    /// What is run for `verb` (`-t`, `-T`, `-v`), in the master's directory.
    pub(super) fn job(&self, verb: &str) -> Job {
        let mut arguments = vec![OsString::from(verb)];
        arguments.extend(self.arguments());
        Job {
            program: self.binary.clone(),
            arguments,
            directory: self.directory.clone(),
            environment: Vec::new(),
            leaves: false,
        }
    }

    async fn run(&self, verb: &'static str, side: &Side, limit: Duration) -> Result<Ran, RunError> {
        let begun = Instant::now();
        let ran = outside::output(&self.job(verb), side, usize::MAX, limit)
            .await
            .map_err(|error| start_error(&self.binary, error.into()))?
            .ok_or_else(|| RunError::TimedOut {
                binary: self.binary.clone(),
                what: verb,
                limit,
            })?;
        let status = ran.output.status;
        if let Some(signal) = status.signal() {
            return Err(RunError::Killed {
                binary: self.binary.clone(),
                what: verb,
                signal,
            });
        }
        let stderr = String::from_utf8_lossy(&ran.output.stderr).into_owned();
        match ran.kept_inside {
            Some(why) if !status.success() => Err(RunError::KeptInside {
                binary: self.binary.clone(),
                what: verb,
                why,
                words: refusal(&stderr),
            }),
            _ => Ok(Ran {
                succeeded: status.success(),
                stderr,
                took: begun.elapsed(),
            }),
        }
    }
}

/// Names what couldn't be executed.
pub(crate) fn start_error(binary: &Path, source: io::Error) -> RunError {
    if source.kind() == io::ErrorKind::NotFound && !binary.exists() {
        RunError::Absent(binary.to_owned())
    } else {
        RunError::Start {
            binary: binary.to_owned(),
            source,
        }
    }
}

/// `nginx -t` with the arguments of the running master.
///
/// # Errors
/// When nothing was learnt: no binary, not to be started, or no end within `limit`.
pub async fn test(invocation: &Invocation, limit: Duration) -> Result<Tested, RunError> {
    let ran = invocation.run("-t", &invocation.side, limit).await?;
    Ok(if ran.succeeded {
        Tested::Passed { took: ran.took }
    } else {
        Tested::Refused {
            words: refusal(&ran.stderr),
        }
    })
}

/// The version that the binary says it is, as `1.22.1`.
///
/// # Errors
/// As for [`test`].
pub async fn version(invocation: &Invocation, limit: Duration) -> Result<String, RunError> {
    let ran = invocation.run("-v", &Side::Inside, limit).await?;
    Ok(version_of(&ran.stderr))
}

/// Whom workers run as where the configuration doesn't say: as nginx was built.
///
/// # Errors
/// As for [`test`].
pub async fn built_for(invocation: &Invocation, limit: Duration) -> Result<WorkerUser, RunError> {
    let ran = invocation.run("-V", &Side::Inside, limit).await?;
    Ok(user_of(&ran.stderr))
}

/// From its `configure arguments: … --user=nginx --group=nginx`; `nobody` without.
fn user_of(said: &str) -> WorkerUser {
    let option = |key: &str| {
        let mut words = said.split_whitespace();
        words.find_map(|word| Some(word.strip_prefix(key)?.to_owned()))
    };
    WorkerUser {
        name: option("--user=").unwrap_or_else(|| "nobody".to_owned()),
        group: option("--group="),
    }
}

/// From `nginx version: nginx/1.22.1 (Debian)` to `1.22.1`; other builds keep their own name.
fn version_of(said: &str) -> String {
    let line = said
        .lines()
        .find_map(|line| line.split_once("version: "))
        .map_or(said, |(_, rest)| rest);
    let word = line.split_whitespace().next().unwrap_or_default();
    word.strip_prefix("nginx/").unwrap_or(word).to_owned()
}

/// Why nginx refused: its `[emerg]` lines, else its `[alert]`, `[crit]` and `[error]` lines, else its last words.
pub(crate) fn refusal(stderr: &str) -> String {
    let marked = |marks: &[&str]| -> Vec<String> {
        stderr
            .lines()
            .filter_map(|line| marks.iter().find_map(|mark| said(line, mark)))
            .collect()
    };
    let mut lines = marked(&["[emerg]", "[alert]"]);
    if !lines.iter().any(|line| line.starts_with("[emerg]")) {
        lines.extend(marked(&["[crit]", "[error]"]));
    }
    if lines.is_empty() {
        lines.extend(
            stderr
                .lines()
                .map(str::trim)
                .rfind(|line| !line.is_empty())
                .map(str::to_owned),
        );
    }
    lines.dedup();
    // One sentence of a report, not a log: the first lines say it.
    let mut words = lines
        .iter()
        .take(4)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if words.len() > 1000 {
        let end = words.floor_char_boundary(1000);
        words.truncate(end);
    }
    if words.is_empty() {
        "nginx gave no reason".to_owned()
    } else {
        words
    }
}

/// A line from its mark on, without the process and thread numbers that a log line has there.
fn said(line: &str, mark: &str) -> Option<String> {
    let rest = line[line.find(mark)? + mark.len()..].trim();
    let bare = rest.split_once(": ").filter(|(numbers, _)| {
        numbers.contains('#')
            && numbers
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"#*".contains(&byte))
    });
    Some(format!("{mark} {}", bare.map_or(rest, |(_, words)| words)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A program of these lines of shell. Another process writes the file: were it open for writing here while another
    /// test forks, running it would fail with "text file busy".
    pub(crate) fn program(directory: &Path, lines: &str) -> PathBuf {
        let text = directory.join("program.sh");
        let program = directory.join("program");
        std::fs::write(&text, format!("#!/bin/sh\n{lines}")).unwrap();
        let installed = std::process::Command::new("install")
            .args(["-m", "755"])
            .args([&text, &program])
            .status()
            .unwrap();
        assert!(installed.success());
        std::fs::remove_file(&text).unwrap();
        program
    }

    #[test]
    fn a_refusal_quotes_emerg_with_file_and_line() {
        let said = "nginx: [warn] conflicting server name \"a\" on 0.0.0.0:80, ignored\n\
            nginx: [emerg] unknown directive \"sssl\" in /etc/nginx/sites-enabled/media:12\n\
            nginx: configuration file /etc/nginx/nginx.conf test failed\n";
        assert_eq!(
            refusal(said),
            "[emerg] unknown directive \"sssl\" in /etc/nginx/sites-enabled/media:12"
        );
        let timed = "2026/01/01 00:00:00 [emerg] 12#12: bind() to 0.0.0.0:80 failed (13: Permission denied)\n";
        assert_eq!(
            refusal(timed),
            "[emerg] bind() to 0.0.0.0:80 failed (13: Permission denied)"
        );
        assert_eq!(
            refusal("nginx: invalid option: \"x\"\n"),
            "nginx: invalid option: \"x\""
        );
        assert_eq!(refusal(""), "nginx gave no reason");
    }

    #[test]
    fn whom_known_builds_run_workers_as() {
        let user = |arguments: &str| {
            let said = format!("nginx version: nginx/1.22.1\nconfigure arguments: {arguments}\n");
            let user = user_of(&said);
            (user.name, user.group)
        };
        assert_eq!(user("--with-debug"), ("nobody".into(), None));
        assert_eq!(
            user("--user=nginx --group=www --with-debug"),
            ("nginx".into(), Some("www".into()))
        );
    }

    #[test]
    fn versions_of_known_builds() {
        assert_eq!(version_of("nginx version: nginx/1.22.1\n"), "1.22.1");
        assert_eq!(
            version_of("nginx version: nginx/1.18.0 (Ubuntu)\n"),
            "1.18.0"
        );
        assert_eq!(
            version_of("nginx version: openresty/1.25.3.1\n"),
            "openresty/1.25.3.1"
        );
    }

    #[tokio::test]
    async fn a_run_that_a_signal_ended_told_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let script = program(directory.path(), "kill -KILL $$\n");
        let failed = test(&Invocation::plain(&script), Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(
            matches!(
                failed,
                RunError::Killed {
                    signal: 9,
                    what: "-t",
                    ..
                }
            ),
            "{failed}"
        );
    }
}
