//! A new fritz, and the fleet that goes on.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;
use jiff::{SignedDuration, Timestamp};

use super::{ASSETS, REVOKED, backups, declare_assets, extremes, scheduled};
use crate::{
    MEDIA, clock,
    debian::{
        Fleet, Machine,
        fleet::{self, BACKUPS, SOON},
    },
    incident::{
        Stage,
        ledgers::{self, said, said_when},
    },
    wait::wait_for,
};

const IDENTITY: &str = "/var/lib/certwell-agent/identity";
const CONNECTED: &str = "connected to the issuer";
/// What an edge says of a dial that came to nothing; of the loss of its stream it says the same with `failures=0`.
const IN_VAIN: &str = "no connection to the issuer";
const LOSS: &str = "failures=0";
/// A stream that lived so long was an established one, and spreads its reconnect.
const ESTABLISHED: SignedDuration = SignedDuration::from_secs(12);

/// A new fritz: a new disk, the package, the backup. When its issuer was started.
pub(super) fn rise(stage: &mut Stage<'_>) -> Result<Timestamp> {
    let key = stage.fleet.recovery_key()?;
    let began = clock::now();
    let fritz = &mut stage.fleet.fritz;
    fritz.lose_disk()?;
    fleet::bare_issuer(fritz)?;
    fritz.boot()?;
    stage.tell("its disk is lost; a new machine of the same name and address is on");
    let fleet = &stage.fleet;
    // Users have other numbers on another machine.
    fleet
        .fritz
        .shell("useradd --system --no-create-home another")?;
    fleet::install(&fleet.fritz, &fleet.packages.issuer)?;
    fleet
        .fritz
        .write("/etc/certwell/pebble-roots.pem", fleet.world.roots()?)?;
    let said = fleet
        .fritz
        .run_with(
            ["certwell-issuer", "restore", "--from", BACKUPS],
            &key,
            SOON,
        )?
        .success("certwell-issuer restore")?;
    ensure!(said.stdout.contains(REVOKED), "{}", said.stdout);
    // Declared after the backup, and kept elsewhere.
    declare_assets(fleet)?;
    fleet
        .fritz
        .run(["certwell-issuer", "check"])?
        .success("certwell-issuer check")?;
    let started = clock::now();
    fleet
        .fritz
        .shell("systemctl start certwell-issuer; systemctl is-enabled -q certwell-issuer")?;
    stage.figure(
        "from an empty disk to a started issuer",
        format!("{:.1} s", (started - began).as_secs_f64()),
    );
    Ok(started)
}

/// The first and the last of the hosts that say so, in seconds since then.
fn reconnected(
    fleet: &Fleet,
    since: Timestamp,
    wanted: impl Fn(&str) -> bool,
) -> Result<(f64, f64)> {
    let mut after = Vec::new();
    for edge in fleet.edges.iter().filter(|edge| wanted(&edge.name)) {
        let what = format!("{} to be connected", edge.name);
        after.push(wait_for(&what, SOON, || {
            let first = said_when(edge, since, CONNECTED)?.into_iter().next();
            let first = first.context("it isn't")?;
            Ok::<_, anyhow::Error>((first - since).as_secs_f64())
        })?);
    }
    Ok(extremes(after.into_iter()))
}

fn others(host: &str) -> bool {
    host != REVOKED
}

/// The fleet goes on: what the backup had forgotten is issued once more, once, and named.
pub(super) fn goes_on(
    stage: &mut Stage<'_>,
    lost: &BTreeMap<&str, u64>,
    started: Timestamp,
    issued: usize,
) -> Result<()> {
    let fleet = &stage.fleet;
    let (first, last) = reconnected(fleet, started, others)?;
    let mut names = Vec::new();
    for (name, generation) in lost {
        let next = fleet.converged(name, generation + 1, SOON, others)?;
        ensure!(
            next == generation + 1,
            "{name} is at generation {next}, after {generation}"
        );
        names.push(format!("{name} as generation {next}"));
    }
    let took = (clock::now() - started).as_secs_f64();
    let orders = fleet.world.issued()? - issued;
    ensure!(
        orders == lost.len(),
        "{orders} certificates were issued, not one for each that was lost"
    );
    let events = fleet.events()?;
    let told = |part: &str| {
        let recovery = events.iter().filter(|event| event.kind == "recovery");
        recovery.filter(|event| event.text.contains(part)).count()
    };
    ensure!(told("restored from") == 1, "{events:#?}");
    for (name, generation) in lost {
        let once_more = format!("issued once more, as generation {}", generation + 1);
        let named = events.iter().filter(|event| {
            event.certificate.as_deref() == Some(*name) && event.text.contains(&once_more)
        });
        ensure!(named.count() == 1, "{name} isn't named: {events:#?}");
    }
    stage.tell(format!("issued once more, and named: {}", names.join(", ")));
    stage.figure(
        "from the issuer's start until the first and the last edge was connected",
        format!("{first:.2} and {last:.2} s"),
    );
    stage.figure(
        "from the issuer's start until new certificates were served",
        format!("{took:.1} s"),
    );
    stage.figure("certificates issued once more", orders);
    // The new machine makes backups, and revocations are written beside them.
    let fleet = &stage.fleet;
    scheduled(fleet)?;
    fleet
        .fritz
        .shell("systemctl start certwell-issuer-backup.service")?;
    ensure!(backups(fleet)? == 2, "the new machine has made no backup");
    Ok(())
}

