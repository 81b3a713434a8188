//! Pure: the call of `systemd-run`, and its own words among those of the command.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        process::ExitStatusExt as _,
    },
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// After this much longer than its limit systemd ends the unit, should the agent no longer be there to do so.
const SPARE: Duration = Duration::from_secs(5);
/// By which the agent alone tells the service manager how it is.
const NOTIFY: &str = "NOTIFY_SOCKET";
/// Before the name of the unit, when it was started.
const STARTED: &str = "Running as unit: ";
/// The first line of systemd-run's account of the end.
const FINISHED: &str = "Finished with result: ";
/// The line of that account that says how the command itself ended.
const ENDED: &str = "Main processes terminated with: code=";

/// A command of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// What is executed.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its working directory.
    pub(crate) directory: Option<PathBuf>,
    /// Variables besides those that it has anyway.
    pub(crate) environment: Vec<(String, OsString)>,
    /// What it leaves running when it ends by itself stays: a reload may start a server anew.
    pub(crate) leaves: bool,
}

/// A transient unit that is yet to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transient {
    /// Ends in `.service`.
    pub(crate) name: String,
    /// Of the sandbox, each as `NAME=VALUE`.
    pub(crate) properties: Vec<String>,
    /// The time that the command is given.
    pub(crate) limit: Duration,
}

/// What became of the command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// It ran.
    Ran {
        /// How the command itself ended.
        status: ExitStatus,
        /// Standard error without systemd-run's own words.
        stderr: Vec<u8>,
    },
    /// systemd didn't start it, and why.
    NotStarted(String),
    /// systemd started it and didn't tell its end: it may have done its work, and isn't to be run again.
    Lost(String),
}

impl Job {
    /// As a child of ours.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .env_remove(NOTIFY);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

impl Transient {
    /// `systemd-run`, which waits for the command's end and hands its input and outputs through.
    pub(crate) fn command(&self, job: &Job) -> Command {
        let mut command = Command::new("systemd-run");
        command
            .args(self.arguments(job))
            .env_remove(NOTIFY)
            // Its own words are read by `account`.
            .env("SYSTEMD_LOG_TARGET", "console")
            .env("SYSTEMD_LOG_LEVEL", "info")
            .env("SYSTEMD_LOG_TIME", "0")
            .env("SYSTEMD_LOG_LOCATION", "0")
            .env("SYSTEMD_COLORS", "0");
        command
    }

    fn arguments(&self, job: &Job) -> Vec<OsString> {
        let mut list: Vec<OsString> = [
            "--pipe",
            "--wait",
            "--collect",
            "--no-ask-password",
            "--service-type=exec",
        ]
        .map(Into::into)
        .into();
        let limit = (self.limit + SPARE).as_secs();
        let kill = if job.leaves {
            "process"
        } else {
            "control-group"
        };
        list.push(format!("--unit={}", self.name).into());
        list.push("--description=A command of this host, run by certwell-agent".into());
        for property in [
            format!("RuntimeMaxSec={limit}s"),
            format!("KillMode={kill}"),
            "KillSignal=SIGKILL".to_owned(),
            // The journal needn't tell of each start and end.
            "LogLevelMax=notice".to_owned(),
        ]
        .iter()
        .chain(&self.properties)
        {
            list.push(format!("--property={property}").into());
        }
        if let Some(directory) = &job.directory {
            let mut argument = OsString::from("--working-directory=");
            argument.push(directory);
            list.push(argument);
        }
        for (key, value) in &job.environment {
            let mut argument = OsString::from(format!("--setenv={key}="));
            argument.push(value);
            list.push(argument);
        }
        list.push("--".into());
        list.push(job.program.clone().into());
        list.extend(job.arguments.iter().map(|argument| literal(argument)));
        list
    }

    /// What became of the command, by how systemd-run ended and what is kept of the end of standard error.
    pub(crate) fn account(&self, status: ExitStatus, stderr: &[u8]) -> Account {
        let text = String::from_utf8_lossy(stderr);
        let own_line = format!("{STARTED}{}", self.name);
        let started = text.lines().any(|line| line.starts_with(&own_line));
        let without = |said: &str| -> String {
            said.split_inclusive('\n')
                .filter(|line| !line.starts_with(&own_line))
                .collect()
        };
        // Not at the beginning of a line where the command's last line had no end.
        let Some(finished) = text.rfind(FINISHED) else {
            let said = without(&text);
            let last = said.lines().rfind(|line| !line.trim().is_empty());
            let why = last.map_or_else(
                || format!("it ended with {status}"),
                |line| line.trim().to_owned(),
            );
            return if started {
                Account::Lost(why)
            } else {
                Account::NotStarted(why)
            };
        };
        let (said, account) = text.split_at(finished);
        let ended = account.lines().find_map(|line| line.strip_prefix(ENDED));
        Account::Ran {
            status: ended.and_then(end_of).unwrap_or(status),
            stderr: without(said).into_bytes(),
        }
    }
}

/// Exit codes from 200 on are systemd's own, for a unit whose surroundings it couldn't make; nginx has none of them.
pub(crate) fn is_not_set_up(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| code >= 200)
}

