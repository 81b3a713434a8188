//! This machine's clock is off: by an hour, and nothing is the matter; by ten days, and what can't be judged is refused
//! and said, what is served stays, and all goes on when the clock is right.

use std::{fs, path::PathBuf};

use certwell_proto::{Fingerprint, pem, v1};

use crate::{
    faults::{hold::held, problems, serves, status_has},
    fleet::Authority,
    host::{Host, NAME},
    issuer::{TestIssuer, eventually},
    quiet::settled,
    world::{NAMES, World, serving_as},
};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Dated back by an hour as the big authorities do, and good for six days.
const SHORT: (i64, i64) = (-HOUR - 100, 6 * DAY);

/// Where Debian puts libfaketime. Not by the program `faketime`: what a killed one left in `/dev/shm` fails the next that
/// gets its process id.
pub(crate) fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten();
    let found = directories
        .map(|entry| entry.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists());
    if found.is_none() {
        crate::world::skipped("libfaketime isn't there (apt install faketime)");
    }
    found
}

/// The clock of the agent and its verbs from now on, also of one that runs. Pauses stay as long as they are.
fn set_clock(host: &Host, seconds: i64) {
    let new = host.path("run/clock.new");
    fs::write(&new, format!("{seconds:+}\n")).unwrap();
    fs::rename(new, host.path("run/clock")).unwrap();
}

/// An enrolled host whose clock can be set; nothing runs.
async fn world_with_a_clock() -> Option<World> {
    let library = library()?;
    let mut world = World {
        issuer: TestIssuer::start().await,
        authority: Authority::new("test CA"),
        host: Host::new(),
    };
    // As long as the issuer's own.
    world.issuer.memory.lock().unwrap().identity_life = 7 * DAY;
    world.host.enroll(&world.issuer).await;
    let host = &mut world.host;
    host.environment = vec![
        ("LD_PRELOAD", library.display().to_string()),
        (
            "FAKETIME_TIMESTAMP_FILE",
            host.path("run/clock").display().to_string(),
        ),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("NO_FAKE_STAT", "1".into()),
    ];
    set_clock(host, 0);
    Some(world)
}

async fn renewed(world: &World, generation: u64, life: (i64, i64)) -> v1::Bundle {
    let bundle = world.authority.bundle_living(NAME, generation, NAMES, life);
    world.offer(&bundle);
    world.outcome(generation, v1::Outcome::Converged).await;
    serves(world, &bundle).await;
    bundle
}

#[tokio::test]
async fn an_hour_off_is_tolerated_at_a_start_and_later() {
    let Some(mut world) = world_with_a_clock().await else {
        return;
    };
    world.host.start_nginx().await;
    let mut generation = 0;
    for off in [HOUR, -HOUR] {
        set_clock(&world.host, off);
        world.host.start_agent();
        generation += 1;
        renewed(&world, generation, SHORT).await;
        set_clock(&world.host, -off);
        generation += 1;
        renewed(&world, generation, SHORT).await;
        eventually("all is well", || async {
            let output = world.host.verb(&["status", "--json"]);
            (output.status.code() == Some(0) && problems(&world.host).is_empty()).then_some(())
        })
        .await;
        world.host.end_agent().await;
    }
    assert_eq!(world.host.activations(NAME, 0), 0, "a placeholder");
}

/// What is active, what is on disk, and what is served.
type Footprint = (String, Vec<String>, Option<Fingerprint>);

fn footprint(host: &Host) -> Footprint {
    (host.active(), host.staged(), host.served())
}

#[tokio::test]
async fn ten_days_off_refuse_what_cannot_be_judged_and_touch_nothing_until_the_clock_is_right() {
    let Some(world) = world_with_a_clock().await else {
        return;
    };
    let (mut world, _) = serving_as(world).await;
    for generation in 2..=4 {
        renewed(&world, generation, SHORT).await;
    }
    let mut generation = 4;
    for off in [10 * DAY, -10 * DAY] {
        let what = format!("{off} seconds off");
        settled(&world.host).await;
        let workers = world.host.settled_workers().await;
        let before = footprint(&world.host);
        // While it runs, and is connected.
        set_clock(&world.host, off);
        generation += 1;
        let next = world
            .authority
            .bundle_living(NAME, generation, NAMES, SHORT);
        world.offer(&next);
        held(&world, generation, "(is this machine's clock right?)").await;
        status_has(&world.host, &what, &["(is this machine's clock right?)"]).await;
        settled(&world.host).await;
        assert_eq!(footprint(&world.host), before, "{what}: touched");
        assert_eq!(world.host.workers(), workers, "{what}: reloaded");
        // At a start, when the identity seems to be over, or the issuer's certificate not to be valid yet.
        world.host.kill_agent();
        world.host.start_agent();
        let words = [
            "by this machine's clock, which says",
            "(timedatectl, chrony)",
        ];
        status_has(&world.host, &what, &words).await;
        settled(&world.host).await;
        assert_eq!(footprint(&world.host), before, "{what}: touched at a start");
        assert_eq!(
            world.host.verb(&["status"]).status.code(),
            Some(3),
            "{what}"
        );
        set_clock(&world.host, 0);
        world.outcome(generation, v1::Outcome::Converged).await;
        serves(&world, &next).await;
    }
    assert_eq!(world.host.activations(NAME, 0), 0, "a placeholder");
    let renewals = world.issuer.memory.lock().unwrap().renewals;
    assert!(renewals < 20, "{renewals} renewals of the identity");
}

#[tokio::test]
async fn by_a_clock_that_is_ten_days_ahead_nobody_s_certificate_is_exchanged_for_a_worse_one() {
    let Some(world) = world_with_a_clock().await else {
        return;
    };
    let (world, _) = serving_as(world).await;
    let host = &world.host;
    let ours = renewed(&world, 2, SHORT).await;
    host.settled_workers().await;
    set_clock(host, 10 * DAY);
    // Ours is put back, though by this clock it is over.
    fs::remove_file(host.live()).unwrap();
    eventually("it is put back", || async {
        (host.live().is_symlink() && host.active() == "2").then_some(())
    })
    .await;
    serves(&world, &ours).await;
    settled(host).await;
    // Another hand's that ends later stays, though by this clock both are over.
    let (chain, key) = world.authority.server(NAMES, (-HOUR, 8 * DAY));
    let theirs = host.path("theirs");
    fs::create_dir(&theirs).unwrap();
    let chain = pem::certificates(chain.iter().map(Vec::as_slice));
    fs::write(theirs.join("fullchain.pem"), &chain).unwrap();
    fs::write(
        theirs.join("privkey.pem"),
        pem::private_key(&key).as_bytes(),
    )
    .unwrap();
    fs::remove_file(host.live()).unwrap();
    fs::rename(theirs, host.live()).unwrap();
    let words = [
        "another hand's certificate that expired at",
        "it stays",
        "clock right?",
    ];
    status_has(host, "theirs", &words).await;
    settled(host).await;
    let there = || fs::read_to_string(host.live().join("fullchain.pem")).unwrap();
    assert_eq!(there(), chain);
    // Nor does the next one of ours come there before the clock is right, as it can't be judged.
    let third = world
        .authority
        .bundle_living(NAME, 3, NAMES, (-HOUR, 9 * DAY));
    world.offer(&third);
    held(&world, 3, "clock right?").await;
    settled(host).await;
    assert_eq!(there(), chain);
    set_clock(host, 0);
    world.outcome(3, v1::Outcome::Converged).await;
    serves(&world, &third).await;
}
