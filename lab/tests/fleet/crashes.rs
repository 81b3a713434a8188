//! `kill -9` of the issuer at each stage of an order: exactly one order of each intent is finalized.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World,
    gate::{Side, Stage},
    story, wait_for,
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

        let mut generation = 1;
        for (stage, side) in STAGES {
            loop {
                generation += 1;
                let killed = round(world, generation, stage, side)
                    .with_context(|| format!("killed at {stage:?}, {side:?}"))?;
                if killed {
                    break;
                }
                println!(
                    "an old authorization served for this order: {stage:?} is tried with another"
                );
            }
        }
        Ok(())
    })
}

/// Whether the issuer came to this stage, and was killed there. Pebble takes an old authorization for one order in a
/// hundred even where it is told to take none (it asks whether a number from 0 to 99 is over 0): such an order has no
/// authorization to read and no challenge to answer.
fn round(world: &mut World, generation: u64, stage: Stage, side: Side) -> Result<bool> {
    let before = world.host("sally")?.served(MEDIA)?;
    let orders = world.ca.orders();
    arm(world, stage, side)?;
    world
        .issuer
        .certwell(&["certificates", "renew", MEDIA])?
        .success("certwell certificates renew")?;
    let may_be_left_out = matches!(stage, Stage::Authorization | Stage::Challenge);
    let came = !may_be_left_out || comes_to_it(world, generation)?;
    if came {
        kill(world)?;
        world.issuer.serve()?;
    } else {
        world.gate.as_ref().context("no gate")?.open();
    }
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
    Ok(came)
}

/// Waits until the request is held; false when the certificate was issued without it.
fn comes_to_it(world: &World, generation: u64) -> Result<bool> {
    let gate = world.gate.as_ref().context("no gate")?;
    wait_for("the request, or the certificate", SOON, || {
        if gate.wait_held(Duration::ZERO).is_ok() {
            return Ok(true);
        }
        let issued = u64::try_from(world.ca.issued())?;
        ensure!(issued == generation, "{:?}", gate.seen());
        Ok(false)
    })
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
