//! The agent, held between two of its steps by its own log: it tells that it has taken one, and comes no further than to
//! its next line, which tells of the next step, while the one that was waited for lies in the pipe.
//!
//! Its standard error is a pipe with room for one write (`O_DIRECT`: each is a packet). A line is looked at (`tee`)
//! before it is taken out.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::Stdio,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee},
    unistd::pipe2,
};

use crate::{host::Host, issuer::eventually};

/// The least that a pipe can hold, and one packet of it.
const PAGE: usize = 4096;

/// Steps of an install when all goes well, as the agent's log tells of them, to the character that ends each name.
pub(crate) const STEPS: [&str; 10] = [
    "Fetch(",
    "Verify(",
    "Stage(",
    "TestCandidate(",
    "Baseline ",
    "Activate(",
    "Test ",
    "Reload ",
    "Confirm(",
    "Report(",
];

enum State {
    Open,
    Armed(String),
    Held,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Dropped, it lets everything pass.
pub(crate) struct Gate(Arc<Shared>);

impl Gate {
    /// Starts the agent with a gate in its log.
    pub(crate) fn start_agent(host: &mut Host) -> Self {
        let (gate, end) = Self::before(&host.path("run/agent.log"));
        host.start_agent_with(end);
        gate
    }

    /// The same, to be held after this step from its start on.
    pub(crate) fn start_agent_armed(host: &mut Host, step: &str) -> Self {
        let (gate, end) = Self::before(&host.path("run/agent.log"));
        gate.arm(step);
        host.start_agent_with(end);
        gate
    }

    fn before(log: &Path) -> (Self, Stdio) {
        let log = fs::OpenOptions::new().create(true).append(true).open(log);
        let mut log = log.unwrap();
        let (lines, agent) = pipe2(OFlag::O_CLOEXEC | OFlag::O_DIRECT).unwrap();
        let room = fcntl(&agent, FcntlArg::F_SETPIPE_SZ(PAGE as i32)).unwrap();
        assert_eq!(room as usize, PAGE, "a pipe of one packet can't be had");
        let (peeked, peek) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Open),
            changed: Condvar::new(),
        });
        let passing = shared.clone();
        let (mut lines, mut peeked) = (File::from(lines), File::from(peeked));
        std::thread::spawn(move || {
            let mut buffer = [0; PAGE];
            loop {
                let count = tee(&lines, &peek, PAGE, SpliceFFlags::empty()).unwrap();
                if count == 0 {
                    return;
                }
                let line = &mut buffer[..count];
                peeked.read_exact(line).unwrap();
                // Before it is held, so that who waits for it finds it in the log.
                log.write_all(line).unwrap();
                passing.pass(&String::from_utf8_lossy(line));
                lines.read_exact(line).unwrap();
            }
        });
        (Self(shared), agent.into())
    }

    /// The agent will be held between this step and the next; where it is held already, it goes on until then.
    pub(crate) fn arm(&self, step: &str) {
        *self.0.lock() = State::Armed(format!("step done={step}"));
        self.0.changed.notify_all();
    }

    /// Waits until it is held there.
    pub(crate) async fn held(&self, step: &str) {
        eventually(&format!("it is held after {step}"), || async {
            matches!(*self.0.lock(), State::Held).then_some(())
        })
        .await;
    }

    /// Lets it go on.
    pub(crate) fn open(&self) {
        *self.0.lock() = State::Open;
        self.0.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns at once, or, for the line that was waited for, when the gate is opened.
    fn pass(&self, line: &str) {
        let mut state = self.lock();
        match &*state {
            State::Armed(words) if line.contains(words) => *state = State::Held,
            _ => return,
        }
        while matches!(*state, State::Held) {
            state = self.changed.wait(state).unwrap();
        }
    }
}
