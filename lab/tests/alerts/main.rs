//! Alerts, from a real cause to a message at a real receiver: every class, and what becomes of messages when the issuer is
//! killed, a receiver misbehaves, somebody acknowledges or silences, or nobody does.

mod ahead;
mod classes;
mod clock;
mod crashes;
mod deadman;
mod delivery;
mod ear;
mod late;
mod mail;
mod mended;
mod outside;
mod people;

use std::time::Duration;

use anyhow::Result;
use certwell_lab::{Host, MEDIA, MEDIA_DECLARED, Settings, World};

/// Longer than anything takes when all is well, on a busy machine of two cores.
const SOON: Duration = Duration::from_secs(60);

/// Everybody joins, and [`MEDIA`] is served by all hosts.
fn first_issuance(world: &mut World) -> Result<()> {
    world.join_all()?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    world.all_serve_new(MEDIA, None, SOON, |_: &Host| true)?;
    world.converged(MEDIA, 1, SOON)
}

/// One host, which [`MEDIA`] is declared on.
fn on_sally(world: &mut World) -> Result<()> {
    world.join_all()?;
    world.issuer.declare("20-media", &media_on_sally())?;
    world.all_serve_new(MEDIA, None, SOON, |_: &Host| true)?;
    world.converged(MEDIA, 1, SOON)
}

fn media_on_sally() -> String {
    format!("[certificate.\"{MEDIA}\"]\nhosts = [\"sally\"]\n")
}

fn sally() -> Settings {
    Settings::default().only(&["sally"])
}
