//! nginx fails a new generation: it is rolled back, and whoever looks on is never shown anything but a certificate that
//! works.

use std::fs;

use certwell_proto::v1;

use crate::{
    faults::{is_pair, reloaded, serves, witness::Witness},
    fleet::self_signed,
    host::{Host, NAME, free_port},
    world::{World, leaf, serving, serving_as, world},
};

const OTHER: &str = "other.example.org";

/// A key of the operator's own fits what is active, and nothing that comes after it.
async fn pin_key(host: &Host) {
    let pinned = host.path("pinned.key");
    fs::copy(host.live().join("privkey.pem"), &pinned).unwrap();
    host.pin_key(&pinned);
    reloaded(host).await;
}

fn reloads(host: &Host) -> usize {
    host.agent_log().matches("step step=Reload").count()
}

#[tokio::test]
async fn what_nginx_s_test_refuses_is_taken_back_each_time_and_nobody_sees_it() {
    let (world, first) = serving().await;
    let host = &world.host;
    pin_key(host).await;
    let (workers, told) = (host.settled_workers().await, reloads(host));
    let witness = Witness::of(host.https);
    world.offer(&world.bundle(2));
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(
        report.problem.contains("key values mismatch"),
        "{}",
        report.problem
    );
    assert_eq!(host.activations(NAME, 2), 3, "tried three times");
    serves(&world, &first).await;
    witness.saw_only(&first);
    assert_eq!(host.workers(), workers, "the same workers all the while");
    assert_eq!(reloads(host), told);
    // The next one is judged for itself.
    host.write_nginx(true, "");
    host.reload_nginx();
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    serves(&world, &third).await;
}

/// Another server block, with its own certificate, on a port of its own.
fn with_another_site(world: &World) -> std::net::SocketAddr {
    let (port, directory) = (free_port(), world.host.path("live").join(OTHER));
    fs::create_dir(&directory).unwrap();
    let (chain, key) = self_signed(OTHER, (-7_200, -3_600));
    fs::write(directory.join("fullchain.pem"), chain).unwrap();
    fs::write(directory.join("privkey.pem"), key).unwrap();
    let shown = directory.display();
    let server = format!(
        "server {{ listen {port} ssl; server_name {OTHER}; ssl_certificate {shown}/fullchain.pem; \
         ssl_certificate_key {shown}/privkey.pem; }}"
    );
    fs::write(world.host.path("conf.d/other.conf"), server).unwrap();
    port
}

#[tokio::test]
async fn of_two_that_come_at_once_the_good_one_is_served_and_the_bad_one_s_visitors_see_no_gap() {
    let world = world().await;
    let port = with_another_site(&world);
    let (world, first) = serving_as(world).await;
    let converged = |generation| {
        move |report: &v1::CertificateReport| {
            report.outcome() == v1::Outcome::Converged && report.outcome_generation == generation
        }
    };
    let other = |generation| world.authority.bundle(OTHER, generation, &[OTHER]);
    let old = other(1);
    world.issuer.offer(&world.authority, &old, &[OTHER]);
    world
        .issuer
        .told("the other one", OTHER, converged(1))
        .await;
    pin_key(&world.host).await;

    let (bad, good) = (Witness::of(world.host.https), Witness::of(port));
    let new = other(2);
    world.issuer.hold_offers();
    world.issuer.offer(&world.authority, &new, &[OTHER]);
    world.offer(&world.bundle(2));
    world.issuer.release_offers();
    world.issuer.told("the good one", OTHER, converged(2)).await;
    good.is_told();
    world.outcome(2, v1::Outcome::Rejected).await;
    serves(&world, &first).await;
    bad.saw_only(&first);
    good.saw_change(&old, &new);
    assert!(is_pair(&world.host.path("live").join(OTHER), &new));
    assert_eq!(world.host.served(), Some(leaf(&first)));
}
