//! The incident of 2023-02-28, each act on a fleet of its own. Where this machine can't boot whole Debian hosts, each
//! test says so and is skipped.

use anyhow::Result;
use certwell_lab::{
    debian::{self, able},
    incident::{self, Act, LIFE, Stage},
};

fn play(test: &str, act: Act) -> Result<()> {
    if !able::or_skip(test) {
        return Ok(());
    }
    debian::story(&format!("incident-{}", act.name()), LIFE, move |fleet| {
        let tell = |line: &str| println!("{line}");
        incident::open(fleet, &tell)?;
        act.play(&mut Stage::new(fleet, &tell))
    })
}

#[test]
fn twenty_renewals_under_a_stream_of_requests_lose_none() -> Result<()> {
    play(
        "twenty_renewals_under_a_stream_of_requests_lose_none",
        Act::Outage,
    )
}

#[test]
fn the_loop_of_that_night_takes_longer_than_certwell() -> Result<()> {
    play(
        "the_loop_of_that_night_takes_longer_than_certwell",
        Act::OldWay,
    )
}
