//! A log that a daemon can't outrun: once it has written the line that a test waits for, it comes no further than to
//! its next line. A kill falls between these two.
//!
//! Its standard error is a pipe that holds one write: each is a packet (`O_DIRECT`), and there is room for one. A line
//! is looked at before it is taken out (`tee`); as long as the one waited for stays in the pipe, the next write blocks.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee},
    unistd::pipe2,
};

/// The least that a pipe can hold, and one packet of it.
const PAGE: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    Armed(String),
    Held(String),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The gate in one daemon's log. Dropped, it lets everything pass.
#[derive(Debug)]
pub struct LogGate {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl LogGate {
    /// A gate before `log`, which gets every line, and the end for the daemon to write to.
    ///
    /// # Errors
    /// When the log can't be opened, or the system has no such pipes.
    pub(crate) fn before(log: &Path) -> Result<(Self, OwnedFd)> {
        let mut log = OpenOptions::new().create(true).append(true).open(log)?;
        let (lines, daemon) = pipe2(OFlag::O_CLOEXEC | OFlag::O_DIRECT).context("a pipe")?;
        let room = fcntl(&daemon, FcntlArg::F_SETPIPE_SZ(PAGE.try_into()?))?;
        if usize::try_from(room)? != PAGE {
            bail!("a pipe of {PAGE} bytes can't be had here, but one of {room}");
        }
        let (peeked, peek) = pipe2(OFlag::O_CLOEXEC)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Open),
            changed: Condvar::new(),
        });
        let (mut lines, mut peeked) = (File::from(lines), File::from(peeked));
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut buffer = [0; PAGE];
            loop {
                let count = tee(&lines, &peek, PAGE, SpliceFFlags::empty())?;
                if count == 0 {
                    return Ok(());
                }
                let line = &mut buffer[..count];
                peeked.read_exact(line)?;
                for_thread.pass(&String::from_utf8_lossy(line));
                lines.read_exact(line)?;
                log.write_all(line)?;
            }
        });
        let gate = Self {
            shared,
            thread: Some(thread),
        };
        Ok((gate, daemon))
    }

    /// The daemon will be held at the next line with these words in it.
    pub fn arm(&self, words: &str) {
        *self.state() = State::Armed(words.to_owned());
    }

    /// Waits until it is held; answers the line.
    ///
    /// # Errors
    /// When no such line comes in time.
    pub fn wait_held(&self, within: Duration) -> Result<String> {
        let held = |state: &mut State| !matches!(state, State::Held(_));
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.state(), within, held)
            .unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Held(line) => Ok(line.clone()),
            other => bail!("no such line came within {} s: {other:?}", within.as_secs()),
        }
    }

    /// Lets everything pass, and waits until the log is complete: the daemon has to have ended.
    ///
    /// # Errors
    /// When a line couldn't be read or written.
    pub fn end(mut self) -> Result<()> {
        self.open();
        let thread = self.thread.take().context("the gate has ended")?;
        thread.join().ok().context("the gate broke")?
    }

    fn open(&self) {
        *self.state() = State::Open;
        self.shared.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Drop for LogGate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns at once, or, for the line waited for, when the gate is opened.
    fn pass(&self, line: &str) {
        let mut state = self.lock();
        match &*state {
            State::Armed(words) if line.contains(words) => {}
            _ => return,
        }
        *state = State::Held(line.to_owned());
        self.changed.notify_all();
        while matches!(*state, State::Held(_)) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{process::Process, program::Program, wait::wait_for};

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_writer_comes_no_further_than_to_its_next_line() {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("log");
        let script = "for i in 1 2 3 4 5; do echo line $i >&2; touch did-$i; done";
        let (gate, end) = LogGate::before(&log).unwrap();
        gate.arm("line 3");
        let program = Program::new("writer", "sh", ["-c", script]);
        let mut writer = Process::start_gated(&program, home.path(), &log, end).unwrap();
        assert_eq!(gate.wait_held(SOON).unwrap(), "line 3\n");
        let done = |i: u32| home.path().join(format!("did-{i}")).exists();
        wait_for("all that it can do", SOON, || {
            if done(3) { Ok(()) } else { Err("not yet") }
        })
        .unwrap();
        assert!(!done(4) && writer.ended().unwrap().is_none());
        writer.kill9().unwrap();
        gate.end().unwrap();
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "line 1\nline 2\nline 3\n"
        );
        assert!(!done(4));
    }
}
