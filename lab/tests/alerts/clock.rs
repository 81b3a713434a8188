//! The clock of the issuer's machine goes wrong while it runs.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{
    MEDIA, Settings, World,
    clock::{MachineClock, now},
    story, wait_for,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    SOON,
    classes::{comes_of, listening},
    ear::{Ear, Heard, Speed, drill, tell},
    on_sally, sally,
};

/// There while systemd's time service says that it keeps the machine's clock: then a step back is its own work.
const KEPT: &str = "/run/systemd/timesync/synchronized";

/// Told in whole minutes, as three of them.
const AHEAD: SignedDuration = SignedDuration::from_secs(200);
/// As ten of them.
const BACK: SignedDuration = SignedDuration::from_secs(-630);

/// The issuer on a machine whose clock is right, so far.
fn clocked(world: &mut World) -> Result<(MachineClock, Ear)> {
    let clock = MachineClock::new(world.directory())?;
    world.issuer.stop();
    world.issuer.set_clock(clock.clone());
    world.issuer.serve()?;
    Ok((clock, listening(world)?))
}

#[test]
pub(crate) fn a_clock_that_goes_wrong() -> Result<()> {
    // One host alone may be the one that is wrong.
    let settings = Settings::default().only(&["sally", "esme"]);
    story("alert-clock", &settings, |world| {
        let (clock, ear) = clocked(world)?;
        world.join_all()?;
        let both = format!("[certificate.\"{MEDIA}\"]\nhosts = [\"sally\", \"esme\"]\n");
        world.issuer.declare("20-media", &both)?;
        world.converged(MEDIA, 1, SOON)?;
        let told = comes_of(&ear, Class::IssuerClock, || {
            clock.set_off(AHEAD)?;
            // It shows by what hosts say next.
            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew").map(drop)
        })?;
        let cause = told.text("cause");
        let by = "by the clocks of 2 of 2 hosts it is 3 minutes ahead";
        ensure!(cause.contains(by), "{cause}");
        ensure!(told.severity == "page", "{told:?}");
        Ok(())
    })
}

#[test]
pub(crate) fn a_clock_that_was_set_back() -> Result<()> {
    if Path::new(KEPT).exists() {
        println!("SKIPPED: {KEPT} says that nothing sets this machine's clock wrong");
        return Ok(());
    }
    story("alert-clock-back", &sally(), |world| {
        let (clock, ear) = clocked(world)?;
        on_sally(world)?;
        let told = comes_of(&ear, Class::IssuerClock, || clock.set_off(BACK))?;
        let cause = told.text("cause");
        ensure!(cause.contains("by this clock is yet to come"), "{cause}");
        ensure!(told.severity == "page", "{told:?}");
        Ok(())
    })
}

#[test]
pub(crate) fn a_clock_that_was_set_back_before_anything_happened() -> Result<()> {
    if Path::new(KEPT).exists() {
        println!("SKIPPED: {KEPT} says that nothing sets this machine's clock wrong");
        return Ok(());
    }
    story("alert-clock-new", &sally(), |world| {
        let (clock, ear) = clocked(world)?;
        let told = comes_of(&ear, Class::IssuerClock, || clock.set_off(BACK))?;
        let cause = told.text("cause");
        ensure!(cause.contains("was set back by 10 minutes"), "{cause}");
        Ok(())
    })
}

#[test]
fn a_clock_that_was_ahead_and_is_set_right_keeps_nothing_back() -> Result<()> {
    story("alert-clock-right", &sally(), |world| {
        let clock = MachineClock::new(world.directory())?;
        clock.set_off(SignedDuration::from_hours(24))?;
        world.issuer.stop();
        world.issuer.set_clock(clock.clone());
        world.issuer.serve()?;
        let ear = Ear::listen(world, "hook", 0)?;
        let speed = Speed {
            repeat_first: "2s",
            repeat_min: "2s",
            ..Speed::default()
        };
        tell(world, &[&ear], &speed, "")?;
        drill(world)?;
        ear.wait("the drill", SOON, |heard| heard.class == "drill")?;
        clock.set_off(SignedDuration::ZERO)?;
        wait_for("the issuer to go by it", SOON, || {
            let silence = [
                "alerts", "silence", "--host", "sally", "--for", "1s", "--json",
            ];
            let said = world.issuer.certwell(&silence)?.success("silence")?;
            let said: serde_json::Value = serde_json::from_str(&said.stdout)?;
            let since = said["silence"]["since"].as_str().context("no since")?;
            let ahead = since.parse::<Timestamp>()?.duration_since(now());
            ensure!(ahead < SignedDuration::from_hours(1), "{ahead} ahead");
            Ok::<_, anyhow::Error>(())
        })?;
        // Not those that say that the clock was set back.
        let is_drill = |heard: &Heard| heard.class == "drill";
        let heard = ear.heard();
        let last = heard
            .iter()
            .filter(|heard| is_drill(heard))
            .map(|heard| heard.number);
        let last = last.max().context("no drill")?;
        ear.wait("two more", SOON, |heard| {
            is_drill(heard) && heard.number == last + 2
        })?;
        Ok(())
    })
}
