//! `kill -9` of the issuer at each stage of an order: exactly one order of each intent is finalized.

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World,
    gate::{Side, Stage},
    story,
};

use crate::{SOON, media_on};

const STAGES: [(Stage, Side); 11] = [
    (Stage::Order, Side::Request),
    (Stage::Order, Side::Answer),
    (Stage::Authorization, Side::Request),
    (Stage::Challenge, Side::Request),
    (Stage::Challenge, Side::Answer),
    (Stage::Poll, Side::Request),
    (Stage::Poll, Side::Answer),
    (Stage::Finalize, Side::Request),
    (Stage::Finalize, Side::Answer),
    (Stage::Certificate, Side::Request),
    (Stage::Certificate, Side::Answer),
];

#[test]
fn a_kill_at_each_stage_of_an_order_finalizes_exactly_one() -> Result<()> {
    let settings = Settings {
        gated: true,
        ..Settings::default()
    }
    .only(&["sally"]);
    story("crashes", &settings, |world| {
        world.join_all()?;
        // The account is made by the first order of all: killed before the CA hears of it, then before we do.
        arm(world, Stage::Account, Side::Request)?;
        world.issuer.declare("20-media", &media_on(&["sally"]))?;
        kill(world)?;
        arm(world, Stage::Account, Side::Answer)?;
        world.issuer.serve()?;
        kill(world)?;
        world.issuer.serve()?;
        world.converged(MEDIA, 1, SOON)?;
        ensure!(world.ca.issued() == 1);
        ensure!(
            world.ca.accounts() == 1,
            "{} accounts were made; the key was committed before",
            world.ca.accounts()
        );

        for (generation, (stage, side)) in (2..).zip(STAGES) {
            round(world, generation, stage, side)
                .with_context(|| format!("killed at {stage:?}, {side:?}"))?;
        }
        Ok(())
    })
}

fn round(world: &mut World, generation: u64, stage: Stage, side: Side) -> Result<()> {
    let before = world.host("sally")?.served(MEDIA)?;
    let orders = world.ca.orders();
    arm(world, stage, side)?;
    world
        .issuer
        .certwell(&["certificates", "renew", MEDIA])?
        .success("certwell certificates renew")?;
    kill(world)?;
    world.issuer.serve()?;
    world.all_serve_new(MEDIA, Some(before.fingerprint()), SOON, |_| true)?;
    world.converged(MEDIA, generation, SOON)?;
    let issued = u64::try_from(world.ca.issued())?;
    ensure!(
        issued == generation,
        "{issued} certificates were issued for {generation} intents"
    );
    let placed = world.ca.orders() - orders;
    // An order whose answer was lost can't be known of; every other one is resumed by its URL.
    let allowed = if (stage, side) == (Stage::Order, Side::Answer) {
        2
    } else {
        1
    };
    ensure!(placed <= allowed, "{placed} orders were placed");
    Ok(())
}

fn arm(world: &World, stage: Stage, side: Side) -> Result<()> {
    world.gate.as_ref().context("no gate")?.arm(stage, side);
    Ok(())
}

/// Waits until the request is held, kills the issuer, and lets go.
fn kill(world: &mut World) -> Result<()> {
    world.gate.as_ref().context("no gate")?.wait_held(SOON)?;
    world.issuer.kill9()?;
    world.gate.as_ref().context("no gate")?.open();
    Ok(())
}
