//! Child processes that don't outlive their world.
//!
//! Each is the leader of its own process group, gets SIGTERM when the thread that started it dies
//! (`setpriv --pdeathsig`, where there is one), and is written down in the world's `pids` file, so that the next
//! run ends what a killed run left behind. Its working directory is the world's: that is how a leftover is told
//! from a stranger that got the same number.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(5);

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
            .stdout(output.try_clone()?)
            .stderr(output)
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

/// Ends every process that an earlier run in `home` left behind; answers how many.
///
/// # Errors
/// When one of them can't be ended.
pub fn end_leftovers(home: &Path) -> Result<usize> {
    let Ok(list) = fs::read_to_string(home.join("pids")) else {
        return Ok(0);
    };
    let home = fs::canonicalize(home)?;
    let groups: Vec<i32> = list
        .lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect();
    let left = || -> Vec<i32> {
        all_processes()
            .filter(|pid| group_of(*pid).is_some_and(|group| groups.contains(&group)))
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&home))
            })
            .collect()
    };
    let found = left();
    for (signal, patience) in [(Signal::SIGTERM, PATIENCE), (Signal::SIGKILL, PATIENCE)] {
        for number in left() {
            let _ = kill(Pid::from_raw(number), signal);
        }
        let gone = wait_for("the end of leftovers", patience, || {
            let rest = left();
            if rest.is_empty() {
                Ok(())
            } else {
                Err(format!("{rest:?} run"))
            }
        });
        if gone.is_ok() {
            return Ok(found.len());
        }
    }
    bail!(
        "processes {:?} of an earlier run can't be ended; end them and try again",
        left()
    )
}

/// The last `lines` of a text file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

pub(crate) fn all_processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 2..].split(' ');
    // A zombie has ended already; its parent just hasn't looked.
    (fields.next()? != "Z").then_some(())?;
    fields.nth(1)?.parse().ok()
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

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn leftovers_of_a_killed_run_are_ended_and_strangers_are_not() {
        let home = tempfile::tempdir().unwrap();
        let mut left = sleeper(home.path());
        let elsewhere = tempfile::tempdir().unwrap();
        let mut stranger = sleeper(elsewhere.path());
        let mut pids = append(&home.path().join("pids")).unwrap();
        writeln!(pids, "{} stranger", stranger.id()).unwrap();
        wait_for("both", PATIENCE, || {
            let count = end_candidates(home.path());
            if count >= 1 { Ok(()) } else { Err(count) }
        })
        .unwrap();
        assert!(end_leftovers(home.path()).unwrap() >= 1);
        assert!(left.wait(PATIENCE).is_ok());
        assert!(stranger.ended().unwrap().is_none());
    }

    fn end_candidates(home: &Path) -> usize {
        fs::read_to_string(home.join("pids"))
            .unwrap()
            .lines()
            .count()
    }
}
