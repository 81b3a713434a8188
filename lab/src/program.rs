//! Programs that the lab starts, and those that it runs to their end.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};

use crate::process::pid;

/// A program, its arguments and environment.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it is called in logs and errors.
    pub name: String,
    /// Its file, or a name to be found in `PATH`.
    pub file: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
}

impl Program {
    /// `file` with `args`.
    pub fn new<A: Into<String>>(
        name: &str,
        file: impl Into<PathBuf>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            file: file.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
        }
    }

    /// The same with one more environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }
}

/// Writes a program of these lines of shell, which anybody may run. Another process writes the file: were it open for
/// writing here while another test starts a process, running it would fail with "text file busy".
///
/// # Errors
/// When it can't be written.
pub fn write_program(path: &Path, lines: &str) -> Result<()> {
    let to = path.display().to_string();
    let install = Program::new("install", "install", ["-m", "755", "/dev/stdin", &to]);
    let text = format!("#!/bin/sh\n{lines}\n");
    let ran = install.run(Path::new("/"), &text, Duration::from_secs(20))?;
    ran.success(&format!("install {to}")).map(drop)
}

/// How a program that was run to its end ended, and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// The same output when it exited 0.
    ///
    /// # Errors
    /// When it exited with another code.
    pub fn success(self, what: &str) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        bail!(
            "{what} exited {}:\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        )
    }
}

impl Program {
    /// Runs it to its end with `input` on its standard input.
    ///
    /// # Errors
    /// When it can't be started, or doesn't end in time.
    pub fn run(&self, home: &Path, input: &str, within: Duration) -> Result<Output> {
        let mut child = Command::new(&self.file)
            .args(&self.args)
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(home)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: {} can't be started", self.name, self.file.display()))?;
        let group = pid(child.id());
        if let Some(mut stdin) = child.stdin.take() {
            // It may end without reading.
            let _ = stdin.write_all(input.as_bytes());
        }
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = ended.recv_timeout(within) else {
            let _ = killpg(group, Signal::SIGKILL);
            let said = ended
                .recv()
                .ok()
                .and_then(Result::ok)
                .map(|o| [o.stdout, o.stderr].concat());
            bail!(
                "{} {} didn't end within {} s; it said:\n{}",
                self.name,
                self.args.join(" "),
                within.as_secs(),
                String::from_utf8_lossy(&said.unwrap_or_default())
            );
        };
        let output = output?;
        Ok(Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
