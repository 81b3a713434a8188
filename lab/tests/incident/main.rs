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

// The longest, and by its name the first to begin.
#[test]
fn a_fleet_that_renews_twenty_times_under_requests_loses_none() -> Result<()> {
    play(
        "a_fleet_that_renews_twenty_times_under_requests_loses_none",
        Act::Outage,
    )
}

#[test]
fn a_geo_name_stays_as_it_is_and_an_edge_that_is_off_holds_no_issuance_up_or_is_named() -> Result<()>
{
    play(
        "a_geo_name_stays_as_it_is_and_an_edge_that_is_off_holds_no_issuance_up_or_is_named",
        Act::Dns,
    )
}

#[test]
fn an_edge_that_slept_until_its_certificate_was_over_serves_the_current_one_seconds_after_its_boot()
-> Result<()> {
    play(
        "an_edge_that_slept_until_its_certificate_was_over_serves_the_current_one_seconds_after_its_boot",
        Act::Expired,
    )
}

#[test]
fn hosts_that_all_lose_their_power_in_a_renewal_converge_and_none_has_a_mixed_pair() -> Result<()> {
    play(
        "hosts_that_all_lose_their_power_in_a_renewal_converge_and_none_has_a_mixed_pair",
        Act::Storm,
    )
}

#[test]
fn an_edge_under_somebody_s_hands_converges_or_says_why_not_and_the_others_notice_nothing()
-> Result<()> {
    play(
        "an_edge_under_somebody_s_hands_converges_or_says_why_not_and_the_others_notice_nothing",
        Act::Edited,
    )
}

#[test]
fn the_loop_of_that_night_takes_longer_than_certwell() -> Result<()> {
    play(
        "the_loop_of_that_night_takes_longer_than_certwell",
        Act::OldWay,
    )
}

#[test]
fn fritz_dies_and_the_fleet_goes_on_from_a_backup() -> Result<()> {
    play(
        "fritz_dies_and_the_fleet_goes_on_from_a_backup",
        Act::IssuerLost,
    )
}
