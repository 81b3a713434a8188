//! Stories of a whole fleet, one module each: black box, on real nginx and Pebble. They run in one binary so that
//! the long ones run beside the others.

mod alarm;
mod alone;
mod assignment;
mod bad_input;
mod bad_start;
mod certbot;
mod crashes;
mod inventory;
mod issuance;
mod metrics;
mod offline;
mod preflight;
mod restored;
mod rollback;
mod search;
mod secrecy;
mod seen;
mod validation;

use std::time::Duration;

use certwell_lab::{Host, MEDIA, MEDIA_DECLARED, World};

/// Longer than anything takes when all is well, on a busy machine of two cores.
const SOON: Duration = Duration::from_secs(60);

/// Everybody joins, [`MEDIA`] is declared and served everywhere.
fn first_issuance(world: &mut World) -> anyhow::Result<certwell_lab::probe::Served> {
    world.join_all()?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    let served = world.all_serve_new(MEDIA, None, SOON, |_| true)?;
    world.converged(MEDIA, 1, SOON)?;
    Ok(served)
}

/// Declares [`MEDIA`] on just these hosts.
fn media_on(hosts: &[&str]) -> String {
    format!("[certificate.\"{MEDIA}\"]\nhosts = {hosts:?}\n")
}

fn named(name: &'static str) -> impl Fn(&Host) -> bool {
    move |host| host.name == name
}
