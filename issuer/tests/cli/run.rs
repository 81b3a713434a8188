//! The built `certwell`, run against a socket, with or without a terminal.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::server::Issuer;

impl Issuer {
    /// The command, about to be run against this service.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = certwell(&self.socket);
        command.args(arguments);
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.command(arguments))
    }

    /// Runs the command on a terminal of its own, typing `input`; everything it shows is in `out`.
    pub(crate) fn run_on_terminal(
        &self,
        arguments: &[&str],
        input: &str,
        set: &[(&str, &str)],
    ) -> Ran {
        let line = format!(
            "{} --socket {} {}",
            env!("CARGO_BIN_EXE_certwell"),
            self.socket.display(),
            arguments.join(" ")
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        command
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(set.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("`script` of util-linux is needed");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap().into()
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The standard output with its line breaks undone.
    pub(crate) fn shown(&self) -> String {
        self.out.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The standard error with its line breaks undone.
    pub(crate) fn said(&self) -> String {
        self.err.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The built command.
pub(crate) fn certwell(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certwell"));
    command
        .env_remove("NO_COLOR")
        .env("CERTWELL_SOCKET", socket)
        .env("TERM", "xterm");
    command.stdin(Stdio::null());
    command
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    command.output().unwrap().into()
}
