//! Hosts that are off or die in the middle.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    Host, MEDIA, MEDIA_DECLARED, Settings, Site, World, log_gate::LogGate, story, wait_for,
};
use nix::sys::signal::Signal;

use crate::{SOON, media_on, named};

#[test]
fn a_host_that_was_off_during_issuance_draws_it_when_it_comes_back() -> Result<()> {
    story("host-off", &Settings::default(), |world| {
        world.join_all()?;
        let esme = world.host_mut("esme")?;
        esme.stop_agent();
        esme.nginx.stop();
        world.issuer.declare("20-media", MEDIA_DECLARED)?;
        let served = world.all_serve_new(MEDIA, None, SOON, |host| host.name != "esme")?;
        let status = wait_for("esme to be named as missing", SOON, || {
            let output = world.issuer.certwell(&["status"])?;
            ensure!(output.code == 3, "exit {}", output.code);
            ensure!(output.stdout.contains("esme"), "{}", output.stdout);
            world.issuer.status()
        })?;
        let esme = status
            .certificate(MEDIA)
            .and_then(|c| c.host("esme"))
            .context("esme isn't in status")?;
        ensure!(
            esme.state != "converged" && esme.facts.fetched.is_none(),
            "{esme:?}"
        );

        let esme = world.host_mut("esme")?;
        esme.nginx.start()?;
        esme.start_agent()?;
        let late = world.all_serve_new(MEDIA, None, SOON, named("esme"))?;
        ensure!(late == served, "esme serves another one");
        ensure!(
            world.ca.issued() == 1,
            "nothing was to be issued for it anew"
        );
        world.converged(MEDIA, 1, SOON)
    })
}

#[test]
fn a_host_without_nginx_is_held_and_serves_when_nginx_starts() -> Result<()> {
    story(
        "nginx-off",
        &Settings::default().only(&["sally", "esme"]),
        |world| {
            world.join_all()?;
            world.host_mut("esme")?.nginx.stop();
            // Only sally answers the CA, so that this is about the install alone.
            let sally = world.addresses(|host| host.name == "sally");
            world.dns.set(MEDIA, &sally)?;
            let declared = media_on(&["sally", "esme"])
                + "challenge-hosts = [\"sally\"]
";
            world.issuer.declare("20-media", &declared)?;
            let served = world.all_serve_new(MEDIA, None, SOON, named("sally"))?;
            let esme = world.host_mut("esme")?;
            wait_for("the files on esme", SOON, || {
                let text = fs::read(esme.live(MEDIA).join("fullchain.pem"))?;
                let list = certwell_proto::pem::read_certificates(&text)?;
                ensure!(
                    list.first().map(|der| der.to_vec()) == served.chain.first().cloned(),
                    "still the old ones"
                );
                Ok(())
            })?;
            ensure!(
                esme.served(MEDIA).is_err(),
                "nobody asked for nginx to be started"
            );
            esme.nginx.start()?;
            ensure!(esme.served(MEDIA)? == served);
            world.converged(MEDIA, 1, SOON)
        },
    )
}

#[test]
fn a_stopped_nginx_holds_up_nobody_else() -> Result<()> {
    let settings = Settings::default().only(&["sally", "esme"]);
    story("nginx-off-renewal", &settings, |world| {
        world.join_all()?;
        world
            .issuer
            .declare("20-media", &media_on(&["sally", "esme"]))?;
        let first = world.all_serve_new(MEDIA, None, SOON, |_| true)?;
        world.converged(MEDIA, 1, SOON)?;
        // Its agent runs, and would answer the CA if it could. The CA asks the first address, which is sally's.
        world.host_mut("esme")?.nginx.stop();
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("renew")?;
        let old = Some(first.fingerprint());
        let second = world.all_serve_new(MEDIA, old, SOON, named("sally"))?;
        let status = wait_for("status to tell of esme", SOON, || {
            let output = world.issuer.certwell(&["status"])?;
            ensure!(
                output.code == 3 && output.stdout.contains("esme"),
                "{}",
                output.stdout
            );
            world.issuer.status()
        })?;
        let line = status
            .certificate(MEDIA)
            .and_then(|certificate| certificate.host("esme"))
            .context("esme isn't in status")?;
        ensure!(line.state != "converged", "{line:?}");
        world.host_mut("esme")?.nginx.start()?;
        ensure!(world.host("esme")?.served(MEDIA)? == second);
        world.converged(MEDIA, 2, SOON)
    })
}

/// As the agent's log tells of them when all goes well, to the character that ends each name. Each is tried with a
/// certificate of its own.
const STEPS: [(&str, &str); 10] = [
    ("Fetch(", "fetch.example.org"),
    ("Verify(", "verify.example.org"),
    ("Stage(", "stage.example.org"),
    ("TestCandidate(", "candidate.example.org"),
    ("Baseline\n", "baseline.example.org"),
    ("Activate(", "activate.example.org"),
    ("Test\n", "test.example.org"),
    ("Reload\n", "reload.example.org"),
    ("Confirm(", "confirm.example.org"),
    ("Report(", "report.example.org"),
];

