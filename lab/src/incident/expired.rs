//! Act 3: an edge is off until its certificate is over. It boots with what it has, and nobody logs in.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Leaf;
use jiff::{SignedDuration, Timestamp};

use super::{LIFE, Stage, pair::Judge};
use crate::{
    MEDIA, clock,
    debian::{Machine, fleet::SOON},
    probe::{self, Served},
    wait::wait_for,
};

/// Of the edges, the one of the other release.
const ASLEEP: &str = "esme";
/// On a busy machine. The figure says how long it took.
const WITHIN: Duration = Duration::from_secs(45);
const BLINK: Duration = Duration::from_millis(10);
/// What the others serve must be good for so long still: it is to be the current one all along.
const LEFT: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let judge = Judge::of(stage.fleet, MEDIA)?;
    let generation = stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
    stage.fleet.edge_mut(ASLEEP)?.pull_plug()?;
    let off = clock::now();
    let last = judge.on_disk(stage.fleet.edge(ASLEEP)?)?;
    stage.tell(format!(
        "{ASLEEP} is off; the certificate on its disk ends {}",
        last.not_after
    ));
    let life = SignedDuration::try_from(LIFE)?;
    let morning = last.not_after.max(off + life) + SignedDuration::from_secs(1);
    wait_for("the night to be over", LIFE * 2, || {
        let left = morning.duration_since(clock::now());
        ensure!(!left.is_positive(), "{left:#} are left");
        Ok::<_, anyhow::Error>(())
    })?;
    // With an edge off some validations fail: it takes what it takes.
    let theirs = wait_for("the others to serve a newer one", LIFE * 3, || {
        stage
            .fleet
            .converged(MEDIA, generation + 1, Duration::ZERO, |host| host != ASLEEP)?;
        let theirs = stage.fleet.served(&stage.fleet.edges[0], MEDIA)?.leaf;
        ensure!(
            theirs.not_after > clock::now() + LEFT,
            "theirs is {theirs:?}"
        );
        Ok::<_, anyhow::Error>(theirs)
    })?;
    let found = judge.on_disk(stage.fleet.edge(ASLEEP)?)?;
    ensure!(
        found == last && found.not_after < clock::now(),
        "what {ASLEEP} has isn't what it had, or isn't over: {found:?}"
    );

    let asleep = clock::now().duration_since(off);
    stage.tell(format!("{ASLEEP} is powered on"));
    stage.fleet.edge_mut(ASLEEP)?.power_on()?;
    let woken = wake(stage.fleet.edge(ASLEEP)?, &theirs)?;
    judge.served(stage.fleet.edge(ASLEEP)?, &woken.current)?;
    stage.fleet.edge_mut(ASLEEP)?.booted()?;
    stage.figure(
        "off for",
        format!(
            "{:.0} s, its certificate over for {:.0} s",
            asleep.as_secs_f32(),
            woken.network.duration_since(last.not_after).as_secs_f32()
        ),
    );
    stage.figure(
        "handshakes that still showed the expired leaf",
        woken.expired,
    );
    stage.figure(
        "from its address being up to the first handshake with the current leaf",
        format!("{:.2} s", woken.took.as_secs_f32()),
    );
    ensure!(woken.took <= WITHIN, "it took {:?}", woken.took);
    stage
        .fleet
        .converged(MEDIA, generation + 1, SOON, |_| true)?;
    let units = stage
        .fleet
        .edge(ASLEEP)?
        .shell("systemctl is-enabled certwell-agent.service nginx.service")?;
    ensure!(units == "enabled\nenabled\n", "{units}");
    Ok(())
}

/// How an edge woke.
struct Woken {
    /// When its address was up.
    network: Timestamp,
    /// Handshakes that showed what it slept with.
    expired: usize,
    current: Served,
    took: Duration,
}

/// Watches an edge boot until it serves what others do, or something newer.
fn wake(edge: &Machine, theirs: &Leaf) -> Result<Woken> {
    let leader = edge
        .leader()
        .with_context(|| format!("{} is off", edge.name))?;
    let address = edge.address.to_string();
    // By the kernel's word: what looks from outside waits for ARP.
    let network = wait_for("its address", SOON, || {
        let table = fs::read_to_string(format!("/proc/{leader}/net/fib_trie"))?;
        ensure!(table.contains(&format!("-- {address}\n")), "not up yet");
        Ok::<_, anyhow::Error>(clock::now())
    })?;
    let mut expired = 0;
    loop {
        let served = probe::handshake((edge.address, 443).into(), MEDIA);
        let now = clock::now();
        let took = Duration::try_from(now.duration_since(network))?;
        match served {
            Ok(served) if served.leaf.not_after >= theirs.not_after => {
                return Ok(Woken {
                    network,
                    expired,
                    current: served,
                    took,
                });
            }
            Ok(_) => expired += 1,
            Err(error) => ensure!(took < SOON, "{}: {error:#}", edge.name),
        }
        ensure!(took < SOON, "{} still serves the expired leaf", edge.name);
        thread::sleep(BLINK);
    }
}
