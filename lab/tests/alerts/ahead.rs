//! After a restore from a backup a host claims what can't be.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{MEDIA, World, story};
use serde_json::{Value, json};

use crate::{
    SOON,
    classes::{comes_of, ends, listening},
    on_sally, sally,
};

/// No issuer gets so far.
const TOO_FAR: u64 = 5_000;

#[test]
pub(crate) fn a_generation_that_cannot_be() -> Result<()> {
    story("alert-ahead", &sally(), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        let host = world.host_mut("sally")?;
        host.stop_agent();
        let ledger = host.agent_state().join("ledger.json");
        let good = fs::read_to_string(&ledger)?;
        run(world, &["backup"])?;
        restore(world)?;
        let told = comes_of(&ear, Class::TooFarAhead, || {
            claim(&ledger, TOO_FAR)?;
            world.host_mut("sally")?.start_agent()
        })?;
        ensure!(told.hosts() == ["sally"], "{told:?}");
        let cause = told.text("cause");
        ensure!(cause.contains("generation 5000"), "{cause}");
        // Whoever changed it puts it right.
        let host = world.host_mut("sally")?;
        host.stop_agent();
        fs::write(&ledger, good)?;
        host.start_agent()?;
        ends(&ear, &told)?;
        world.converged(MEDIA, 1, SOON)
    })
}

/// Somebody's hand in the ledger: it was fetched long ago, by what it says.
fn claim(ledger: &Path, generation: u64) -> Result<()> {
    let mut entries: Value = serde_json::from_slice(&fs::read(ledger)?)?;
    let fetched = entries
        .pointer_mut(&format!("/certificates/{MEDIA}/facts/fetched/generation"))
        .context("nothing was fetched")?;
    *fetched = json!(generation);
    Ok(fs::write(ledger, entries.to_string())?)
}

/// The issuer's disk is lost, and its configuration isn't.
fn restore(world: &mut World) -> Result<()> {
    world.issuer.kill9()?;
    fs::remove_dir_all(world.issuer.state())?;
    let printed = fs::read_to_string(world.directory().join("issuer.init"))?;
    let key = world.directory().join("recovery.key");
    fs::write(&key, printed.lines().next().unwrap_or_default())?;
    let (from, key) = (world.issuer.backups(), key.display().to_string());
    let from = from.display().to_string();
    run(
        world,
        &["restore", "--from", &from, "--recovery-key-file", &key],
    )?;
    world.issuer.serve()
}

fn run(world: &World, words: &[&str]) -> Result<()> {
    world
        .issuer
        .daemon(words)?
        .run(world.directory(), "", SOON)?
        .success(words[0])
        .map(drop)
}
