//! The package is upgraded while an install is being confirmed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, clock,
    debian::{self, Fleet, Machine, fleet::SOON, fleet::install},
    incident::DECLARED,
    process::Process,
};

const ROUNDS: usize = 3;
/// What the package's postinst does, at the moment at which the new generation is active and not yet proven.
const RESTART_WHEN_ACTIVE: &str = r#"journalctl --follow --since="@$1" --output=cat -u certwell-agent | while read -r line; do
    case "$line" in activated*) deb-systemd-invoke restart certwell-agent.service; exit ;; esac
done"#;

#[test]
fn an_upgrade_lets_an_install_be_proven_before_the_agent_is_exchanged() -> Result<()> {
    let test = "an_upgrade_lets_an_install_be_proven_before_the_agent_is_exchanged";
    if !crate::able(test) {
        return Ok(());
    }
    debian::story("debian-in-flight", Duration::from_secs(3600), |fleet| {
        fleet.set_up(&|_| ())?;
        fleet.declare("20-media", DECLARED)?;
        let mut generation = fleet.converged(MEDIA, 1, SOON, |_| true)?;
        let sally = fleet.edge("sally")?;
        let log = fleet.directory().join("restart.log");
        for _ in 0..ROUNDS {
            let now = clock::now().as_microsecond();
            let since = format!("{}.{:06}", now / 1_000_000, now % 1_000_000);
            let program = sally.entering([
                "timeout",
                "60",
                "sh",
                "-c",
                RESTART_WHEN_ACTIVE,
                "restart",
                &since,
            ])?;
            let mut follower = Process::start(&program, fleet.directory(), &log)?;
            fleet.renew(MEDIA)?;
            generation = fleet.converged(MEDIA, generation + 1, SOON, |_| true)?;
            ensure!(follower.wait(SOON)?.success(), "the restart failed");
            proven_by_the_one_that_activated(sally, generation)?;
        }
        for _ in 0..ROUNDS {
            fleet.renew(MEDIA)?;
            install_again(fleet, sally)?;
            generation = fleet.converged(MEDIA, generation + 1, SOON, |_| true)?;
        }
        let journal = sally.shell("journalctl --no-pager --output=cat -u certwell-agent")?;
        ensure!(!journal.contains("rolled back"), "{journal}");
        Ok(())
    })
}

fn install_again(fleet: &Fleet, host: &Machine) -> Result<()> {
    let before = main_pid(host)?;
    install(host, &fleet.packages.agent)?;
    host.shell("apt-get install -y --reinstall /root/certwell-agent_*.deb")?;
    ensure!(
        main_pid(host)? != before,
        "the upgrade didn't restart the agent"
    );
    Ok(())
}

fn main_pid(host: &Machine) -> Result<String> {
    host.shell("systemctl show --property=MainPID --value certwell-agent")
}

/// The agent that activated it told that it is served, before it ended.
fn proven_by_the_one_that_activated(host: &Machine, generation: u64) -> Result<()> {
    let lines = host.shell(&format!(
        "journalctl --no-pager --output=json --output-fields=_PID,MESSAGE -u certwell-agent CERTWELL_GENERATION={generation}"
    ))?;
    let of = |begin: &str| -> Result<String> {
        let found = lines.lines().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            let said = entry.get("MESSAGE")?.as_str()?.starts_with(begin);
            said.then(|| {
                entry
                    .get("_PID")
                    .and_then(|pid| pid.as_str().map(ToOwned::to_owned))
            })?
        });
        found.with_context(|| format!("nobody said {begin:?} of generation {generation}:\n{lines}"))
    };
    let (activated, served) = (of("activated")?, of("served on every listener")?);
    ensure!(
        activated == served,
        "{activated} activated it, {served} proved it:\n{lines}"
    );
    let running = main_pid(host)?;
    ensure!(running.trim() != activated, "it wasn't exchanged at all");
    Ok(())
}
