//! An operator's command: run by a shell to its end, or ended with all that it started when its time is over.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use crate::outside::{self, Job, OutputError};

/// So much of its output is kept, from the end: a command may talk without end.
const KEPT: usize = 16 * 1024;
/// What these leave running stays: they may start a server anew.
const LEAVE: [&str; 2] = ["exec.reload", "nginx.reload"];
/// So many of its last lines are quoted …
const LINES: usize = 5;
/// … and so many bytes of them.
const QUOTED: usize = 1000;

/// A command that didn't end well. Each names the key that it was configured by.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no shell, or no process to be had.
    #[error("{key} = {command:?} can't be run: {source}; see what this host lacks")]
    Start {
        /// In `agent.toml`, such as `exec.test`.
        key: &'static str,
        /// As configured.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// It was begun outside the sandbox, and how it ended isn't known.
    #[error(
        "{key} = {command:?} was begun, and nobody knows how it ended ({problem}); see whether it did its work"
    )]
    Lost {
        /// In `agent.toml`.
        key: &'static str,
        /// As configured.
        command: String,
        /// Who doesn't tell.
        problem: String,
    },
    /// It ended with another exit code than 0.
    #[error(
        "{key} = {command:?} ended with exit code {code}: {words}; run it by hand to see why, or correct it"
    )]
    Failed {
        /// In `agent.toml`.
        key: &'static str,
        /// As configured.
        command: String,
        /// Its exit code.
        code: i32,
        /// The last it said.
        words: String,
    },
    /// A signal ended it, so that it told nothing.
    #[error("{key} = {command:?} was killed by signal {signal} before it answered")]
    Killed {
        /// In `agent.toml`.
        key: &'static str,
        /// As configured.
        command: String,
        /// By number.
        signal: i32,
    },
    /// It didn't end.
    #[error(
        "{key} = {command:?} was stopped after {limit:?} without an answer; run it by hand to see why, or correct it"
    )]
    TimedOut {
        /// In `agent.toml`.
        key: &'static str,
        /// As configured.
        command: String,
        /// The time it was given.
        limit: Duration,
    },
}

/// Runs what `key` says, outside the agent's sandbox, with these variables besides those of every unit or, where the
/// agent is no service, besides the agent's own; how long it took, when it ended with 0.
///
/// # Errors
/// When it didn't.
pub async fn run(
    key: &'static str,
    command: &str,
    environment: &[(&str, &OsStr)],
    limit: Duration,
) -> Result<Duration, CommandError> {
    let arguments = vec!["-c".into(), command.into()];
    let job = job(key, "/bin/sh".into(), arguments, environment);
    run_job(key, command, &job, limit).await
}

/// The same for a file that is executed itself.
///
/// # Errors
/// As for [`run`].
pub async fn run_file(
    key: &'static str,
    path: &Path,
    environment: &[(&str, &OsStr)],
    limit: Duration,
) -> Result<Duration, CommandError> {
    let job = job(key, path.to_owned(), Vec::new(), environment);
    run_job(key, &path.to_string_lossy(), &job, limit).await
}

fn job(
    key: &str,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: &[(&str, &OsStr)],
) -> Job {
    Job {
        program,
        arguments,
        directory: None,
        environment: environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        leaves: LEAVE.contains(&key),
    }
}

async fn run_job(
    key: &'static str,
    command: &str,
    job: &Job,
    limit: Duration,
) -> Result<Duration, CommandError> {
    let owned = || command.to_owned();
    let began = Instant::now();
    let ran = outside::output(job, &outside::side(), KEPT, limit)
        .await
        .map_err(|error| match error {
            OutputError::Start(source) => CommandError::Start {
                key,
                command: owned(),
                source,
            },
            OutputError::Lost(_) => CommandError::Lost {
                key,
                command: owned(),
                problem: error.to_string(),
            },
        })?
        .ok_or_else(|| CommandError::TimedOut {
            key,
            command: owned(),
            limit,
        })?;
    let output = ran.output;
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Ok(began.elapsed()),
        (Some(code), _) => Err(CommandError::Failed {
            key,
            command: owned(),
            code,
            words: last_words(&output.stderr, &output.stdout) + &kept_inside(ran.kept_inside),
        }),
        (None, signal) => Err(CommandError::Killed {
            key,
            command: owned(),
            signal: signal.unwrap_or_default(),
        }),
    }
}

fn kept_inside(why: Option<String>) -> String {
    why.map_or_else(String::new, |why| {
        format!(" (it ran in the agent's own sandbox: {why})")
    })
}

/// The last lines of standard error, of standard output where it is empty; one line, bounded.
fn last_words(stderr: &[u8], stdout: &[u8]) -> String {
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes)
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect()
    };
    let mut said = lines(stderr);
    if said.is_empty() {
        said = lines(stdout);
    }
    let words = said[said.len().saturating_sub(LINES)..].join("; ");
    if words.is_empty() {
        return "it gave no reason".to_owned();
    }
    let start = words.ceil_char_boundary(words.len().saturating_sub(QUOTED));
    words[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_command_has_its_environment_and_its_last_words_are_quoted() {
        let environment: [(&str, &OsStr); 1] = [("CERTWELL_CERTIFICATE", "a.org".as_ref())];
        let good = run(
            "exec.test",
            "test $CERTWELL_CERTIFICATE = a.org",
            &environment,
            LONG,
        );
        good.await.unwrap();
        let text = "for n in 1 2 3 4 5 6; do echo line $n >&2; done; echo out; exit 7";
        let failed = run("exec.test", text, &[], LONG).await.unwrap_err();
        assert_eq!(
            failed.to_string(),
            format!(
                "exec.test = {text:?} ended with exit code 7: line 2; line 3; line 4; line 5; line 6; run it by hand \
                 to see why, or correct it"
            )
        );
        let out = run("exec.test", "echo out; exit 1", &[], LONG).await;
        assert!(out.unwrap_err().to_string().contains("code 1: out;"));
        let mute = run("exec.test", "exit 1", &[], LONG).await;
        assert!(mute.unwrap_err().to_string().contains("it gave no reason"));
        let killed = run("exec.test", "kill -KILL $$", &[], LONG).await;
        assert!(matches!(
            killed,
            Err(CommandError::Killed { signal: 9, .. })
        ));
    }

    #[tokio::test]
    async fn what_talks_without_end_is_ended_and_its_words_are_bounded() {
        let endless = run("exec.test", "yes", &[], Duration::from_millis(300)).await;
        assert!(matches!(endless, Err(CommandError::TimedOut { .. })));
        let much = "head -c 3000000 /dev/zero | tr '\\0' 'ä' >&2; exit 1";
        let Err(CommandError::Failed { words, .. }) = run("exec.test", much, &[], LONG).await
        else {
            panic!("it ended well");
        };
        assert!(words.len() <= 3 * QUOTED, "{}", words.len());
    }
}
