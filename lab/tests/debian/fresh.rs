//! From six bare hosts to a fleet that serves, by the README's steps and nothing else.

use std::time::Duration;

use anyhow::ensure;
use certwell_lab::{
    MEDIA,
    debian::{self, fleet::SOON},
};

#[test]
fn the_packages_and_the_readmes_steps_make_a_fleet_that_serves() {
    let test = "the_packages_and_the_readmes_steps_make_a_fleet_that_serves";
    if !crate::able(test) {
        return;
    }
    debian::story("debian-fresh", Duration::from_secs(3600), |fleet| {
        fleet.set_up(&|line| eprintln!("{line}"))?;
        fleet.declare(
            "20-media",
            &format!("[certificate.\"{MEDIA}\"]\nhosts = [\"label:edge\"]\n"),
        )?;
        fleet.converged(MEDIA, 1, SOON, |_| true)?;
        fleet.common_leaf()?;
        for machine in fleet.machines() {
            let state = machine.run(["systemctl", "is-system-running"])?;
            ensure!(
                state.stdout.trim() == "running",
                "{}: {}",
                machine.name,
                state.stdout
            );
        }
        Ok(())
    })
    .unwrap();
}
