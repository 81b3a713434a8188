//! Act 5: fritz dies, and its disk with it. The edges serve on and raise their own alarm; a new fritz is restored from
//! a backup that is older than what has happened since, and the fleet goes on.

mod off;
mod pager;
mod restored;

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};

use self::{
    off::die,
    restored::{goes_on, identities, let_back, nothing_refused, restart, rise, stays_revoked},
};
use super::{
    DECLARED, Stage,
    ledgers::{self, Ledgers},
};
use crate::{
    MEDIA,
    debian::{
        Fleet,
        fleet::{self, BACKUPS, SOON},
    },
    wait::wait_for,
};

/// Comes to be after the backup.
const ASSETS: &str = "assets.hachyderm.io";
const ASSETS_SITE: &str = "/etc/nginx/sites-enabled/assets";
const ASSETS_FILE: &str = "/etc/certwell/conf.d/30-assets.toml";
/// Is revoked after the backup.
const REVOKED: &str = "esme";

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    pager::hand_out(stage.fleet)?;
    stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
    back_up(stage)?;
    forgotten(stage)?;
    let ledgers = Ledgers::watch(stage.fleet);
    let died = die(stage)?;
    pager::everybody_was_paged(stage)?;
    let lost = highest(stage.fleet)?;
    let identities = identities(stage.fleet)?;
    let issued = stage.fleet.world.issued()?;
    let started = rise(stage)?;
    goes_on(stage, &lost, started, issued)?;
    stays_revoked(stage.fleet)?;
    ensure!(
        identities == restored::identities(stage.fleet)?,
        "an identity is another one now: a host has enrolled again"
    );
    nothing_refused(stage, died)?;
    let seen = ledgers.stop();
    for line in &seen.backwards {
        stage.tell(line);
    }
    stage.figure("looks at the edges' ledgers", seen.looks);
    stage.none("generations that went backwards", seen.backwards.len())?;
    let_back(stage)?;
    pager::everybody_hears_that_it_is_over(stage.fleet)?;
    restart(stage)?;
    clear(stage.fleet)
}

/// A backup by the shipped service while a renewal runs; the timer is scheduled.
fn back_up(stage: &mut Stage<'_>) -> Result<()> {
    let fleet = &stage.fleet;
    scheduled(fleet)?;
    // Its hour may be now, and what follows is what a backup doesn't know.
    fleet
        .fritz
        .shell("systemctl stop certwell-issuer-backup.timer")?;
    let (before, made) = (fleet.converged(MEDIA, 1, SOON, |_| true)?, backups(fleet)?);
    fleet.renew(MEDIA)?;
    fleet
        .fritz
        .shell("systemctl start certwell-issuer-backup.service")?;
    fleet.converged(MEDIA, before + 1, SOON, |_| true)?;
    ensure!(backups(fleet)? == made + 1, "there is no backup");
    stage.tell(
        "fritz: certwell-issuer-backup.service, in the middle of a renewal; its timer is scheduled",
    );
    Ok(())
}

fn scheduled(fleet: &Fleet) -> Result<()> {
    let next = fleet.fritz.shell(
        "systemctl is-active -q certwell-issuer-backup.timer; \
         systemctl list-timers --no-legend certwell-issuer-backup.timer",
    )?;
    ensure!(
        next.contains("certwell-issuer-backup.service") && !next.trim_start().starts_with('-'),
        "the timer isn't scheduled: {next:?}"
    );
    Ok(())
}

fn backups(fleet: &Fleet) -> Result<usize> {
    let entries = fs::read_dir(fleet.fritz.path(BACKUPS))?;
    Ok(entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("certwell-2")
        })
        .count())
}

/// What the backup doesn't know: a certificate of a new name, a generation of the old one, a revocation.
fn forgotten(stage: &mut Stage<'_>) -> Result<()> {
    let fleet = &stage.fleet;
    declare_assets(fleet)?;
    for edge in &fleet.edges {
        // The placeholder, with which nginx takes the vhost.
        wait_for("a certificate for the new vhost", SOON, || {
            let live = edge.path(&format!("/etc/certwell/live/{ASSETS}"));
            ensure!(live.symlink_metadata().is_ok(), "not there");
            Ok::<_, anyhow::Error>(())
        })?;
        // Whoever writes a new vhost has it answer the CA from the beginning.
        let first = "    listen 80;\n";
        let site = fleet::site(ASSETS);
        let answers = format!("    include snippets/certwell-acme.conf;\n{first}");
        ensure!(site.contains(first), "{site}");
        edge.write(ASSETS_SITE, site.replacen(first, &answers, 1))?;
        edge.shell("nginx -q -t; systemctl reload nginx")?;
    }
    let assets = fleet.converged(ASSETS, 1, SOON, |_| true)?;
    let before = fleet.converged(MEDIA, 1, SOON, |_| true)?;
    fleet.renew(MEDIA)?;
    let media = fleet.converged(MEDIA, before + 1, SOON, |_| true)?;
    fleet
        .certwell(&["hosts", "revoke", REVOKED, "--yes"])?
        .success("certwell hosts revoke")?;
    let log = fs::read_to_string(fleet.fritz.path(&format!("{BACKUPS}/revoked.log")))?;
    ensure!(
        log.contains(REVOKED),
        "the revocation isn't beside the backups: {log:?}"
    );
    stage.tell(format!(
        "after the backup: {MEDIA} is renewed (generation {media}), {ASSETS} is issued (generation {assets}), {REVOKED} is revoked"
    ));
    Ok(())
}

/// The newest generation of each that any edge has ever had.
fn highest(fleet: &Fleet) -> Result<BTreeMap<&'static str, u64>> {
    let mut found = BTreeMap::from([(MEDIA, 0), (ASSETS, 0)]);
    for edge in &fleet.edges {
        let ledger = ledgers::ledger(edge)?;
        for (name, highest) in &mut found {
            let (_, theirs) = ledger.get(*name).copied().unwrap_or_default();
            *highest = theirs.max(*highest);
        }
    }
    Ok(found)
}

fn declare_assets(fleet: &Fleet) -> Result<()> {
    let name = ASSETS_FILE.rsplit('/').next().unwrap_or_default();
    fleet.declare(
        name.trim_end_matches(".toml"),
        &DECLARED.replace(MEDIA, ASSETS),
    )
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    })
}

/// As it was before the act.
fn clear(fleet: &Fleet) -> Result<()> {
    for edge in &fleet.edges {
        edge.shell(&format!(
            "rm {ASSETS_SITE}; nginx -q -t; systemctl reload nginx"
        ))?;
    }
    fs::remove_file(fleet.fritz.path(ASSETS_FILE))?;
    wait_for("the certificate to be undeclared", SOON, || {
        let status = fleet.status()?;
        ensure!(
            status.certificate(ASSETS).is_none(),
            "it is in status still"
        );
        Ok::<_, anyhow::Error>(())
    })?;
    fleet.converged(MEDIA, 1, SOON, |_| true)?;
    Ok(())
}
