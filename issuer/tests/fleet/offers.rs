//! What hosts are offered, what they may fetch, and how they are cut off.

use std::time::Duration;

use certwell_proto::{
    Bundle, Fingerprint, bundle,
    v1::{self, enrollment_client::EnrollmentClient, fleet_client::FleetClient},
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    client::{Identity, Joiner, connect, enroll, fleet, tls},
    world::{MEDIA, World, now},
};

const SOON: Duration = Duration::from_secs(5);

pub(crate) async fn watch(
    world: &World,
    identity: &Identity,
) -> (FleetClient<Channel>, Streaming<v1::DesiredState>) {
    let mut fleet = fleet(world.address(), &world.ca, identity).await;
    let stream = fleet
        .watch(v1::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    (fleet, stream)
}

pub(crate) async fn next(stream: &mut Streaming<v1::DesiredState>) -> v1::DesiredState {
    timeout(SOON, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn a_host_is_told_at_once_what_it_needs_and_others_are_told_nothing_of_it() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let (_fleet, mut stream) = watch(&world, &sally).await;
    let desired = next(&mut stream).await;
    let names: Vec<_> = desired
        .certificates
        .iter()
        .map(|c| (c.name.as_str(), c.generation))
        .collect();
    assert_eq!(names, [(MEDIA, 1)]);
    assert!(desired.lineage.is_some());
    let (_fleet, mut stream) = watch(&world, &esme).await;
    let desired = next(&mut stream).await;
    assert!(desired.certificates.is_empty() && desired.authorities.is_empty());
}

#[tokio::test]
async fn what_is_fetched_verifies_and_what_is_not_assigned_does_not_exist() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    let desired = next(&mut stream).await;
    let request = v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    let fetched: Bundle = client
        .fetch(request.clone())
        .await
        .unwrap()
        .into_inner()
        .try_into()
        .unwrap();
    let verified = fetched.key_pairs[0]
        .verify(&bundle::Expected {
            identifiers: &[MEDIA.parse().unwrap()],
            roots: &desired.authorities[0].roots,
            now: now(),
        })
        .unwrap();
    assert_eq!(
        desired.certificates[0].fingerprints,
        [verified.leaf.fingerprint.0.to_vec()]
    );
    assert_eq!(
        fetched.fingerprints(),
        [Fingerprint::of(fetched.key_pairs[0].leaf_der())]
    );

    // The hand-out is written down, without the key.
    let events = v1::EventsRequest::default();
    let mut events = world.admin.events(events).await.unwrap().into_inner();
    let mut handed = 0;
    while let Some(event) = events.message().await.unwrap() {
        handed += u32::from(event.kind() == v1::EventKind::Fetched && event.host == "sally");
    }
    assert_eq!(handed, 1);

    let mut other = fleet(world.address(), &world.ca, &esme).await;
    let not_hers = other.fetch(request).await.unwrap_err();
    let nowhere = v1::FetchRequest {
        certificate: "no.such.name".into(),
        generation: 1,
    };
    let not_there = other.fetch(nowhere).await.unwrap_err();
    assert_eq!(
        (not_hers.code(), not_hers.message()),
        (not_there.code(), not_there.message())
    );
    assert_eq!(not_hers.code(), Code::NotFound);
    // Nor a generation that isn't on offer.
    for generation in [0, 2] {
        let request = v1::FetchRequest {
            certificate: MEDIA.into(),
            generation,
        };
        assert_eq!(
            client.fetch(request).await.unwrap_err().code(),
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn a_revoked_host_is_cut_off_within_a_second_and_refused_until_it_enrolls_again() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    let began = Instant::now();
    world.revoke("sally").await;
    let cut = timeout(SOON, stream.message()).await.unwrap().unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(cut.code(), Code::PermissionDenied);

    let request = v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    assert_eq!(
        client.fetch(request.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        client
            .report(v1::Report::default())
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let again = client.watch(v1::WatchRequest::default()).await.unwrap_err();
    assert_eq!(again.code(), Code::PermissionDenied);
    let mut anew = fleet(world.address(), &world.ca, &sally).await;
    assert_eq!(
        anew.fetch(request.clone()).await.unwrap_err().code(),
        Code::PermissionDenied
    );

    let (_, fresh) = world.enrolled("sally").await;
    let mut fresh = fleet(world.address(), &world.ca, &fresh).await;
    assert!(fresh.fetch(request.clone()).await.is_ok());
    // The old identity stays refused.
    assert_eq!(
        anew.fetch(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn whoever_renews_an_identity_while_it_is_revoked_gains_nothing() {
    let mut world = World::start().await;
    let (mut joiner, first) = world.enrolled("sally").await;
    let (address, ca) = (world.address(), world.ca.clone());
    let renewing = tokio::spawn(async move {
        let channel = connect(address, tls(&ca, Some(&first))).await.unwrap();
        let mut calls = EnrollmentClient::new(channel);
        let mut newest = first;
        loop {
            joiner.identity = rcgen::KeyPair::generate().unwrap();
            match calls.renew(joiner.renew_request()).await {
                Ok(renewed) => {
                    let certificate = renewed.into_inner().identity_certificate;
                    newest = (certificate, joiner.identity.serialize_der());
                }
                Err(_) => return newest,
            }
        }
    });
    world.revoke("sally").await;
    let newest = timeout(SOON, renewing).await.unwrap().unwrap();
    let mut client = fleet(world.address(), &world.ca, &newest).await;
    let refused = client.report(v1::Report::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_host_that_leaves_the_configuration_is_cut_off() {
    let mut world = World::start().await;
    let (_, esme) = world.enrolled("esme").await;
    let (mut client, mut stream) = watch(&world, &esme).await;
    next(&mut stream).await;
    let file = world.config.with_file_name("conf.d").join("fleet.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[host.esme]\n", "")).unwrap();
    let cut = timeout(SOON, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(cut.code(), Code::PermissionDenied);
    let refused = client.report(v1::Report::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_host_that_goes_away_is_seen_to_be_gone() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    assert!(world.connected("sally").await);
    drop((client, stream));
    let deadline = Instant::now() + SOON;
    while world.connected("sally").await {
        assert!(
            Instant::now() < deadline,
            "sally is still said to be connected"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_revoked_hosts_old_and_unused_tokens_are_worth_nothing() {
    let mut world = World::start().await;
    let used = world.token("sally").await;
    let mut joiner = Joiner::new();
    enroll(world.address(), &world.ca, &joiner, &used)
        .await
        .unwrap();
    let unused = world.token("sally").await;
    world.revoke("sally").await;
    // The host's own keys with a new identity key, as whoever stole them would try.
    joiner.identity = rcgen::KeyPair::generate().unwrap();
    for token in [used, unused] {
        let refused = enroll(world.address(), &world.ca, &joiner, &token)
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Code::PermissionDenied,
            "{}",
            refused.message()
        );
    }
}

#[tokio::test]
async fn an_edit_that_takes_a_certificate_away_is_told_and_obeyed() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    let file = world.config.with_file_name("conf.d").join("fleet.toml");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace(r#"["sally"]"#, r#"["esme"]"#);
    std::fs::write(&file, text).unwrap();
    while !next(&mut stream).await.certificates.is_empty() {}
    let request = v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    assert_eq!(
        client.fetch(request).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_generation_that_a_host_rejected_is_not_offered_to_it_again() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    assert_eq!(next(&mut stream).await.certificates[0].generation, 1);
    let rejected = v1::CertificateReport {
        name: MEDIA.into(),
        outcome: v1::Outcome::Rejected.into(),
        outcome_generation: 1,
        problem: "the private key doesn't fit the leaf".into(),
        ..Default::default()
    };
    let report = v1::Report {
        certificates: vec![rejected],
        ..Default::default()
    };
    client.report(report).await.unwrap();
    assert_eq!(next(&mut stream).await.certificates[0].generation, 0);
    let request = v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    assert_eq!(
        client.fetch(request).await.unwrap_err().code(),
        Code::NotFound
    );
    let status = world
        .admin
        .status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        status.certificates[0].hosts[0].state(),
        v1::HostState::Failed
    );
}

#[tokio::test]
async fn facts_survive_a_restart_of_the_issuer() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    let seen = v1::CertificateReport {
        name: MEDIA.into(),
        installed: Some(v1::Fact {
            generation: 1,
            agent_at_ms: 77,
        }),
        ..Default::default()
    };
    client
        .report(v1::Report {
            certificates: vec![seen],
            ..Default::default()
        })
        .await
        .unwrap();
    let installed = |status: v1::StatusResponse| status.certificates[0].hosts[0].installed;
    let before = installed(
        world
            .admin
            .status(v1::StatusRequest {})
            .await
            .unwrap()
            .into_inner(),
    );
    assert_eq!(
        before.as_ref().map(|f| (f.generation, f.agent_at_ms)),
        Some((1, 77))
    );
    drop((client, stream));
    let world = world.restart().await;
    let mut admin = world.admin.clone();
    assert_eq!(
        installed(
            admin
                .status(v1::StatusRequest {})
                .await
                .unwrap()
                .into_inner()
        ),
        before
    );
}
