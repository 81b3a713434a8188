//! The issuer's disk is lost, and the issuer restored from a backup that is older than what happened.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{MEDIA, Settings, World, story, wait_for};

use crate::{SOON, media_on};

/// Enrolls after the backup.
const LATE: &str = "esme";
/// Is revoked after the backup.
const REVOKED: &str = "cdn-fremont-1";
const ALL: [&str; 4] = ["cdn-frankfurt-1", REVOKED, "sally", LATE];

#[test]
fn a_fleet_goes_on_from_a_backup_that_knows_neither_its_newest_generation_nor_its_newest_host()
-> Result<()> {
    let settings = Settings {
        renewal: "preflight-wait = \"1s\"\nretry-first = \"1s\"\nretry-max = \"5s\"\n".into(),
        ..Settings::default()
    };
    story("restored", &settings, |world| {
        for (index, name) in ALL.iter().enumerate() {
            ensure!(world.hosts[index].name == *name, "{index} isn't {name}");
        }
        for index in 0..3 {
            world.join(index)?;
        }
        let sally = world.addresses(|host| host.name == "sally");
        world.dns.set(MEDIA, &sally)?;
        let declared = media_on(&ALL) + "challenge-hosts = [\"sally\"]\n";
        world.issuer.declare("20-media", &declared)?;
        let first = world.all_serve_new(MEDIA, None, SOON, |host| host.name != LATE)?;
        run(world, &["backup"])?;

        // All this the backup doesn't know.
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("renew")?;
        let old = Some(first.fingerprint());
        let second = world.all_serve_new(MEDIA, old, SOON, |host| host.name != LATE)?;
        world.join(3)?;
        let late = world.all_serve_new(MEDIA, None, SOON, |host| host.name == LATE)?;
        ensure!(late == second);
        world
            .issuer
            .certwell(&["hosts", "revoke", REVOKED, "--yes"])?
            .success("revoke")?;

        // The disk is lost: configuration, key and store.
        world.issuer.kill9()?;
        fs::remove_dir_all(world.issuer.state())?;
        let etc = world.issuer.config();
        fs::remove_dir_all(etc.parent().context("no directory")?)?;
        let printed = fs::read_to_string(world.directory().join("issuer.init"))?;
        let key = world.directory().join("recovery.key");
        fs::write(&key, printed.lines().next().unwrap_or_default())?;
        let backups = world.issuer.backups().display().to_string();
        let key = key.display().to_string();
        let said = run(
            world,
            &["restore", "--from", &backups, "--recovery-key-file", &key],
        )?;
        ensure!(said.contains(REVOKED), "{said}");
        world.issuer.serve()?;

        let old = Some(second.fingerprint());
        let third = world.all_serve_new(MEDIA, old, SOON, |host| host.name != REVOKED)?;
        wait_for("the third generation everywhere but there", SOON, || {
            let status = world.issuer.status()?;
            let media = status.certificate(MEDIA).context("not in status")?;
            ensure!(media.generation == 3, "{media:?}");
            for host in ALL.iter().filter(|host| **host != REVOKED) {
                let host = media.host(host).context("not in status")?;
                ensure!(host.state == "converged", "{host:?}");
            }
            Ok(())
        })?;
        ensure!(
            third != second && world.ca.issued() == 3,
            "once more, and once"
        );
        ensure!(
            world.host(REVOKED)?.served(MEDIA)? == second,
            "it keeps what it had"
        );
        let shown = world.issuer.certwell(&["hosts", "show", REVOKED])?;
        ensure!(shown.stdout.contains("revoked"), "{}", shown.stdout);

        let events = world.issuer.events()?;
        let recovery = |part: &str| {
            events
                .iter()
                .filter(|event| event.kind == "recovery" && event.text.contains(part))
                .count()
        };
        ensure!(recovery("restored from") == 1, "{events:?}");
        ensure!(
            recovery("issued once more, as generation 3") == 1,
            "{events:?}"
        );
        ensure!(recovery("had enrolled after the backup") == 1, "{events:?}");
        ensure!(recovery("recovered: ") == 1, "{events:?}");
        // No host was ever offered what it has left behind.
        for host in &world.hosts {
            let log = fs::read_to_string(host.agent_log())?;
            ensure!(
                !log.contains("what is served stays"),
                "{}: {log}",
                host.name
            );
        }
        Ok(())
    })
}

/// Runs a verb of `certwell-issuer`; what it printed.
fn run(world: &World, words: &[&str]) -> Result<String> {
    let done = world
        .issuer
        .daemon(words)?
        .run(world.directory(), "", Duration::from_secs(30))?
        .success(words[0])?;
    Ok(done.stdout)
}
