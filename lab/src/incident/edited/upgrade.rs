//! nginx is upgraded by apt: by itself, and in the middle of renewals.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::Scene;
use crate::{clock, debian::fleet::SOON};

const A_MOMENT: Duration = Duration::from_millis(100);
const REPACK: &str = include_str!("repack.sh");

pub(super) fn play(scene: &mut Scene<'_, '_>) -> Result<()> {
    scene.tell("apt-get install of a newer nginx");
    let (ended, generation) = upgrade(scene, "+certwell1", |_| {
        thread::sleep(A_MOMENT);
        Ok(())
    })?;
    let said = "status says nothing";
    scene.mended("nginx upgraded by apt", said, ended, generation)?;
    let generation = scene.renew()?;
    scene.since(generation)?;

    scene.tell("once more, with renewals all the while");
    let mut renewals = 0;
    let (ended, generation) = upgrade(scene, "2", |scene| {
        renewals += 1;
        scene.renew().map(drop)
    })?;
    let what = format!("nginx upgraded by apt in the middle of {renewals} renewals");
    scene.mended(&what, said, ended, generation).map(drop)
}

/// Upgrades, and does something all the while; answers when it ended, and the newest generation.
fn upgrade(
    scene: &Scene<'_, '_>,
    suffix: &str,
    mut meanwhile: impl FnMut(&Scene<'_, '_>) -> Result<()>,
) -> Result<(Timestamp, u64)> {
    let edge = scene.edge()?;
    let before = version(scene)?;
    let upgraded = thread::scope(|scope| {
        let upgrade =
            scope.spawn(|| edge.run_with(["sh", "-c", REPACK, "repack", suffix], "", SOON));
        let mut done = meanwhile(scene);
        while done.is_ok() && !upgrade.is_finished() {
            done = meanwhile(scene);
        }
        let upgraded = upgrade
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        upgraded?.success("apt-get install")?;
        done.map(|()| clock::now())
    });
    let ended = upgraded?;
    let after = version(scene)?;
    ensure!(
        after == format!("{before}{suffix}"),
        "{before} became {after}"
    );
    let generation = scene.converged()?;
    let serves = edge.shell("readlink /proc/$(cat /run/nginx.pid)/exe")?;
    let same =
        edge.shell("[ /proc/$(cat /run/nginx.pid)/exe -ef /usr/sbin/nginx ] && echo same || :")?;
    ensure!(
        same.trim() == "same" && !serves.contains("deleted"),
        "{} is served by {}",
        scene.edited,
        serves.trim()
    );
    scene.tell(format!("{after} runs, and serves generation {generation}"));
    Ok((ended, generation))
}

fn version(scene: &Scene<'_, '_>) -> Result<String> {
    let said = scene
        .edge()?
        .shell("dpkg-query -W -f '${Version}' nginx")
        .context("the version of nginx")?;
    Ok(said.trim().to_owned())
}