/// The host that was revoked after the backup is refused, and serves what it has.
pub(super) fn stays_revoked(fleet: &Fleet) -> Result<()> {
    let shown = fleet.certwell(&["hosts", "show", REVOKED])?;
    ensure!(shown.stdout.contains("revoked"), "{}", shown.stdout);
    wait_for("the revoked host to be refused", SOON, || {
        let edge = fleet.edge(REVOKED)?;
        let status = edge.run(["certwell-agent", "status"])?;
        ensure!(
            status.stdout.contains("the issuer refuses this host"),
            "{}",
            status.stdout
        );
        Ok(())
    })
}

/// The identities of all edges, byte for byte.
pub(super) fn identities(fleet: &Fleet) -> Result<BTreeMap<String, Fingerprint>> {
    let mut found = BTreeMap::new();
    for edge in &fleet.edges {
        for entry in fs::read_dir(edge.path(IDENTITY))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = format!("{}/{}", edge.name, entry.file_name().display());
                found.insert(name, Fingerprint::of(&fs::read(entry.path())?));
            }
        }
    }
    ensure!(found.len() >= fleet.edges.len(), "{found:?}");
    Ok(found)
}

/// No host was offered what it has left behind, and none has a problem.
pub(super) fn nothing_refused(stage: &Stage<'_>, since: Timestamp) -> Result<()> {
    for edge in stage.fleet.edges.iter().filter(|edge| others(&edge.name)) {
        for line in said(edge, since)? {
            ensure!(
                ![
                    "what is served stays",
                    "an old copy of the issuer",
                    "refuses this host"
                ]
                .iter()
                .any(|part| line.text.contains(part)),
                "{}: {}",
                edge.name,
                line.text
            );
        }
        let ledger = ledgers::ledger(edge)?;
        stage.tell(format!("{}: {ledger:?}", edge.name));
    }
    wait_for("no problem but that of the revoked host", SOON, || {
        for certificate in stage.fleet.status()?.certificates {
            for host in certificate.hosts.iter().filter(|host| others(&host.host)) {
                ensure!(host.problem.is_none(), "{host:?}");
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    stage.tell(format!(
        "nobody has enrolled again, nobody was refused but {REVOKED}, which is revoked still"
    ));
    Ok(())
}

/// The revoked host comes back by a new token.
pub(super) fn let_back(stage: &mut Stage<'_>) -> Result<()> {
    let fleet = &stage.fleet;
    let token = fleet.token(REVOKED)?;
    fleet
        .edge(REVOKED)?
        .run_with(["certwell-agent", "enroll", "--again", "-"], &token, SOON)?
        .success("certwell-agent enroll --again")?;
    for name in [MEDIA, ASSETS] {
        fleet.converged(name, 1, SOON, |_| true)?;
    }
    stage.tell(format!(
        "{REVOKED} is let back by a new token, and serves what the others do"
    ));
    Ok(())
}

/// When an edge dialled, whatever came of it, in seconds since then.
fn first_dial(edge: &Machine, since: Timestamp) -> Result<f64> {
    let mut lines = said(edge, since)?.into_iter();
    let dial = lines.find(|line| {
        let in_vain = line.text.contains(IN_VAIN) && !line.text.contains(LOSS);
        in_vain || line.text.contains(CONNECTED)
    });
    let dial = dial.with_context(|| format!("{} has not dialled", edge.name))?;
    Ok((dial.at - since).as_secs_f64())
}

/// A restart of the issuer, which cuts four established streams: they come back one after the other.
pub(super) fn restart(stage: &mut Stage<'_>) -> Result<()> {
    let fleet = &stage.fleet;
    wait_for("four streams that are established", SOON, || {
        for edge in &fleet.edges {
            let recent = said_when(edge, clock::now() - ESTABLISHED, CONNECTED)?;
            ensure!(recent.is_empty(), "{} has just connected", edge.name);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let began = clock::now();
    fleet.fritz.shell("systemctl restart certwell-issuer")?;
    let (first, last) = reconnected(fleet, began, |_| true)?;
    let dials = fleet.edges.iter().map(|edge| first_dial(edge, began));
    let dials: Vec<f64> = dials.collect::<Result<_>>()?;
    let (soonest, latest) = extremes(dials.into_iter());
    stage.figure(
        "first and last of the first dials after a restart of the issuer",
        format!("{soonest:.2} and {latest:.2} s"),
    );
    ensure!(
        latest - soonest > 0.02,
        "four hosts dialled in one instant, {soonest:.3} s later"
    );
    stage.figure(
        "first and last reconnect after a restart of the issuer",
        format!("{first:.2} and {last:.2} s"),
    );
    Ok(())
}
