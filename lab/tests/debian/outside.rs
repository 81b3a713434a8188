//! What the agent's sandbox must not be in the way of: nginx's own test, the operator's hook, and nginx's start after it
//! failed.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA,
    debian::{self, Fleet, Machine, fleet::SOON},
    wait::wait_for,
};

/// Another hand's edit, and how it is taken back.
const BROKEN: &str = "echo 'sssl on;' > /etc/nginx/conf.d/zz.conf";
const MENDED: &str = "rm /etc/nginx/conf.d/zz.conf";
/// Longer than the agent looks on whether a stop was a restart.
const SETTLED: Duration = Duration::from_secs(8);
/// A failure that comes later than this after an activation isn't its doing.
const MINUTE: Duration = Duration::from_secs(60);
/// A sandbox for nginx itself: another than the agent's.
const SANDBOX: &str = "[Service]\nProtectSystem=strict\nReadWritePaths=/var/log/nginx /var/lib/nginx /run\n\
                       RuntimeDirectory=nginx-own\nPrivateTmp=yes\nProtectHome=yes\nLimitNOFILE=4096\n\
                       CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_DAC_OVERRIDE\n";
/// Writes where the agent itself can, and where it can't, and complains in a line without an end. The third time whoever
/// waits for it is killed.
const HOOK: &str = "for told in /var/lib/certwell-agent/told /root/told; do\n\
                    echo \"$CERTWELL_CERTIFICATE $CERTWELL_GENERATION $CERTWELL_DIRECTORY\" >> $told\ndone\n\
                    printf 'postfix is not installed' >&2\n\
                    test \"$CERTWELL_GENERATION\" != 2 || exit 3\n\
                    test \"$CERTWELL_GENERATION\" != 3 || pkill -KILL -f '^systemd-run.*hooks/installed'";

#[test]
fn the_agents_sandbox_is_in_the_way_of_nothing_and_a_failed_nginx_is_started_once() {
    let test = "the_agents_sandbox_is_in_the_way_of_nothing_and_a_failed_nginx_is_started_once";
    if !crate::able(test) {
        return;
    }
    debian::story("debian-outside", Duration::from_secs(86_400), |fleet| {
        // One of each release.
        for name in ["sally", "esme"] {
            let edge = fleet.edge(name)?;
            edge.write("/etc/systemd/system/nginx.service.d/sandbox.conf", SANDBOX)?;
            edge.shell("systemctl daemon-reload && systemctl restart nginx")?;
        }
        fleet.set_up(&|line| eprintln!("{line}"))?;
        for name in ["sally", "esme"] {
            let edge = fleet.edge(name)?;
            edge.write_program("/etc/certwell/hooks/installed", HOOK)?;
            edge.shell(
                "sed -i 's/^#post-install = /post-install = /' /etc/certwell/agent.toml && \
                 systemctl restart certwell-agent",
            )?;
        }
        fleet.declare(
            "20-media",
            &format!("[certificate.\"{MEDIA}\"]\nhosts = [\"label:edge\"]\n"),
        )?;
        fleet.converged(MEDIA, 1, SOON, |_| true)?;
        for name in ["sally", "esme"] {
            let edge = fleet.edge(name)?;
            told(edge, 1)?;
            ensure!(
                edge.shell("ls -d /run/nginx-own").is_ok(),
                "nginx's own runtime directory is gone"
            );
        }
        renew(fleet, 2)?;
        for name in ["sally", "esme"] {
            let edge = fleet.edge(name)?;
            told(edge, 2)?;
            eventually(edge, "certwell-agent status", |said| {
                said.contains("ended with exit code 3: postfix is not installed")
            })?;
        }
        // What became of it isn't known, so that it isn't done again.
        renew(fleet, 3)?;
        for name in ["sally", "esme"] {
            let edge = fleet.edge(name)?;
            told(edge, 3)?;
            eventually(edge, "certwell-agent status", |said| {
                said.contains(
                    "was begun, and nobody knows how it ended (systemd-run didn't tell its end",
                )
            })?;
        }
        // Each within the minute after an activation.
        for (name, generation) in [("sally", 4), ("esme", 5)] {
            renew(fleet, generation)?;
            started_once(fleet.edge(name)?)?;
            is_told(fleet, name)?;
        }
        renew(fleet, 6)?;
        started_by_the_next_agent(fleet.edge("sally")?)?;
        renew(fleet, 7)?;
        started_by_an_agent_that_was_off(fleet.edge("esme")?)?;
        renew(fleet, 8)?;
        started_once_it_can_be_written_down(fleet.edge("sally")?)?;
        renew(fleet, 9)?;
        stays_failed_after_a_reboot(fleet.edge_mut("esme")?)?;
        for (name, generation) in [("sally", 10), ("esme", 11)] {
            renew(fleet, generation)?;
            let edge = fleet.edge(name)?;
            stays_stopped(edge)?;
            for before in 1..generation {
                told(edge, before)?;
            }
            let left =
                edge.shell("systemctl list-units --all --no-legend 'certwell-agent-run-*'")?;
            ensure!(left.trim().is_empty(), "{name}: {left}");
        }
        renew(fleet, 12)?;
        for name in ["sally", "esme"] {
            stays_stopped_though_it_took_too_long(fleet.edge(name)?)?;
        }
        Ok(())
    })
    .unwrap();
}

fn renew(fleet: &Fleet, generation: u64) -> Result<()> {
    let asked = fleet.certwell(&["certificates", "renew", MEDIA])?;
    ensure!(asked.code == 0, "{}", asked.stderr);
    fleet.converged(MEDIA, generation, SOON, |_| true)?;
    Ok(())
}

