//! One point tried: the work is begun anew, and cut off there.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    call::Call,
    checker::{self, Found},
    points::Point,
    record::Recording,
    scene::Work,
    stage::Stage,
    strace,
    tree::{self, Entry, Tree},
};
use crate::{process::Process, wait_for};

/// For a run to come to its point.
const COMING: Duration = Duration::from_secs(40);
/// For an agent to do its work although a call failed; if it hasn't by then, it is started again.
const ALONE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(500);
/// For a restarted agent to do its work; it connects within five seconds, and waits between attempts.
const CONVERGING: Duration = Duration::from_secs(60);

/// After so many that don't hold the rest is left.
const TOO_MANY: usize = 8;

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The agent was killed there.
    Tried,
    /// This run did without it.
    DidNotCome,
}

/// What came of many points.
#[derive(Debug, Default)]
pub struct Tried {
    /// How many were tried.
    pub tried: usize,
    /// Those that didn't come a second time, as may be.
    pub missed: Vec<String>,
    /// What didn't hold, and where.
    pub wrong: Vec<String>,
}

/// Tries points on all hosts at once, each host one after the other, until too many don't hold.
pub fn each<P: Sync>(
    stages: &mut [Stage],
    points: &[P],
    name: impl Fn(&P) -> (&Point, String) + Sync,
    attempt: impl Fn(&mut Stage, &P) -> Result<Fate> + Sync,
) -> Tried {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Tried::default());
    thread::scope(|scope| {
        for stage in stages {
            scope.spawn(|| {
                while let Some(one) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (point, words) = name(one);
                    let fate = attempt(stage, one);
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    match fate {
                        Ok(Fate::Tried) => all.tried += 1,
                        Ok(Fate::DidNotCome) if point.is_chance() => all.missed.push(words),
                        Ok(Fate::DidNotCome) => {
                            all.wrong
                                .push(format!("{words}: didn't come a second time"));
                        }
                        Err(error) => {
                            let host = &stage.host.name;
                            all.wrong.push(format!("{words}, on {host}: {error:#}"));
                        }
                    }
                    if all.wrong.len() >= TOO_MANY {
                        next.store(points.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the agent before the point's call; the host is whole, and an agent that is started again ends the work.
///
/// # Errors
/// What isn't so.
pub fn kill_at(stage: &mut Stage, point: &Point, recording: &Recording) -> Result<Fate> {
    stage.restore()?;
    if !killed(stage, point)? {
        return Ok(Fate::DidNotCome);
    }
    let found = checker::check(stage).context("right after the kill")?;
    nginx_takes_it(stage, found).context("right after the kill")?;
    go_on(stage)?;
    ended_well(stage, recording)?;
    Ok(Fate::Tried)
}

/// Lets the point's call fail once with an error of the system; the host is whole, and the agent ends the work by
/// itself, or when it is started again.
///
/// # Errors
/// What isn't so.
pub fn fail_at(
    stage: &mut Stage,
    point: &Point,
    error: &str,
    recording: &Recording,
) -> Result<Fate> {
    let Some(alone) = failed(stage, point, error)? else {
        return Ok(Fate::DidNotCome);
    };
    let found = checker::check(stage).context("after the failure")?;
    nginx_takes_it(stage, found).context("after the failure")?;
    // What couldn't be removed goes at the next start.
    if alone && ended_well(stage, recording).is_ok() {
        return Ok(Fate::Tried);
    }
    go_on(stage)?;
    ended_well(stage, recording)?;
    Ok(Fate::Tried)
}

/// An agent that is started again ends the work.
fn go_on(stage: &mut Stage) -> Result<()> {
    let since = crate::clock::now();
    stage.host.start_agent()?;
    wait_for("a restarted agent to do its work", CONVERGING, || {
        stage.host.agent()?.check_running()?;
        stage.is_done(since)
    })?;
    stage.host.stop_agent();
    Ok(())
}

/// Whether the agent then did its work by itself; nothing where the call that failed wasn't the point's.
fn failed(stage: &mut Stage, point: &Point, error: &str) -> Result<Option<bool>> {
    stage.restore()?;
    let inject = format!("error={error}:when={}", point.nth);
    let (calls, done) = run_injected(stage, point, &inject, ALONE)?;
    for call in calls.iter().filter(|call| call.injected) {
        if point.is(call, &stage.root)? {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

/// As after a run that wasn't cut off.
fn ended_well(stage: &Stage, recording: &Recording) -> Result<()> {
    let found = checker::check(stage).context("after the restart")?;
    let wanted = stage.work.ends_with();
    ensure!(found == wanted, "the {found:?} pair after the restart");
    nginx_takes_it(stage, found).context("after the restart")?;
    stage.serves(stage.goal(), Duration::from_secs(10))?;
    let differences = tree::differences(
        &comparable(&recording.after, &recording.root)?,
        &comparable(&stage.tree()?, &stage.root)?,
    );
    ensure!(
        differences.is_empty(),
        "another host than after a run that wasn't cut off: {}",
        differences.join("; ")
    );
    Ok(())
}

/// Whether the agent was killed at the point; else it did its work without coming there.
fn killed(stage: &Stage, point: &Point) -> Result<bool> {
    let inject = format!("signal=KILL:when={}", point.nth);
    let (calls, _) = run_injected(stage, point, &inject, COMING)?;
    let Some(last) = calls.last() else {
        return Ok(false);
    };
    Ok(last.answer.is_none() && point.is(last, &stage.root)?)
}

/// Runs the agent until it has ended or done its work, with something done to one call; what strace saw of such calls,
/// and whether the work was done.
fn run_injected(
    stage: &Stage,
    point: &Point,
    inject: &str,
    within: Duration,
) -> Result<(Vec<Call>, bool)> {
    let log = stage.world.join(format!("{}.strace", stage.host.name));
    let call = &point.call;
    let mut options = vec!["-e".to_owned(), format!("inject={call}:{inject}")];
    options.push("-P".into());
    options.push(stage.root.join(&point.filter).display().to_string());
    let program = stage.host.agent_program(&["run"])?;
    let traced = strace::before(&program, call, &options, &log);
    let since = crate::clock::now();
    let mut process = Process::start(&traced, &stage.world, &stage.host.agent_log())?;
    let ended = wait_for("the end of the work", within, || {
        if process.ended()?.is_some() {
            return Ok(false);
        }
        stage.is_done(since).map(|()| true)
    });
    if process.ended()?.is_none() {
        // What is still to come is a matter of moments, or comes when it ends.
        let _ = process.wait(MOMENT);
    }
    if process.ended()?.is_none() {
        process.signal_group(Signal::SIGTERM)?;
        process.wait(COMING)?;
    }
    Ok((strace::read(&log)?, ended.unwrap_or(false)))
}

/// nginx's own test. Where it is nginx that refuses the new pair, it has to be for just that.
fn nginx_takes_it(stage: &Stage, found: Found) -> Result<()> {
    let test = stage.host.nginx.test()?;
    if stage.work == Work::RollBack && found == Found::New {
        ensure!(
            test.code != 0 && test.stderr.contains("key values mismatch"),
            "nginx -t: {}",
            test.stderr
        );
    } else {
        ensure!(test.code == 0, "nginx -t: {}", test.stderr);
    }
    Ok(())
}

/// What is the same on every host whose work came to its end, whenever it did.
fn comparable(tree: &Tree, root: &Path) -> Result<Tree> {
    let mut all = Tree::new();
    for (path, entry) in tree {
        if path.ends_with("desired.bin") {
            continue;
        }
        let entry = match entry {
            Entry::Link(target) => Entry::Link(target.strip_prefix(root)?.to_owned()),
            Entry::File(mode, bytes) if path.ends_with("ledger.json") => {
                Entry::File(*mode, remembered(bytes)?)
            }
            Entry::File(_, _) if path.starts_with("agent/store") => entry.clone(),
            Entry::File(mode, _) => Entry::File(*mode, Vec::new()),
            other => other.clone(),
        };
        all.insert(path.clone(), entry);
    }
    Ok(all)
}

/// The ledger without times, and without how often something was tried.
fn remembered(text: &[u8]) -> Result<Vec<u8>> {
    let mut ledger: serde_json::Value = serde_json::from_slice(text)?;
    let certificates = ledger["certificates"].as_object_mut();
    for (_, entry) in certificates.into_iter().flatten() {
        for name in ["regressed", "rejected"] {
            entry.as_object_mut().and_then(|entry| entry.remove(name));
        }
        let facts = entry["facts"].as_object_mut();
        for (_, fact) in facts.into_iter().flatten() {
            fact.as_object_mut().and_then(|fact| fact.remove("at_ms"));
        }
    }
    Ok(serde_json::to_vec(&ledger)?)
}
