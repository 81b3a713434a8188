//! One run of the agent under strace, from its start until its work is done.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::{
    call::{Call, Deed},
    points::{self, Point},
    scene::Work,
    stage::Stage,
    strace,
    tree::Tree,
};
use crate::{process::Process, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// What was seen.
pub struct Recording {
    /// Every call that changes something, in its order; of nginx's tests as well.
    pub calls: Vec<Call>,
    /// The agent's first thread.
    pub agent: u32,
    /// Where it may be cut off.
    pub points: Vec<Point>,
    /// The host's files when all was over.
    pub after: Tree,
    /// The host's directory.
    pub root: PathBuf,
}

/// Records the work on a host, which stands before it.
///
/// # Errors
/// When the work isn't done, or strace isn't understood.
pub fn record(stage: &mut Stage) -> Result<Recording> {
    stage.restore()?;
    let log = stage.world.join(format!("{}.strace", stage.host.name));
    let program = stage.host.agent_program(&["run"])?;
    let traced = strace::before(&program, strace::CALLS, &["-f".into()], &log);
    let since = crate::clock::now();
    let mut process = Process::start(&traced, &stage.world, &stage.host.agent_log())?;
    wait_for("the work to be done under strace", LIMIT, || {
        process.check_running()?;
        stage.is_done(since)
    })?;
    // strace takes no notice, and ends when the agent has.
    process.signal_group(Signal::SIGTERM)?;
    process.wait(LIMIT)?;
    let calls = strace::read(&log)?;
    let agent = calls.first().context("strace saw nothing")?.thread;
    let mut points = points::points(&calls, &stage.root)?;
    if stage.work == Work::Pruning {
        // What comes before is the install, which is swept by itself.
        let removal = |point: &Point| {
            let removes = matches!(point.call.as_str(), "unlink" | "unlinkat" | "rmdir");
            removes && point.path.starts_with("agent/store") && !is_temporary(&point.path)
        };
        let first = points.iter().position(removal);
        points.drain(..first.context("nothing was pruned")?);
    }
    Ok(Recording {
        calls,
        agent,
        points,
        after: stage.tree()?,
        root: stage.root.clone(),
    })
}

fn is_temporary(path: &std::path::Path) -> bool {
    path.iter()
        .any(|part| PathBuf::from(part).extension().is_some_and(|e| e == "tmp"))
}

impl Recording {
    /// What the agent itself did, in its order.
    ///
    /// # Errors
    /// When strace isn't understood.
    pub fn deeds(&self) -> Result<Vec<Deed>> {
        let own = self.calls.iter().filter(|call| call.thread == self.agent);
        let succeeded = own.filter(|call| call.answer.is_some_and(|answer| answer >= 0));
        succeeded
            .filter_map(|call| call.deed().transpose())
            .collect()
    }
}