/// The hook's line of this generation, once, and in both places: it ran outside the sandbox, and inside it never.
fn told(edge: &Machine, generation: u64) -> Result<()> {
    let line = format!("{MEDIA} {generation} /etc/certwell/live/{MEDIA}\n");
    let both = "cmp /root/told /var/lib/certwell-agent/told && cat /root/told";
    eventually(edge, both, |said| said.matches(&line).count() == 1)
}

/// A start that went well is seen on the host, and remembered by the issuer.
fn is_told(fleet: &Fleet, name: &str) -> Result<()> {
    let edge = fleet.edge(name)?;
    eventually(edge, "certwell-agent status", |said| {
        said.contains("the agent had it started, once, at 20")
    })?;
    wait_for("an event of the start", SOON, || {
        let events = fleet.events()?;
        let words = "the agent started nginx.service";
        let mut of_it = events.iter().filter(|event| event.text.contains(words));
        let told = of_it.any(|event| event.host.as_deref() == Some(name));
        ensure!(told, "{name}: no event tells of the start");
        Ok::<_, anyhow::Error>(())
    })
}

/// The agent is restarted between the activation and the failure, and again before the second one.
fn started_by_the_next_agent(edge: &Machine) -> Result<()> {
    edge.shell("systemctl restart certwell-agent")?;
    fail(edge)?;
    becomes_active(edge)?;
    fail(edge)?;
    edge.shell("systemctl restart certwell-agent")?;
    stays_failed(edge)
}

/// nginx fails within the minute while no agent runs, and the next one comes after it.
fn started_by_an_agent_that_was_off(edge: &Machine) -> Result<()> {
    edge.shell("systemctl stop certwell-agent")?;
    fail(edge)?;
    thread::sleep(MINUTE);
    edge.shell("systemctl start certwell-agent")?;
    becomes_active(edge)
}

/// While the ledger can't be saved an agent to come might start it a second time.
fn started_once_it_can_be_written_down(edge: &Machine) -> Result<()> {
    let in_the_way = "/var/lib/certwell-agent/.ledger.json.new";
    edge.shell(&format!("mkdir {in_the_way}"))?;
    fail(edge)?;
    thread::sleep(SETTLED);
    let state = edge.shell("systemctl is-active nginx || true")?;
    ensure!(state.trim() == "failed", "{}: {state}", edge.name);
    edge.shell(&format!("rmdir {in_the_way}"))?;
    becomes_active(edge)
}

/// The power is lost in the minute, and nginx doesn't come up.
fn stays_failed_after_a_reboot(edge: &mut Machine) -> Result<()> {
    edge.shell(&format!("{BROKEN}; sync"))?;
    edge.pull_plug()?;
    edge.power_on()?;
    wait_for("the agent beside a failed nginx", SOON, || {
        let state = edge.shell("systemctl is-active nginx certwell-agent || true")?;
        ensure!(state == "failed\nactive\n", "{}: {state}", edge.name);
        Ok::<_, anyhow::Error>(())
    })?;
    edge.shell(MENDED)?;
    stays_failed(edge)
}

/// nginx fails by another hand's edit and restart, and comes back by itself when the edit is taken back; a second time
/// it stays down.
fn started_once(edge: &Machine) -> Result<()> {
    fail(edge)?;
    becomes_active(edge)?;
    fail(edge)?;
    stays_failed(edge)
}

fn becomes_active(edge: &Machine) -> Result<()> {
    eventually(edge, "systemctl is-active nginx", |said| {
        said.trim() == "active"
    })
}

fn stays_failed(edge: &Machine) -> Result<()> {
    thread::sleep(SETTLED);
    let state = edge.shell("systemctl is-active nginx || true")?;
    ensure!(state.trim() == "failed", "{}: {state}", edge.name);
    edge.shell("systemctl start nginx")?;
    Ok(())
}

fn fail(edge: &Machine) -> Result<()> {
    let state = edge.shell(&format!(
        "{BROKEN}; systemctl restart nginx || true; systemctl is-active nginx || true; {MENDED}"
    ))?;
    ensure!(state.contains("failed"), "{}: {state}", edge.name);
    Ok(())
}

fn stays_stopped(edge: &Machine) -> Result<()> {
    edge.shell("systemctl stop nginx")?;
    thread::sleep(SETTLED);
    let state = edge.shell("systemctl is-active nginx || true")?;
    ensure!(state.trim() == "inactive", "{}: {state}", edge.name);
    edge.shell("systemctl start nginx")?;
    Ok(())
}

/// A person's stop that systemd had to end itself, as where nginx still answers a long download, leaves a failed unit.
fn stays_stopped_though_it_took_too_long(edge: &Machine) -> Result<()> {
    edge.write(
        "/etc/systemd/system/nginx.service.d/slow.conf",
        "[Service]\nExecStop=\nExecStop=/bin/sleep 60\nTimeoutStopSec=1\n",
    )?;
    edge.shell("systemctl daemon-reload; systemctl stop nginx")?;
    let result = edge.shell("systemctl show --property=Result --value nginx")?;
    ensure!(result.trim() == "timeout", "{}: {result}", edge.name);
    edge.shell("rm /etc/systemd/system/nginx.service.d/slow.conf; systemctl daemon-reload")?;
    stays_failed(edge)
}

/// Whether what a command says becomes so.
fn eventually(edge: &Machine, line: &str, so: impl Fn(&str) -> bool) -> Result<()> {
    let mut said = String::new();
    for _ in 0..150 {
        said = edge.shell(&format!("{line} 2>&1 || true"))?;
        if so(&said) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Err(anyhow::anyhow!("{said}")).with_context(|| format!("{}: {line}", edge.name))
}
