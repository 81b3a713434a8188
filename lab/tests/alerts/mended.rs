//! Receivers that are well again, by themselves or by another line in a file; and silences that end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{receivers::Answer, story, wait_for};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    SOON,
    ear::{Ear, Speed, drill, tell},
    sally,
};

/// Sooner than the next try would have been.
const AT_ONCE: Duration = Duration::from_secs(20);
const LONG: SignedDuration = SignedDuration::from_secs(25);

#[test]
fn a_receiver_that_is_well_again_is_found_well_though_nothing_else_is_due_to_it() -> Result<()> {
    story("alerts-well", &sally(), |world| {
        let broken = Ear::listen(world, "broken", 0)?;
        let works = Ear::listen(world, "works", 1)?;
        broken.answer(Answer::Status(500, "no".into()));
        tell(world, &[&broken, &works], &Speed::default(), "")?;
        let id = drill(world)?;
        let failing = works.wait("that it is broken", SOON, |heard| {
            heard.class == "notifier-failing"
        })?;
        // That somebody knows of it is no reason not to try it.
        for id in [id, failing.id.to_string()] {
            let ack = ["alerts", "ack", &id, "--for", "1h"];
            world.issuer.certwell(&ack)?.success("ack")?;
        }
        broken.answer(Answer::fine());
        works.wait("that it is well again", SOON, |heard| {
            heard.class == "notifier-failing" && heard.state == "resolved"
        })?;
        Ok(())
    })
}

#[test]
fn a_receiver_that_is_mended_in_a_file_is_tried_at_once() -> Result<()> {
    story("alerts-mended", &sally(), |world| {
        let wrong = Ear::listen(world, "hook", 0)?;
        let right = Ear::listen(world, "hook", 1)?;
        wrong.answer(Answer::Status(404, "gone".into()));
        tell(world, &[&wrong], &Speed::default(), "")?;
        let id = drill(world)?;
        wait_for("a long pause", Duration::from_secs(120), || {
            let shown = world
                .issuer
                .certwell(&["alerts", "show", &id, "--json"])?
                .success("show")?;
            let shown: Value = serde_json::from_str(&shown.stdout)?;
            let next = shown["alert"]["deliveries"][0]["next_at"].clone();
            let next: Timestamp = next.as_str().context("no next")?.parse()?;
            ensure!(next > certwell_lab::clock::now() + LONG, "{shown}");
            Ok::<_, anyhow::Error>(())
        })?;
        tell(world, &[&right], &Speed::default(), "")?;
        right.wait("the drill", AT_ONCE, |heard| heard.class == "drill")?;
        Ok(())
    })
}

#[test]
fn what_was_told_before_a_silence_is_told_again_when_the_silence_ends() -> Result<()> {
    story("alerts-released", &sally(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        tell(world, &[&ear], &Speed::default(), "")?;
        drill(world)?;
        ear.wait("the drill", SOON, |heard| heard.number == 1)?;
        let silence = ["alerts", "silence", "--class", "drill", "--for", "3s"];
        world.issuer.certwell(&silence)?.success("silence")?;
        ear.wait("what is still so", SOON, |heard| heard.number == 2)?;
        Ok(())
    })
}
