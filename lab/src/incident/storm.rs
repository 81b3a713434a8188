//! Act 6: the issuer's host and all edges lose their power at once, at several instants of a renewal.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Leaf;
use jiff::Timestamp;

use super::{Stage, pair::Judge};
use crate::{
    MEDIA, clock,
    debian::{
        Fleet, Machine,
        fleet::{FRITZ, SOON},
    },
    wait::wait_for,
};

/// At how many instants, spread over the first two thirds of what a renewal takes here: then all is done but the telling.
const STORMS: u32 = 8;
const BLINK: Duration = Duration::from_millis(20);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let judge = Judge::of(stage.fleet, MEDIA)?;
    let mut generation = stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
    let began = clock::now();
    stage.fleet.renew(MEDIA)?;
    generation = stage
        .fleet
        .converged(MEDIA, generation + 1, SOON, |_| true)?;
    let usual = since(began)?;
    stage.tell(format!(
        "a renewal takes {:.1} s here; now the power fails at {STORMS} instants of one",
        usual.as_secs_f32()
    ));
    let mut looks = 0;
    let mut longest = Duration::ZERO;
    for storm in 0..STORMS {
        let into = usual * storm * 2 / (STORMS * 3);
        let before = judge.on_disk(&stage.fleet.edges[0])?;
        stage.fleet.renew(MEDIA)?;
        thread::sleep(into);
        at_once(stage.fleet, Machine::pull_plug)?;
        let had = on_disks(&judge, stage.fleet)?;
        let newer = had.iter().filter(|leaf| **leaf != before).count();
        let began = clock::now();
        // One after the other, in a blink: a host ends with the thread that powered it on.
        for machine in hosts_mut(stage.fleet) {
            machine.power_on()?;
        }
        let (served, looked) = watched(&judge, stage.fleet, generation + 1)?;
        at_once(stage.fleet, Machine::booted)?;
        let took = since(began)?;
        stage.tell(format!(
            "{:.1} s into it {newer} of {} edges had the new pair; {:.1} s after the power came back all serve generation {served}",
            into.as_secs_f32(),
            had.len(),
            took.as_secs_f32()
        ));
        generation = served;
        looks += looked;
        longest = longest.max(took);
    }
    stage.figure("power cuts in the middle of a renewal", STORMS);
    // The first that isn't ends the act.
    stage.figure(
        "pairs looked at on disk after a cut, and handshakes, each whole and of a valid chain",
        looks,
    );
    stage.figure(
        "longest from the power's return to all hosts converged",
        format!("{:.1} s", longest.as_secs_f32()),
    );
    Ok(())
}

/// Does the same to the issuer's host and all edges, all at the same time. The world stays as it is.
fn at_once(fleet: &mut Fleet, act: impl Fn(&mut Machine) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    thread::scope(|scope| {
        let acts: Vec<_> = hosts_mut(fleet)
            .map(|machine| scope.spawn(move || act(machine)))
            .collect();
        acts.into_iter().try_for_each(|act| {
            act.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

fn hosts_mut(fleet: &mut Fleet) -> impl Iterator<Item = &mut Machine> {
    [&mut fleet.fritz].into_iter().chain(&mut fleet.edges)
}

fn on_disks(judge: &Judge, fleet: &Fleet) -> Result<Vec<Leaf>> {
    let edges = fleet.edges.iter();
    edges.map(|edge| judge.on_disk(edge)).collect()
}

/// Looks at every edge again and again, on its disk and by handshakes, until all have converged at `generation` or later.
/// Answers which it is, and how often it was looked.
fn watched(judge: &Judge, fleet: &Fleet, generation: u64) -> Result<(u64, usize)> {
    let over = AtomicBool::new(false);
    let looks = AtomicUsize::new(0);
    let generation = thread::scope(|scope| {
        let watchers: Vec<_> = fleet
            .edges
            .iter()
            .map(|edge| {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        judge.on_disk(edge)?;
                        looks.fetch_add(1, Ordering::SeqCst);
                        // Nobody listens before nginx has started.
                        if let Ok(served) = fleet.served(edge, MEDIA) {
                            judge.served(edge, &served)?;
                            looks.fetch_add(1, Ordering::SeqCst);
                        }
                        thread::sleep(BLINK);
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        let whole = whole(fleet, generation);
        over.store(true, Ordering::SeqCst);
        watchers.into_iter().try_for_each(|watcher| {
            watcher
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        whole
    })?;
    Ok((generation, looks.into_inner()))
}

/// Waits until the issuer hears of every edge again, each has converged by its word, and serves the same by a handshake.
fn whole(fleet: &Fleet, generation: u64) -> Result<u64> {
    wait_for("all hosts to be whole again", SOON * 2, || {
        let said = fleet.certwell(&["hosts", "list", "--json"])?;
        let hosts: Hosts = serde_json::from_str(&said.stdout)
            .with_context(|| format!("{FRITZ}: {}{}", said.stdout, said.stderr))?;
        let away: Vec<&str> = hosts
            .hosts
            .iter()
            .filter(|host| !host.connected)
            .map(|host| host.name.as_str())
            .collect();
        ensure!(away.is_empty(), "not connected: {}", away.join(", "));
        let found = fleet.converged(MEDIA, generation, Duration::ZERO, |_| true)?;
        let leaf = fleet.common_leaf()?;
        let status = fleet.status()?;
        let certificate = status.certificate(MEDIA).context("not in status")?;
        for host in &certificate.hosts {
            let served = host.facts.served.as_ref();
            let served = served.and_then(|served| served.fingerprint.as_deref());
            ensure!(
                served == Some(&*leaf.to_string()),
                "{} serves {leaf}, and not {served:?}",
                host.host
            );
        }
        Ok::<_, anyhow::Error>(found)
    })
}

/// `certwell hosts list --json`, of which this much is read.
#[derive(Debug, serde::Deserialize)]
struct Hosts {
    hosts: Vec<Host>,
}

#[derive(Debug, serde::Deserialize)]
struct Host {
    name: String,
    connected: bool,
}

fn since(began: Timestamp) -> Result<Duration> {
    Ok(Duration::try_from(clock::now().duration_since(began))?)
}
