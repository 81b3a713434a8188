//! What isn't taken, what is held, what is rolled back: and that nothing that is served suffers from it.

use std::fs;

use certwell_proto::v1;

use super::{
    host::NAME,
    world::{leaf, serving, serving_as, world},
};

#[tokio::test]
async fn a_bundle_whose_key_does_not_fit_is_rejected_and_nothing_is_touched() {
    let (world, first) = serving().await;
    let workers = world.host.settled_workers().await;

    let mut wrong = world.bundle(2);
    wrong.key_pairs[0].private_key = world.bundle(9).key_pairs[0].private_key.clone();
    world.offer(&wrong);
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(
        report.problem.contains("doesn't fit the leaf"),
        "{}",
        report.problem
    );
    assert!(
        report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(world.host.workers(), workers, "no reload");

    // The next one is taken.
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
    let fetched = world
        .issuer
        .memory
        .lock()
        .unwrap()
        .fetches
        .iter()
        .filter(|(_, generation)| *generation == 2)
        .count();
    assert_eq!(fetched, 1, "a rejected generation is not asked for again");
}

#[tokio::test]
async fn a_broken_host_is_held_with_nginx_words_and_goes_on_when_it_is_mended() {
    let (world, first) = serving().await;

    world.host.write_nginx(true, "sssl on;");
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.starts_with(
            "nginx -t failed on the host's own config (not ours): unknown directive \"sssl\" in "
        ),
        "{}",
        report.problem
    );
    assert!(report.problem.contains("nginx.conf:"), "{}", report.problem);
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.activations(NAME, 2), 0, "nothing is touched");
    assert_eq!(world.host.served(), Some(leaf(&first)));

    world.host.write_nginx(true, "");
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn an_edit_in_progress_is_waited_for() {
    let (world, _) = serving().await;
    world.host.workers_are_older_than_edits().await;
    world.host.write_nginx(true, "# half an edit");
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Held).await;
    assert!(
        report.problem.contains("an edit seems to be in progress"),
        "{}",
        report.problem
    );
    world.host.reload_nginx();
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn an_older_generation_and_other_bytes_are_refused() {
    let mut world = world().await;
    world.host.start_nginx().await;
    let third = world.bundle(3);
    world.offer(&third);
    world.host.start_agent();
    world.outcome(3, v1::Outcome::Converged).await;
    world.offer(&world.bundle(2));
    let report = world
        .issuer
        .told("backwards", NAME, |report| {
            report.problem.contains("this host has had generation 3")
        })
        .await;
    assert_eq!(report.outcome(), v1::Outcome::Held);
    world.offer(&world.bundle(3));
    world
        .issuer
        .told("other bytes", NAME, |report| {
            report.problem.contains("with another certificate")
        })
        .await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
    let asked = world.issuer.memory.lock().unwrap().fetches.len();
    assert_eq!(asked, 1, "neither was fetched");
}

#[tokio::test]
async fn what_makes_nginx_fail_is_rolled_back_and_given_up_after_three_times() {
    let (world, first) = serving().await;
    // A key of the operator's own, elsewhere: it fits this generation and no other.
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.reload_nginx();

    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::Regressed).await;
    assert!(
        report.problem.contains("key values mismatch"),
        "{}",
        report.problem
    );
    assert!(
        report.problem.contains("certificate left at generation 1"),
        "{}",
        report.problem
    );
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));

    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert!(report.problem.contains("3 times"), "{}", report.problem);
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
    assert_eq!(world.host.served(), Some(leaf(&first)));
    let fetched = world.issuer.memory.lock().unwrap().fetches.len();
    assert_eq!(
        fetched, 2,
        "one fetch for each generation, whatever became of it"
    );

    // Given up is given up: another round, for another certificate, leaves it alone.
    let workers = world.host.settled_workers().await;
    let tests = world.host.tests_of_nginx();
    let other = "other.example.org";
    let bundle = world.authority.bundle(other, 1, &[other]);
    world.issuer.offer(&world.authority, &bundle, &[other]);
    world
        .issuer
        .told("the other one is rejected with its key", other, |report| {
            report.outcome() == v1::Outcome::Converged
        })
        .await;
    assert_eq!(world.host.activations(NAME, 2), 3);
    assert_ne!(world.host.workers(), workers, "one reload, for the other");
    assert_eq!(
        world.host.tests_of_nginx(),
        tests + 2,
        "alone, and with the rest: both for the other"
    );
}

