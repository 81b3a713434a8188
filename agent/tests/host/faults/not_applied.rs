//! A reload that returns 0 and changes nothing: nginx keeps its old workers. The tested pair stays on disk, the reload is
//! asked for again and again, and when the cause is gone the new leaf is served, without a gap.

use std::{fs, net::TcpListener};

use certwell_proto::v1;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    faults::{serves, status_says, witness::Witness},
    host::{Host, NAME},
    issuer::eventually,
    world::{World, leaf, serving_as, world},
};

fn reloads(host: &Host) -> usize {
    host.agent_log().matches("step done=Reload ").count()
}

/// Generation 1 is served, and an edit in progress isn't waited for: a cause may lie in the configuration.
async fn impatient(extra: &str) -> (World, v1::Bundle) {
    let world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.write_nginx(true, extra);
    serving_as(world).await
}

/// The cause is there: generation 2 isn't served until `mend` takes it away.
async fn seen_through(world: &World, first: &v1::Bundle, mend: impl FnOnce()) {
    let host = &world.host;
    let workers = host.settled_workers().await;
    let before = reloads(host);
    let witness = Witness::of(host.https);
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert_eq!(report.reloaded.unwrap().generation, 1);
    assert_eq!(report.served.unwrap().generation, Some(1));
    let words = [
        "nginx took the configuration, but generation 2 is not proven to be served",
        "nginx keeps its old workers after the reload; see its error log",
        "will retry the reload",
    ];
    status_says(host, &words).await;
    eventually("it is asked for again", || async {
        (reloads(host) >= before + 2).then_some(())
    })
    .await;
    assert_eq!(host.served(), Some(leaf(first)));
    assert_eq!(host.workers(), workers, "nginx did reload");
    assert_eq!(host.active(), "2", "the tested pair stays");
    assert_eq!(host.activations(NAME, 2), 1);
    mend();
    world.outcome(2, v1::Outcome::Converged).await;
    witness.is_told();
    serves(world, &second).await;
    witness.saw_change(first, &second);
}

#[tokio::test]
async fn while_a_port_is_taken() {
    let (world, first) = impatient("").await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("server {{ listen {}; }}", taken.local_addr().unwrap());
    world.host.write_nginx(true, &listen);
    seen_through(&world, &first, || drop(taken)).await;
}

/// The master alone is limited; a test of its configuration by anybody else passes.
fn limit_master(host: &Host, resource: Resource, current: Option<u64>) {
    let text = fs::read_to_string(host.path("run/nginx.pid")).unwrap();
    let pid = Pid::from_raw(text.trim().parse().unwrap());
    let maximum = getrlimit(resource).maximum;
    prlimit(pid, resource, Rlimit { current, maximum }).unwrap();
}

fn master(host: &Host) -> String {
    let pid = fs::read_to_string(host.path("run/nginx.pid")).unwrap();
    format!("/proc/{}", pid.trim())
}

#[tokio::test]
async fn while_the_master_has_no_descriptor_left() {
    let (world, first) = impatient("").await;
    let open = format!("{}/fd", master(&world.host));
    let lowest_free = (0..).find(|fd| fs::symlink_metadata(format!("{open}/{fd}")).is_err());
    limit_master(&world.host, Resource::Nofile, lowest_free);
    let all = getrlimit(Resource::Nofile).current;
    seen_through(&world, &first, || {
        limit_master(&world.host, Resource::Nofile, all)
    })
    .await;
    let errors = fs::read_to_string(world.host.path("run/error.log")).unwrap();
    assert!(errors.contains("Too many open files"), "{errors}");
}

fn zone(mebibytes: u32) -> String {
    format!("limit_req_zone $binary_remote_addr zone=visitors:{mebibytes}m rate=9r/s;")
}

#[tokio::test]
async fn while_a_zone_has_grown_beyond_what_the_master_may_map() {
    let (world, first) = impatient(&zone(1)).await;
    let status = fs::read_to_string(format!("{}/status", master(&world.host))).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes: u64 = size
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    limit_master(
        &world.host,
        Resource::As,
        Some((kibibytes << 10) + (64 << 20)),
    );
    world.host.write_nginx(true, &zone(256));
    seen_through(&world, &first, || world.host.write_nginx(true, &zone(2))).await;
    let errors = fs::read_to_string(world.host.path("run/error.log")).unwrap();
    assert!(errors.contains("Cannot allocate memory"), "{errors}");
}

#[tokio::test]
async fn a_zone_of_another_size_alone_is_in_nobody_s_way() {
    let (world, first) = impatient(&zone(1)).await;
    world.host.settled_workers().await;
    let witness = Witness::of(world.host.https);
    world.host.write_nginx(true, &zone(3));
    let second = world.bundle(2);
    world.offer(&second);
    world.outcome(2, v1::Outcome::Converged).await;
    witness.is_told();
    serves(&world, &second).await;
    witness.saw_change(&first, &second);
    assert!(!world.host.agent_log().contains("not served yet"));
}
