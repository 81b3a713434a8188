//! Another hand reloads or restarts nginx between any two of our steps: on the way in, and on both ways back.

use std::fs;

use certwell_proto::v1;

use crate::{
    faults::{
        gate::{Gate, STEPS},
        problems, reloaded, serves,
        witness::Witness,
    },
    host::Host,
    issuer::eventually,
    world::{NAMES, World, leaf, world},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    Reload,
    Restart,
}

/// What the other hand does, to its end.
async fn comes(foreign: Foreign, host: &mut Host) {
    match foreign {
        Foreign::Reload => reloaded(host).await,
        Foreign::Restart => {
            host.stop_nginx();
            host.start_nginx().await;
        }
    }
}

/// nginx at work, generation 1 served, and the agent behind a gate.
async fn gated(change: impl FnOnce(&World)) -> (World, Gate, v1::Bundle) {
    let mut world = world().await;
    change(&world);
    world.host.start_nginx().await;
    let gate = Gate::start_agent(&mut world.host);
    let first = world.bundle(1);
    world.offer(&first);
    world.outcome(1, v1::Outcome::Converged).await;
    (world, gate, first)
}

/// Once after each step, with a generation of its own: the other hand comes before the next one.
async fn on_the_way_in(foreign: Foreign) {
    let (mut world, gate, mut served) = gated(|_| ()).await;
    for (generation, step) in (2..).zip(STEPS) {
        let witness = Witness::of(world.host.https);
        gate.arm(step);
        let next = world.bundle(generation);
        world.offer(&next);
        gate.held(step).await;
        comes(foreign, &mut world.host).await;
        gate.open();
        world.outcome(generation, v1::Outcome::Converged).await;
        witness.is_told();
        serves(&world, &next).await;
        match foreign {
            Foreign::Reload => {
                witness.saw_change(&served, &next);
            }
            Foreign::Restart => witness.saw_no_other(&[&served, &next]),
        }
        assert_eq!(world.host.activations(crate::host::NAME, generation), 1);
        served = next;
    }
    // Never in doubt, not even for a moment.
    let log = world.host.agent_log();
    for doubt in ["not served yet", "rolled back", "regressed"] {
        assert!(!log.contains(doubt), "{doubt}");
    }
    eventually("nothing is in the way", || async {
        problems(&world.host).is_empty().then_some(())
    })
    .await;
    println!("{foreign:?}: {} boundaries", STEPS.len());
}

#[tokio::test]
async fn a_foreign_reload_between_any_two_steps_of_an_install_does_no_harm() {
    on_the_way_in(Foreign::Reload).await;
}

#[tokio::test]
async fn a_foreign_restart_between_any_two_steps_of_an_install_does_no_harm() {
    on_the_way_in(Foreign::Restart).await;
}

/// A key of the operator's own fits the first generation alone: what comes next is refused by nginx's test.
async fn pin_key_of_the_first(world: &World) {
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    reloaded(&world.host).await;
}

#[tokio::test]
async fn a_foreign_reload_while_a_refused_generation_is_rolled_back_loads_the_old_one_only() {
    let (mut world, gate, first) = gated(|_| ()).await;
    pin_key_of_the_first(&world).await;
    for (generation, step) in (2..).zip(["Test ", "RollBack(", "TestAgain "]) {
        let witness = Witness::of(world.host.https);
        gate.arm(step);
        world.offer(&world.bundle(generation));
        gate.held(step).await;
        if step == "Test " {
            // nginx refuses the configuration as it is now, and goes on with its old workers.
            let refused = refusals(&world.host);
            world.host.reload_nginx();
            eventually("nginx has refused it", || async {
                (refusals(&world.host) > refused).then_some(())
            })
            .await;
        } else {
            comes(Foreign::Reload, &mut world.host).await;
        }
        gate.open();
        world.outcome(generation, v1::Outcome::Regressed).await;
        serves(&world, &first).await;
        witness.saw_only(&first);
    }
}

/// How often nginx was told to load what it couldn't.
fn refusals(host: &Host) -> usize {
    let log = fs::read_to_string(host.path("run/error.log")).unwrap();
    log.matches("key values mismatch").count()
}

#[tokio::test]
async fn a_foreign_restart_while_a_refused_generation_is_rolled_back_starts_with_the_old_one() {
    let (mut world, gate, first) = gated(|_| ()).await;
    pin_key_of_the_first(&world).await;
    for (generation, step) in (2..).zip(["RollBack(", "TestAgain "]) {
        gate.arm(step);
        world.offer(&world.bundle(generation));
        gate.held(step).await;
        comes(Foreign::Restart, &mut world.host).await;
        assert_eq!(world.host.served(), Some(leaf(&first)));
        gate.open();
        world.outcome(generation, v1::Outcome::Regressed).await;
        serves(&world, &first).await;
    }
    // In the moment before, nginx can be stopped and can't be started; a moment later it can.
    gate.arm("Test ");
    world.offer(&world.bundle(4));
    gate.held("Test ").await;
    world.host.stop_nginx();
    gate.open();
    eventually("it is rolled back", || async {
        (world.host.active() == "1").then_some(())
    })
    .await;
    world.host.start_nginx().await;
    serves(&world, &first).await;
    // And the next one that nginx takes is served.
    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    let fifth = world.bundle(5);
    world.offer(&fifth);
    world.outcome(5, v1::Outcome::Converged).await;
    serves(&world, &fifth).await;
}

/// nginx takes an RSA certificate here, and no handshake with it comes about.
fn ecdsa_only(world: &World) {
    let path = world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let only = " ssl;\n  ssl_conf_command SignatureAlgorithms ecdsa_secp256r1_sha256;";
    fs::write(&path, text.replacen(" ssl;", only, 1)).unwrap();
}

/// What fails at its listeners is taken back while the other hand comes before each step of that.
async fn on_the_way_back(foreign: Foreign) {
    let (mut world, gate, first) = gated(ecdsa_only).await;
    gate.arm("Confirm(");
    let second = world.authority.rsa_bundle(crate::host::NAME, 2, NAMES);
    world.offer(&second);
    for (step, next) in [
        ("Confirm(", Some("RollBack(")),
        ("RollBack(", Some("Test ")),
        ("Test ", Some("Reload ")),
        ("Reload ", None),
    ] {
        gate.held(step).await;
        comes(foreign, &mut world.host).await;
        match next {
            Some(next) => gate.arm(next),
            None => gate.open(),
        }
    }
    world.outcome(2, v1::Outcome::Regressed).await;
    serves(&world, &first).await;
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    serves(&world, &third).await;
}

#[tokio::test]
async fn a_foreign_reload_between_any_two_steps_of_going_back_does_no_harm() {
    on_the_way_back(Foreign::Reload).await;
}

#[tokio::test]
async fn a_foreign_restart_between_any_two_steps_of_going_back_does_no_harm() {
    on_the_way_back(Foreign::Restart).await;
}
