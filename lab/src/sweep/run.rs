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
    checker::{self, Found},
    points::Point,
    record::Recording,
    scene::{Stage, Work},
    strace,
    tree::{self, Entry, Tree},
};
use crate::{process::Process, wait_for};

/// For a run to come to its point.
const COMING: Duration = Duration::from_secs(40);
/// For a restarted agent to do its work; it connects within five seconds, and waits between attempts.
const CONVERGING: Duration = Duration::from_secs(60);
/// A point whose number can't be known before is looked for so often.
const SEARCHES: usize = 8;

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The agent was killed there.
    Tried,
    /// This run did without it.
    DidNotCome,
}

/// Tries points on all hosts at once, each host one after the other; how many were tried.
///
/// # Errors
/// The first that doesn't hold, with its point.
pub fn each(
    stages: &mut [Stage],
    points: &[Point],
    attempt: impl Fn(&mut Stage, &Point) -> Result<Fate> + Sync,
) -> Result<usize> {
    let (next, tried) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    let end = |error: anyhow::Error| {
        wrong
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(error);
        next.store(points.len(), Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for stage in stages {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match attempt(stage, point) {
                        Ok(Fate::Tried) => drop(tried.fetch_add(1, Ordering::Relaxed)),
                        Ok(Fate::DidNotCome) if point.is_chance() => {}
                        Ok(Fate::DidNotCome) => {
                            end(anyhow::anyhow!("{point} didn't come a second time"));
                        }
                        Err(error) => {
                            end(error.context(format!("at {point}, on {}", stage.host.name)));
                        }
                    }
                }
            });
        }
    });
    match wrong
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .next()
    {
        Some(error) => Err(error),
        None => Ok(tried.into_inner()),
    }
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
    let since = crate::clock::now();
    stage.host.start_agent()?;
    wait_for("a restarted agent to do its work", CONVERGING, || {
        stage.host.agent()?.check_running()?;
        stage.is_done(since)
    })?;
    stage.host.stop_agent();
    ended_well(stage, recording)?;
    Ok(Fate::Tried)
}

/// As after a run that wasn't cut off.
fn ended_well(stage: &Stage, recording: &Recording) -> Result<()> {
    let found = checker::check(stage).context("after the restart")?;
    let wanted = match stage.work {
        Work::RollBack => Found::Old,
        _ => Found::New,
    };
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
    let mut nth = point.nth;
    for _ in 0..SEARCHES {
        let calls = run_until_killed(stage, point, nth)?;
        let at = |call: &strace::Call| point.is(call, &stage.root);
        let last = calls.last().context("strace saw nothing")?;
        if last.answer.is_none() && at(last)? {
            return Ok(true);
        }
        if point.filter.is_some() && last.answer.is_some() {
            return Ok(false);
        }
        // Counted among all calls of its name, there may have been a few more or less before it.
        let mut came = None;
        for (index, call) in calls.iter().enumerate() {
            if at(call)? {
                came = Some(index + 1);
            }
        }
        nth = came.unwrap_or(nth + 1);
    }
    Ok(false)
}

fn run_until_killed(stage: &Stage, point: &Point, nth: usize) -> Result<Vec<strace::Call>> {
    let log = stage.world.join(format!("{}.strace", stage.host.name));
    let call = &point.call;
    let mut options = vec![
        "-e".to_owned(),
        format!("inject={call}:signal=KILL:when={nth}"),
    ];
    if let Some(filter) = &point.filter {
        options.push("-P".into());
        options.push(stage.root.join(filter).display().to_string());
    }
    let program = stage.host.agent_program(&["run"])?;
    let traced = strace::before(&program, call, &options, &log);
    let since = crate::clock::now();
    let mut process = Process::start(&traced, &stage.world, &stage.host.agent_log())?;
    wait_for("the kill, or the end of the work", COMING, || {
        if process.ended()?.is_some() {
            return Ok(());
        }
        stage.is_done(since)
    })?;
    if process.ended()?.is_none() {
        // What is still to come is a matter of moments, or comes when it ends.
        let _ = process.wait(Duration::from_secs(2));
        let _ = process.signal_group(Signal::SIGTERM);
        process.wait(COMING)?;
    }
    strace::read(&log)
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
