//! A daemon that fails again and again is started ever later, by the systemd of both releases.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{debian::Machine, wait::wait_for};

use crate::packages::{begin_fleet_of_one, on_both, settled};

/// The first four starts take 35 seconds.
const SOON: Duration = Duration::from_secs(120);
const UNITS: [(&str, &str); 2] = [
    ("certwell-agent", "/etc/certwell/agent.toml"),
    ("certwell-issuer", "/etc/certwell/issuer.toml"),
];

fn shown(host: &Machine, unit: &str, property: &str) -> Result<String> {
    let said = host.shell(&format!("systemctl show --value -p {property} {unit}"))?;
    Ok(said.trim().to_owned())
}

#[test]
fn a_daemon_that_fails_again_and_again_is_started_ever_later_and_by_hand_at_once() {
    let test = "a_daemon_that_fails_again_and_again_is_started_ever_later_and_by_hand_at_once";
    if !crate::able(test) {
        return;
    }
    on_both("debian-back-off", |host, packages| {
        begin_fleet_of_one(host, packages)?;
        let started = |unit| shown(host, unit, "ExecMainStartTimestampMonotonic");
        let good = [started(UNITS[0].0)?, started(UNITS[1].0)?];
        for (unit, file) in UNITS {
            host.shell(&format!(
                "cp {file} {file}.good && echo 'what = is = this' >>{file} && systemctl --no-block restart {unit}"
            ))?;
        }
        let mut starts: [BTreeSet<u64>; 2] = Default::default();
        wait_for("four starts of each", SOON, || {
            for ((unit, _), starts) in UNITS.iter().zip(&mut starts) {
                let start = started(unit)?;
                // Before a start, while it waits, there is none.
                if start != "0" && !good.contains(&start) {
                    starts.insert(start.parse()?);
                }
            }
            ensure!(starts.iter().all(|starts| starts.len() >= 4), "{starts:?}");
            Ok(())
        })?;
        for ((unit, file), starts) in UNITS.iter().zip(&starts) {
            let starts: Vec<u64> = starts.iter().copied().collect();
            let pauses: Vec<u64> = starts
                .windows(2)
                .map(|two| (two[1] - two[0]) / 1_000_000)
                .collect();
            println!("{}: {unit} starts after pauses of {pauses:?} s", host.name);
            for (pause, least) in pauses.iter().zip([5, 10, 20]) {
                ensure!(*pause >= least, "{unit} waits {pauses:?} s");
            }
            let line = format!("{unit} restarts in 35 s");
            let told = "it fails again and again: the next start is in 35 s";
            wait_for(&line, SOON, || {
                let said = host.run(["systemctl", "status", "--no-pager", unit])?.stdout;
                ensure!(said.contains(told), "{said}");
                Ok(())
            })?;
            let restarts: u32 = shown(host, unit, "NRestarts")?.parse()?;
            ensure!(restarts == 4, "{unit}: {restarts} restarts");
            // Whoever has mended it doesn't wait: the pause would end after that of this question's limit.
            host.shell(&format!("mv {file}.good {file} && timeout 20 systemctl restart {unit}"))
                .context("a restart by hand")?;
            let now = (shown(host, unit, "ActiveState")?, shown(host, unit, "NRestarts")?);
            ensure!(now == ("active".to_owned(), "0".to_owned()), "{unit}: {now:?}");
        }
        by_hand_between_two_starts(host)?;
        let unknown = host.shell("journalctl --no-pager -b | grep -iE 'unknown (key|lvalue)' || true")?;
        ensure!(unknown.is_empty(), "{unknown}");
        settled(host)
    })
    .unwrap();
}

/// Systemd doesn't begin its count anew for a restart in the five seconds before its own.
fn by_hand_between_two_starts(host: &Machine) -> Result<()> {
    host.write(
        "/etc/systemd/system/fails.service",
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=on-failure\nRestartSec=5s\nTimeoutStartSec=6min\n\
         ExecStartPre=-+/usr/libexec/certwell-agent/back-off %n %t/fails.pause\n\
         ExecStart=/bin/sh -c 'test -e /run/mended && exec sleep 600'\n",
    )?;
    host.shell("systemctl daemon-reload; systemctl --no-block start fails")?;
    wait_for("the third failure", SOON, || {
        let now = (
            shown(host, "fails", "SubState")?,
            shown(host, "fails", "NRestarts")?,
        );
        ensure!(
            now == ("auto-restart".to_owned(), "2".to_owned()),
            "{now:?}"
        );
        Ok(())
    })?;
    host.shell("touch /run/mended; timeout 4 systemctl restart fails")
        .context("a restart by hand between two starts")?;
    let kept = host.shell("cat /run/fails.pause")?;
    ensure!(kept.starts_with("0 "), "it would go on at {kept}");
    host.shell("systemctl stop fails; systemctl reset-failed fails || true")
        .map(drop)
}