#[tokio::test]
async fn old_workers_that_stay_are_seen_through_and_the_reload_is_tried_again() {
    let world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    let (world, first) = serving_as(world).await;
    // The test passes, the reload is asked for, and nginx can't bind: its old workers stay.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    world
        .host
        .write_nginx(true, &format!("server {{ listen {port}; }}"));
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert!(report.problem.contains("old workers"), "{}", report.problem);
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "2",
        "the tested pair stays"
    );
    assert_eq!(report.served.unwrap().generation, Some(1));
    assert_eq!(report.reloaded.unwrap().generation, 1);
    drop(taken);
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn a_zone_that_nginx_cannot_change_keeps_its_old_workers_until_it_is_changed_back() {
    let zone = |key: &str| format!("limit_req_zone {key} zone=visitors:1m rate=9r/s;");
    let world = world().await;
    world.host.set_agent("edit-hold = \"0s\"");
    world.host.write_nginx(true, &zone("$binary_remote_addr"));
    let (world, first) = serving_as(world).await;
    // `nginx -t` knows nothing of the memory that the running master keeps.
    world.host.write_nginx(true, &zone("$uri"));
    let second = world.bundle(2);
    world.offer(&second);
    let report = world.outcome(2, v1::Outcome::NotApplied).await;
    assert!(report.problem.contains("old workers"), "{}", report.problem);
    assert_eq!(world.host.served(), Some(leaf(&first)));
    assert_eq!(world.host.active(), "2", "the tested pair stays");
    world.host.write_nginx(true, &zone("$binary_remote_addr"));
    world.outcome(2, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&second)));
}

#[tokio::test]
async fn one_bad_certificate_does_not_hold_up_another() {
    let (world, _) = serving().await;
    let pinned = world.host.path("pinned.key");
    fs::copy(world.host.live().join("privkey.pem"), &pinned).unwrap();
    world.host.pin_key(&pinned);
    world.host.reload_nginx();

    // Both become due at once: the joint test fails, and they are tried one by one.
    let other = "other.example.org";
    let bundle = world.authority.bundle(other, 1, &[other]);
    let bad = world.bundle(2);
    world.issuer.hold_offers();
    world.issuer.offer(&world.authority, &bundle, &[other]);
    world.offer(&bad);
    world.issuer.release_offers();
    let report = world
        .issuer
        .told("the good one", other, |report| {
            report.outcome() == v1::Outcome::Converged
        })
        .await;
    assert_eq!(report.installed.unwrap().generation, 1);
    world.outcome(2, v1::Outcome::Regressed).await;
    assert_eq!(
        fs::read_link(world.host.live())
            .unwrap()
            .file_name()
            .unwrap(),
        "1"
    );
}

#[tokio::test]
async fn what_was_rejected_stays_said_when_it_is_no_longer_offered_and_after_a_restart() {
    let (mut world, _) = serving().await;
    let mut wrong = world.bundle(2);
    wrong.key_pairs[0].private_key = world.bundle(9).key_pairs[0].private_key.clone();
    world.offer(&wrong);
    let said = world.outcome(2, v1::Outcome::Rejected).await.problem;

    // The issuer answers with nothing on offer.
    world.issuer.assign(
        &world.authority,
        v1::DesiredCertificate {
            name: NAME.into(),
            identifiers: vec![NAME.into(), "www.example.org".into()],
            ..Default::default()
        },
    );
    let other = "other.example.org";
    let bundle = world.authority.bundle(other, 1, &[other]);
    world.issuer.offer(&world.authority, &bundle, &[other]);
    let converged = |report: &v1::CertificateReport| report.outcome() == v1::Outcome::Converged;
    world.issuer.told("a pass later", other, converged).await;
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert_eq!(report.problem, said);

    world.host.kill_agent();
    world.issuer.memory.lock().unwrap().reports.clear();
    world.host.start_agent();
    world
        .issuer
        .told("served after the restart", NAME, |report| {
            report
                .served
                .as_ref()
                .is_some_and(|s| s.generation == Some(1))
        })
        .await;
    world.issuer.told("a pass later", other, converged).await;
    let report = world.outcome(2, v1::Outcome::Rejected).await;
    assert_eq!(report.problem, said);

    // And the next one is taken.
    let third = world.bundle(3);
    world.offer(&third);
    world.outcome(3, v1::Outcome::Converged).await;
    assert_eq!(world.host.served(), Some(leaf(&third)));
}

#[tokio::test]
async fn a_refused_offer_is_not_drawn_though_what_is_active_is_damaged() {
    let mut world = world().await;
    world.host.start_nginx().await;
    world.offer(&world.bundle(3));
    world.host.start_agent();
    world.outcome(3, v1::Outcome::Converged).await;
    world.offer(&world.bundle(2));
    world
        .issuer
        .told("backwards", NAME, |report| {
            report.problem.contains("this host has had generation 3")
        })
        .await;
    fs::write(world.host.live().join("privkey.pem"), "scribble").unwrap();
    let report = world
        .issuer
        .told("the damage", NAME, |report| {
            report
                .problem
                .contains("generation 3 is active and damaged")
        })
        .await;
    assert_eq!(report.outcome(), v1::Outcome::Held);
    assert!(report.problem.contains("has had generation 3"));
    let fetches = world.issuer.memory.lock().unwrap().fetches.clone();
    assert_eq!(fetches, [(NAME.to_owned(), 3)]);
}
