//! An operator saves an edit between two of our steps: half of one, which nginx refuses, or one that is whole and not
//! loaded yet. And it is the host that is to blame for what its configuration does, not the certificate.

use std::{fs, time::Duration};

use certwell_proto::v1;
use nix::libc;

use crate::{
    faults::{
        gate::{Gate, STEPS},
        reloaded, serves, status_says,
        witness::Witness,
    },
    host::{Host, NAME, free_port},
    issuer::eventually,
    lineage::server,
    world::{World, world},
};

/// nginx at work, generation 1 served, and the agent behind a gate.
async fn gated() -> (World, Gate, v1::Bundle) {
    let mut world = world().await;
    world.host.start_nginx().await;
    let gate = Gate::start_agent(&mut world.host);
    let first = world.bundle(1);
    world.offer(&first);
    world.outcome(1, v1::Outcome::Converged).await;
    (world, gate, first)
}

/// The operator is done.
async fn finish_the_edit(host: &Host, text: &str) {
    host.write_nginx(true, text);
    reloaded(host).await;
}

#[tokio::test]
async fn half_an_edit_between_any_two_steps_is_the_host_s_fault_and_visitors_see_no_gap() {
    let (world, gate, mut served) = gated().await;
    let host = &world.host;
    for (generation, step) in (2..).zip(STEPS) {
        let witness = Witness::of(host.https);
        gate.arm(step);
        let next = world.bundle(generation);
        world.offer(&next);
        gate.held(step).await;
        host.write_nginx(true, "sssl on;");
        gate.open();
        let left = format!("certificate left at generation {}", generation - 1);
        match step {
            // nothing was touched yet, or is as it was before
            "Fetch(" | "Verify(" | "Stage(" | "TestCandidate(" | "Baseline " | "Activate(" => {
                world.outcome(generation, v1::Outcome::Held).await;
                let words = [
                    "(not ours): unknown directive \"sssl\" in ",
                    "nginx.conf:",
                    &left,
                ];
                status_says(host, &words).await;
                assert_eq!(host.active(), (generation - 1).to_string());
                let tried = usize::from(matches!(step, "Baseline " | "Activate("));
                assert_eq!(host.activations(NAME, generation), tried);
                host.settled_workers().await;
                witness.saw_only(&served);
            }
            // nginx was told, or is told now, to load what it refuses
            "Test " | "Reload " => {
                world.outcome(generation, v1::Outcome::NotApplied).await;
                status_says(host, &["is not proven to be served", "will retry"]).await;
                assert_eq!(host.active(), generation.to_string());
                finish_the_edit(host, "").await;
                witness.sees_more(10).await;
                witness.saw_no_gap(&[&served, &next]);
            }
            // it is served already
            _ => {
                world.outcome(generation, v1::Outcome::Converged).await;
                witness.is_told();
                serves_whatever_nginx_would_say(host, &next).await;
                witness.saw_change(&served, &next);
            }
        }
        finish_the_edit(host, "").await;
        world.outcome(generation, v1::Outcome::Converged).await;
        serves(&world, &next).await;
        served = next;
    }
    assert!(!host.agent_log().contains("of 3 times"), "none was blamed");
}

async fn serves_whatever_nginx_would_say(host: &Host, bundle: &v1::Bundle) {
    eventually("it is served", || async {
        (host.served() == Some(crate::world::leaf(bundle))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_whole_edit_that_is_not_loaded_yet_is_waited_for_until_we_have_begun_to_activate() {
    let (world, gate, mut served) = gated().await;
    let host = &world.host;
    for (generation, step) in (2..).zip(STEPS) {
        host.settled_workers().await;
        host.workers_are_older_than_edits().await;
        let witness = Witness::of(host.https);
        gate.arm(step);
        let next = world.bundle(generation);
        world.offer(&next);
        gate.held(step).await;
        let edit = format!("# edit {generation}");
        host.write_nginx(true, &edit);
        gate.open();
        if matches!(step, "Fetch(" | "Verify(" | "Stage(" | "TestCandidate(") {
            world.outcome(generation, v1::Outcome::Held).await;
            let words = ["an edit seems to be in progress", "nginx.conf"];
            status_says(host, &words).await;
            assert_eq!(host.activations(NAME, generation), 0);
            reloaded(host).await;
        }
        world.outcome(generation, v1::Outcome::Converged).await;
        witness.is_told();
        serves(&world, &next).await;
        witness.saw_change(&served, &next);
        if matches!(step, "Confirm(" | "Report(" | "Reload ") {
            reloaded(host).await;
        }
        served = next;
    }
    assert!(!host.agent_log().contains("rolled back"));
}

/// Whether a thread of the agent is in the call that makes a watch.
fn makes_a_watch(host: &Host) -> bool {
    let call = format!("{} ", libc::SYS_inotify_add_watch);
    let threads = fs::read_dir(format!("/proc/{}/task", host.agent_pid())).unwrap();
    threads.flatten().any(|thread| {
        let now = fs::read_to_string(thread.path().join("syscall"));
        now.is_ok_and(|now| now.starts_with(&call))
    })
}

#[tokio::test]
async fn what_is_edited_in_a_directory_before_it_is_watched_is_noticed_after_the_pass() {
    let mut world = world().await;
    // Deeper than what is watched before the configuration is known.
    let sites = world.host.path("vhosts/enabled");
    fs::create_dir_all(&sites).unwrap();
    let site = sites.join("a.conf");
    fs::write(&site, "# to come\n").unwrap();
    let include = format!("include {}/*.conf;", sites.display());
    world.host.write_nginx(true, &include);
    world.host.start_nginx().await;
    world.host.start_agent();
    world.offer(&world.bundle(1));
    world.outcome(1, v1::Outcome::Converged).await;
    world.host.end_agent().await;
    // It takes long to watch the directory that the first pass comes to know.
    world.host.start_agent_traced(&[
        "-e",
        "trace=inotify_add_watch",
        "-e",
        "inject=inotify_add_watch:delay_enter=5000000",
        "-P",
        sites.to_str().unwrap(),
    ]);
    eventually("it is about to watch", || async {
        let before = makes_a_watch(&world.host);
        tokio::time::sleep(Duration::from_millis(100)).await;
        (before && makes_a_watch(&world.host)).then_some(())
    })
    .await;
    let port = free_port();
    fs::write(&site, server(port, NAME, &world.host.live())).unwrap();
    reloaded(&world.host).await;
    let port = port.to_string();
    let is_current = |listener: &v1::Listener| {
        listener.address == port && listener.state() == v1::ListenerState::Current
    };
    let knows = |report: &v1::CertificateReport| {
        let served = report.served.as_ref();
        served.is_some_and(|served| served.listeners.iter().any(is_current))
    };
    world.issuer.told("the new listener", NAME, knows).await;
}
