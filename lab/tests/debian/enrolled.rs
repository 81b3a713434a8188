//! `enroll` and `leave` on hosts with systemd, and what the journal has of it: on a bookworm and on a trixie.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA,
    debian::{
        self, Fleet, Machine,
        fleet::{SOON, install},
        world::ZONE,
    },
    program::Output,
};

const UNIT: &str = "certwell-agent.service";
/// Assigned to the edges, and named by no server block of theirs.
const UNNAMED: &str = "www.hachyderm.io";

#[test]
fn enrolling_is_the_only_step_and_leaving_undoes_it() {
    let test = "enrolling_is_the_only_step_and_leaving_undoes_it";
    if !crate::able(test) {
        return;
    }
    debian::story("debian-enrolled", Duration::from_secs(3600), |fleet| {
        install(&fleet.fritz, &fleet.packages.issuer)?;
        fleet.init_issuer()?;
        // The first is a bookworm, the last a trixie.
        for (edge, newest) in [(&fleet.edges[0], 1), (&fleet.edges[3], 2)] {
            install(edge, &fleet.packages.agent)?;
            // The CA finds this edge by its own name, as the geo name leads to any.
            let own = format!(
                "hosts = [{0:?}]\nidentifiers = [\"{0}.{ZONE}\"]\n",
                edge.name
            );
            fleet.declare(
                "20-certificates",
                &format!("[certificate.{MEDIA:?}]\n{own}[certificate.{UNNAMED:?}]\n{own}"),
            )?;
            enrolled(fleet, edge)?;
            what_the_journal_has(fleet, edge)?;
            broken(fleet, edge)?;
            // The second edge first draws what was issued for the names of the first.
            fleet.converged(MEDIA, newest, SOON, |host| host == edge.name)?;
            left(fleet, edge)?;
        }
        Ok(())
    })
    .unwrap();
}

fn verb(edge: &Machine, args: &[&str], input: &str) -> Result<(Output, String)> {
    let command = ["certwell-agent"].iter().chain(args).copied();
    let output = edge.run_with(command, input, SOON)?;
    let said = format!("{}{}", output.stdout, output.stderr);
    Ok((output, said))
}

fn states(edge: &Machine) -> Result<String> {
    let shown = edge.run(["systemctl", "is-active", UNIT])?.stdout;
    let enabled = edge.run(["systemctl", "is-enabled", UNIT])?.stdout;
    Ok(format!("{} {}", shown.trim(), enabled.trim()))
}

fn enrolled(fleet: &Fleet, edge: &Machine) -> Result<()> {
    let (output, said) = verb(edge, &["enroll", "-"], &fleet.token(&edge.name)?)?;
    ensure!(output.code == 0, "{}: {said}", edge.name);
    for words in [
        format!("enrolled as {} in fleet hachyderm", edge.name),
        format!("{UNIT} is running"),
        "doctor --fix-include".to_owned(),
        format!("assigned to this host: {MEDIA}, {UNNAMED}"),
        format!("ssl_certificate /etc/certwell/live/{UNNAMED}/fullchain.pem;"),
        format!("ssl_certificate_key /etc/certwell/live/{UNNAMED}/privkey.pem;"),
    ] {
        ensure!(said.contains(&words), "{}: {words}: {said}", edge.name);
    }
    let named = format!("ssl_certificate /etc/certwell/live/{MEDIA}/");
    ensure!(!said.contains(&named), "nginx has it already: {said}");
    ensure!(states(edge)? == "active enabled", "{}", states(edge)?);
    let (output, said) = verb(edge, &["enroll", "-"], &fleet.token(&edge.name)?)?;
    ensure!(output.code == 8, "{said}");
    Ok(())
}

/// By the fields that docs/operations.md names.
fn what_the_journal_has(fleet: &Fleet, edge: &Machine) -> Result<()> {
    edge.shell("certwell-agent doctor --fix-include --yes")?;
    fleet.converged(MEDIA, 1, SOON, |host| host == edge.name)?;
    let host = format!("CERTWELL_HOST={}", edge.name);
    let certificate = format!("CERTWELL_CERTIFICATE={MEDIA}");
    let asked = [
        (edge, "certwell-agent", "served on every listener"),
        (&fleet.fritz, "certwell-issuer", ""),
    ];
    for (machine, daemon, words) in asked {
        let line = format!(
            "journalctl --sync; journalctl -t {daemon} {certificate} {host} CERTWELL_GENERATION=1 -o json"
        );
        let entries = machine.shell(&line)?;
        ensure!(
            entries.lines().any(|entry| entry.contains(words)),
            "{}: {line}: {entries}",
            machine.name
        );
        for part in [
            "\"PRIORITY\":\"6\"",
            // Who reads the message alone has the name too.
            &format!("certificate={MEDIA}"),
        ] {
            ensure!(entries.contains(part), "{part}: {entries}");
        }
        ensure!(!entries.contains("PRIVATE KEY"), "{}", machine.name);
    }
    Ok(())
}

fn broken(fleet: &Fleet, edge: &Machine) -> Result<()> {
    edge.shell(&format!(
        "systemctl stop {UNIT}; mv /etc/certwell/live /etc/certwell/live.away; touch /etc/certwell/live"
    ))?;
    let token = fleet.token(&edge.name)?;
    let (output, said) = verb(edge, &["enroll", "--again", "-"], &token)?;
    ensure!(output.code == 3, "{}: {said}", edge.name);
    for words in [
        "enrolled, but",
        "/etc/certwell/live",
        "a file lies there",
        "systemctl restart",
    ] {
        ensure!(said.contains(words), "{words}: {said}");
    }
    edge.shell(&format!(
        "rm /etc/certwell/live; mv /etc/certwell/live.away /etc/certwell/live; systemctl restart {UNIT}"
    ))?;
    // A running unit is stopped and started again, also when the issuer refuses.
    let (output, said) = verb(edge, &["enroll", "--again", "-"], &token)?;
    ensure!(output.code == 6, "{}: {said}", edge.name);
    ensure!(states(edge)? == "active enabled", "{}", states(edge)?);
    Ok(())
}

fn left(fleet: &Fleet, edge: &Machine) -> Result<()> {
    let before = fleet.served(edge, MEDIA)?;
    let (output, said) = verb(edge, &["leave"], "")?;
    ensure!(output.code == 0, "{}: {said}", edge.name);
    let words = format!("certwell hosts retire {}", edge.name);
    ensure!(said.contains(&words), "{said}");
    ensure!(states(edge)? == "inactive disabled", "{}", states(edge)?);
    edge.shell(
        "test ! -e /var/lib/certwell-agent/identity/bound.key; nginx -t; systemctl restart nginx",
    )?;
    let after = fleet.served(edge, MEDIA).context("after leaving")?;
    ensure!(
        after.fingerprint() == before.fingerprint(),
        "{}: another certificate is served",
        edge.name
    );
    let (output, said) = verb(edge, &["leave"], "")?;
    ensure!(output.code == 7, "{said}");
    let (output, said) = verb(edge, &["enroll", "-"], &fleet.token(&edge.name)?)?;
    ensure!(output.code == 0, "{}: {said}", edge.name);
    // What leaving let lie is taken over already.
    ensure!(!said.contains("nobody renews it"), "{said}");
    fleet.converged(MEDIA, 1, SOON, |host| host == edge.name)?;
    Ok(())
}
