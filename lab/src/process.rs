//! Child processes that don't outlive their world.
//!
//! Each is the leader of its own process group, gets SIGTERM when the thread that started it dies
//! (`setpriv --pdeathsig`, where there is one), and is written down in the world's `pids` file, so that the next
//! run ends what a killed run left behind. Its working directory is the world's: that is how a leftover is told
//! from a stranger that got the same number.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{program::Program, wait::wait_for};

const PATIENCE: Duration = Duration::from_secs(5);

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with both outputs appended to `log`, and writes it down in `home`'s `pids` file.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(program: &Program, home: &Path, log: &Path) -> Result<Self> {
        let output = append(log)?;
        Self::spawn(
            program,
            home,
            log,
            output.try_clone()?.into(),
            output.into(),
        )
    }

    /// The same, but for its standard error: that goes to the gate before its log.
    ///
    /// # Errors
    /// When it can't be started.
    pub(crate) fn start_gated(
        program: &Program,
        home: &Path,
        log: &Path,
        gate: OwnedFd,
    ) -> Result<Self> {
        Self::spawn(program, home, log, append(log)?.into(), gate.into())
    }

    fn spawn(
        program: &Program,
        home: &Path,
        log: &Path,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self> {
        let mut command = match setpriv() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM"]).arg(&program.file);
                command
            }
            None => Command::new(&program.file),
        };
        let child = command
            .args(&program.args)
            .envs(program.env.iter().map(|(k, v)| (k, v)))
            .current_dir(home)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| {
                format!(
                    "{}: {} can't be started",
                    program.name,
                    program.file.display()
                )
            })?;
        let mut pids = append(&home.join("pids"))?;
        writeln!(pids, "{} {}", child.id(), program.name)?;
        Ok(Self {
            name: program.name.clone(),
            child,
            log: log.to_owned(),
        })
    }

    /// What it is called in logs and errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, also that of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its outputs go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// # Errors
    /// When it has ended, with the end of its log.
    pub fn check_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log, 8)
            ),
        }
    }

    /// Waits until it does what it was started for, or ends.
    ///
    /// # Errors
    /// When it ends instead, or the time is over.
    pub fn ready<T>(&mut self, within: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        let what = format!("{} to come up", self.name);
        wait_for(&what, within, || match self.check_running() {
            // An answer all the same: it will never come up.
            Err(ended) => Ok(Err(ended)),
            Ok(()) => look().map(Ok),
        })?
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it doesn't end in time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        wait_for(&format!("the end of {name}"), within, || {
            match self.child.try_wait() {
                Ok(Some(status)) => Ok(status),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Sends a signal to the process alone.
    ///
    /// # Errors
    /// When it can't be sent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(pid(self.child.id()), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Sends a signal to the process and to all that it started, as long as that is of its group.
    ///
    /// # Errors
    /// When it can't be sent.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        killpg(pid(self.child.id()), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be sent.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end; whatever is left of its group after a while is killed.
    pub fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.begin_stop();
            let _ = self.wait(PATIENCE);
        }
        self.kill_group();
    }

    /// Asks it to end, without waiting.
    pub(crate) fn begin_stop(&self) {
        let _ = self.signal(Signal::SIGTERM);
        // A frozen process would not see it.
        let _ = self.signal(Signal::SIGCONT);
    }

    fn kill_group(&mut self) {
        let _ = killpg(pid(self.child.id()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last `lines` of a text file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} can't be opened", path.display()))
}

fn setpriv() -> Option<&'static Path> {
    ["/usr/bin/setpriv", "/bin/setpriv"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leftovers::{all_processes, group_of};

    fn sleeper(home: &Path) -> Process {
        let program = Program::new("sleeper", "sh", ["-c", "sleep 1000 & sleep 1000"]);
        Process::start(&program, home, &home.join("log")).unwrap()
    }

    #[test]
    fn a_dropped_process_takes_its_children_along() {
        let home = tempfile::tempdir().unwrap();
        let process = sleeper(home.path());
        let group = i32::try_from(process.id()).unwrap();
        let members = || {
            all_processes()
                .filter(|pid| group_of(*pid) == Some(group))
                .count()
        };
        wait_for("three processes", PATIENCE, || {
            if members() == 3 {
                Ok(())
            } else {
                Err(members())
            }
        })
        .unwrap();
        drop(process);
        wait_for("no process", PATIENCE, || {
            if members() == 0 {
                Ok(())
            } else {
                Err(members())
            }
        })
        .unwrap();
    }
}