/// systemd puts variables in the place of `$NAME` and a dollar in the place of two.
fn literal(argument: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(argument.len());
    for byte in argument.as_bytes() {
        bytes.push(*byte);
        if *byte == b'$' {
            bytes.push(b'$');
        }
    }
    OsString::from_vec(bytes)
}

/// Out of `exited/status=1`, `killed/status=KILL` (before systemd 254), `exited, status=1/FAILURE`, `killed, status=9/KILL`.
fn end_of(text: &str) -> Option<ExitStatus> {
    let exited = text.starts_with("exited");
    let (_, status) = text.split_once("status=")?;
    let first = status.split('/').next()?.trim();
    let number = first.parse::<i32>().ok();
    if exited {
        return number.map(|code| ExitStatus::from_raw(code << 8));
    }
    let signal = number.or_else(|| {
        let named: nix::sys::signal::Signal = format!("SIG{first}").parse().ok()?;
        Some(named as i32)
    })?;
    Some(ExitStatus::from_raw(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Transient {
        Transient {
            name: "certwell-agent-nginx-7-1.service".into(),
            properties: vec!["ProtectSystem=strict".into()],
            limit: Duration::from_secs(120),
        }
    }

    #[test]
    fn the_call_names_the_unit_its_sandbox_and_its_end() {
        let job = Job {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "echo $HOME $$".into()],
            directory: Some("/srv/a b".into()),
            environment: vec![("CERTWELL_GENERATION".into(), "7".into())],
            leaves: false,
        };
        assert_eq!(
            transient().arguments(&job),
            [
                "--pipe",
                "--wait",
                "--collect",
                "--no-ask-password",
                "--service-type=exec",
                "--unit=certwell-agent-nginx-7-1.service",
                "--description=A command of this host, run by certwell-agent",
                "--property=RuntimeMaxSec=125s",
                "--property=KillMode=control-group",
                "--property=KillSignal=SIGKILL",
                "--property=LogLevelMax=notice",
                "--property=ProtectSystem=strict",
                "--working-directory=/srv/a b",
                "--setenv=CERTWELL_GENERATION=7",
                "--",
                "/bin/sh",
                "-c",
                "echo $$HOME $$$$",
            ]
        );
        let leaves = Job {
            leaves: true,
            ..job
        };
        let list = transient().arguments(&leaves);
        assert!(list.contains(&"--property=KillMode=process".into()));
    }

    fn ran(code: i32, said: &str) -> (Option<i32>, Option<i32>, String) {
        match transient().account(ExitStatus::from_raw(code << 8), said.as_bytes()) {
            Account::Ran { status, stderr } => (
                status.code(),
                status.signal(),
                String::from_utf8(stderr).unwrap(),
            ),
            Account::NotStarted(why) | Account::Lost(why) => panic!("{why}"),
        }
    }

    #[test]
    fn words_without_an_end_of_line_are_the_commands_too() {
        let said = "Running as unit: certwell-agent-nginx-7-1.service\ndoneFinished with result: success\n\
                    Main processes terminated with: code=exited/status=0\n";
        assert_eq!(ran(0, said), (Some(0), None, "done".into()));
    }

    #[test]
    fn a_command_that_speaks_as_systemd_does_is_not_taken_for_it() {
        let own =
            "Finished with result: success\nMain processes terminated with: code=exited/status=0\n";
        let said = format!(
            "Running as unit: certwell-agent-nginx-7-1.service\n{own}Finished with result: exit-code\n\
             Main processes terminated with: code=exited/status=3\n"
        );
        assert_eq!(ran(3, &said), (Some(3), None, own.into()));
    }

    #[test]
    fn what_was_started_and_has_no_end_is_lost_and_not_to_be_run_again() {
        let said =
            "Running as unit: certwell-agent-nginx-7-1.service\nwords\nConnection reset by peer\n";
        let account = transient().account(ExitStatus::from_raw(1 << 8), said.as_bytes());
        assert_eq!(account, Account::Lost("Connection reset by peer".into()));
    }

    #[test]
    fn the_commands_own_end_and_words_come_through() {
        let old = "Running as unit: certwell-agent-nginx-7-1.service\nnginx: [emerg] no\n\
                   Finished with result: exit-code\nMain processes terminated with: code=exited/status=1\n\
                   Service runtime: 4ms\n";
        assert_eq!(ran(1, old), (Some(1), None, "nginx: [emerg] no\n".into()));
        let new = "Running as unit: certwell-agent-nginx-7-1.service; invocation ID: dd91\nwords\n\
                   Finished with result: success\nMain processes terminated with: code=exited, status=0/SUCCESS\n";
        assert_eq!(ran(0, new), (Some(0), None, "words\n".into()));
        for end in ["code=killed/status=KILL", "code=killed, status=9/KILL"] {
            let said =
                format!("Finished with result: signal\nMain processes terminated with: {end}\n");
            assert_eq!(ran(255, &said), (None, Some(9), String::new()), "{end}");
        }
    }

    #[test]
    fn what_systemd_did_not_start_is_told_in_its_words() {
        for (said, why) in [
            (
                "Failed to connect to bus: No such file or directory\n",
                "Failed to connect to bus: No such file or directory",
            ),
            ("", "it ended with exit status: 1"),
        ] {
            let account = transient().account(ExitStatus::from_raw(1 << 8), said.as_bytes());
            assert_eq!(account, Account::NotStarted(why.into()));
        }
    }
}
