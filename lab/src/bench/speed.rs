//! How soon a stored bundle is served, beside what a bare script needs for the same.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Host, MEDIA, Site, World, certs::Pair, clock, wait_for};
use certwell_proto::Fingerprint;
use jiff::Timestamp;

use super::{SOON, median, settled, shown};

const ROUNDS: u64 = 15;
const FLOOR_INDEX: u8 = 7;

/// One host and, beside it, one with the same nginx that a bare script serves; in turns.
pub(super) fn one_host() -> Result<()> {
    let world = settled("bench/speed", &["sally"])?;
    let sites = [Site::new(MEDIA, &[MEDIA])];
    let mut bare = Host::lay_out(
        &world.net,
        world.directory(),
        FLOOR_INDEX,
        "bare",
        &sites,
        "info",
    )?;
    bare.nginx.start()?;
    let (mut ours, mut confirm, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        floor.push(script(&bare, round)?);
        for (latency, window) in renewal(&world, round + 1)? {
            ours.push(latency);
            confirm.push(window);
        }
    }
    println!("  certwell, one host      {}", shown(&ours));
    println!(
        "  bare script, one host   {}   (write, fsync, rename, nginx -t, HUP)",
        shown(&floor)
    );
    println!(
        "  ratio of the medians    {:.2}   (aim: 1.5 or less)",
        median(&ours) / median(&floor)
    );
    println!("  confirm window after    {}", shown(&confirm));
    Ok(())
}

/// Four hosts at once, which share this machine's cores.
pub(super) fn four_hosts() -> Result<()> {
    let world = settled(
        "bench/speed-4",
        &["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"],
    )?;
    let mut all = Vec::new();
    for round in 1..=ROUNDS / 3 {
        all.extend(
            renewal(&world, round + 1)?
                .into_iter()
                .map(|(latency, _)| latency),
        );
    }
    println!("  certwell, four at once  {}", shown(&all));
    Ok(())
}

/// Renews to `generation`; for each host the milliseconds from stored to served, and from there to confirmed.
fn renewal(world: &World, generation: u64) -> Result<Vec<(f64, f64)>> {
    let before: Vec<Fingerprint> = world
        .hosts
        .iter()
        .map(|host| Ok(host.served(MEDIA)?.fingerprint()))
        .collect::<Result<_>>()?;
    world
        .issuer
        .certwell(&["certificates", "renew", MEDIA])?
        .success("certwell certificates renew")?;
    let served: Vec<Result<Timestamp>> = thread::scope(|scope| {
        let watchers: Vec<_> = world
            .hosts
            .iter()
            .zip(&before)
            .map(|(host, before)| scope.spawn(move || first_other(host, *before)))
            .collect();
        watchers
            .into_iter()
            .map(|watcher| {
                watcher
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a watcher broke")))
            })
            .collect()
    });
    world.converged(MEDIA, generation, SOON)?;
    let events = world.issuer.events()?;
    let stored = events
        .iter()
        .find(|event| event.kind == "issued" && event.generation == Some(generation))
        .context("no event tells of the issuance")?;
    let stored: Timestamp = stored.at.parse()?;
    let status = world.issuer.status()?;
    world
        .hosts
        .iter()
        .zip(served)
        .map(|(host, served)| {
            let served = served?;
            let confirmed = status
                .certificate(MEDIA)
                .and_then(|certificate| certificate.host(&host.name))
                .and_then(|line| line.facts.served.as_ref())
                .context("no served fact")?;
            Ok((
                milliseconds(stored, served),
                milliseconds(served, confirmed.at.parse()?),
            ))
        })
        .collect()
}

/// The steps that nobody can do without, as a person would script them.
fn script(host: &Host, round: u64) -> Result<f64> {
    let before = host.served(MEDIA)?.fingerprint();
    let pair = Pair::expired(&[MEDIA.to_owned()])?;
    let start = clock::now();
    let directory = host.nginx.prefix().join(format!("script-{round}"));
    fs::create_dir(&directory)?;
    for (name, text) in [
        ("privkey.pem", &pair.key),
        ("fullchain.pem", &pair.certificate),
    ] {
        let mut file = File::create(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    File::open(&directory)?.sync_all()?;
    activate(&directory, &host.live(MEDIA))?;
    let test = host.nginx.test()?;
    ensure!(test.code == 0, "{}", test.stderr);
    host.nginx.reload()?;
    Ok(milliseconds(start, first_other(host, before)?))
}

fn activate(directory: &Path, link: &Path) -> Result<()> {
    if fs::symlink_metadata(link)?.is_dir() {
        fs::rename(link, link.with_extension("old"))?;
    }
    let new = link.with_extension("new");
    symlink(directory, &new)?;
    fs::rename(&new, link)?;
    File::open(link.parent().context("the link has a directory")?)?.sync_all()?;
    Ok(())
}

/// When a handshake first found another leaf than `before`.
fn first_other(host: &Host, before: Fingerprint) -> Result<Timestamp> {
    let limit = clock::now() + jiff::SignedDuration::from_secs(60);
    while clock::now() < limit {
        match host.served(MEDIA) {
            Ok(served) if served.fingerprint() != before => return Ok(clock::now()),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
    wait_for("another leaf", Duration::ZERO, || {
        Err::<Timestamp, _>("the same one")
    })
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1000.0
}