#[test]
fn an_agent_that_is_killed_in_any_step_goes_on_where_it_was() -> Result<()> {
    let settings = Settings {
        sites: STEPS.map(|(_, name)| Site::new(name, &[name])).to_vec(),
        ..Settings::default()
    }
    .only(&["sally"]);
    story("agent-killed", &settings, |world| {
        world.join_all()?;
        world.host_mut("sally")?.stop_agent();
        let mut gate = world.host_mut("sally")?.start_gated_agent()?;
        for (step, name) in STEPS {
            // First the exchange of a plain directory for the link, then that of one link for another.
            for generation in [1, 2] {
                gate = killed_in(world, gate, step, name, generation)
                    .with_context(|| format!("generation {generation}, killed in {step:?}"))?;
            }
        }
        Ok(())
    })
}

/// Has a generation issued, and kills the agent in this step of its install. The gate of the agent that is started
/// in its place.
fn killed_in(
    world: &mut World,
    gate: LogGate,
    step: &str,
    name: &str,
    generation: u64,
) -> Result<LogGate> {
    let before = world.host("sally")?.served(name)?.fingerprint();
    world.issuer.connected("sally")?;
    gate.arm(&format!("step step={step}"));
    if generation == 1 {
        let declared = format!("[certificate.\"{name}\"]\nhosts = [\"sally\"]\n");
        world.issuer.declare(name, &declared)?;
    } else {
        let renew = ["certificates", "renew", name];
        world.issuer.certwell(&renew)?.success("renew")?;
    }
    let held = gate.wait_held(SOON)?;
    ensure!(!held.contains('"') || held.contains(name), "{held}");
    let sally = world.host_mut("sally")?;
    sally.kill9_agent()?;
    gate.end()?;
    let last = last_step(sally)?;
    ensure!(last.starts_with(step), "it came to {last}");
    // Whatever the instant, nginx can still be reloaded: key and chain at the link fit each other.
    let test = sally.nginx.test()?;
    ensure!(test.code == 0, "nginx -t fails: {}", test.stderr);
    let gate = sally.start_gated_agent()?;
    world.all_serve_new(name, Some(before), SOON, |_| true)?;
    world.converged(name, generation, SOON)?;
    Ok(gate)
}

/// The step that the agent's log tells of last, and what comes after it.
fn last_step(host: &Host) -> Result<String> {
    let log = fs::read_to_string(host.agent_log())?;
    let (_, last) = log.rsplit_once("step step=").context("no step is told")?;
    Ok(last.to_owned())
}

#[test]
fn an_issuer_that_was_killed_while_hosts_draw_is_drawn_from_again() -> Result<()> {
    story("issuer-killed-while-drawn", &Settings::default(), |world| {
        world.join_all()?;
        // Two of them answer the CA, so that the others aren't asked for anything.
        let asked = world.addresses(|host| !LATE.contains(&host.name.as_str()));
        world.dns.set(MEDIA, &asked)?;
        let declared =
            format!("{MEDIA_DECLARED}challenge-hosts = [\"cdn-frankfurt-1\", \"sally\"]\n");
        world.issuer.declare("20-media", &declared)?;
        let first = world.all_serve_new(MEDIA, None, SOON, |_| true)?;
        world.converged(MEDIA, 1, SOON)?;

        // One is frozen, as a machine that is suspended; the agent of the other doesn't run.
        let [frozen, off] = LATE;
        world.host_mut(frozen)?.agent()?.signal(Signal::SIGSTOP)?;
        world.host_mut(off)?.stop_agent();
        world
            .issuer
            .certwell(&["certificates", "renew", MEDIA])?
            .success("renew")?;
        wait_for("the first ones to have drawn it", SOON, || {
            let drawn = drawn(world, 2)?;
            ensure!(drawn == ["cdn-frankfurt-1", "sally"], "{drawn:?}");
            Ok(())
        })?;
        world.issuer.kill9()?;
        world.host_mut(frozen)?.agent()?.signal(Signal::SIGCONT)?;
        world.host_mut(off)?.start_agent()?;
        world.issuer.serve()?;
        world.all_serve_new(MEDIA, Some(first.fingerprint()), SOON, |_| true)?;
        world.converged(MEDIA, 2, SOON)?;
        let drawn = drawn(world, 2)?;
        ensure!(
            LATE.iter()
                .all(|late| drawn.iter().any(|host| host == late)),
            "{drawn:?}"
        );
        ensure!(world.ca.issued() == 2 && world.ca.orders() == 2);
        Ok(())
    })
}

/// These draw after the issuer was killed.
const LATE: [&str; 2] = ["cdn-fremont-1", "esme"];

/// Hosts that a generation's key was handed to, by the events, in the order of their names.
fn drawn(world: &World, generation: u64) -> Result<Vec<String>> {
    let mut hosts: Vec<String> = world
        .issuer
        .events()?
        .into_iter()
        .filter(|event| event.kind == "fetched" && event.generation == Some(generation))
        .filter_map(|event| event.host)
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    Ok(hosts)
}
