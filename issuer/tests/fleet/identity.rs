//! Joining, renewing, and being let in.

use std::{sync::Arc, time::Duration};

use certwell_proto::{
    Fingerprint,
    identity::{Identity, SERVER_NAME},
    v1::{self, enrollment_client::EnrollmentClient, fleet_client::FleetClient},
};
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tonic::Code;

use crate::{
    client::{Joiner, connect, enroll, fleet, tls},
    world::{World, now},
};

#[tokio::test]
async fn a_token_makes_one_identity_and_a_lost_answer_is_given_again() {
    let mut world = World::start().await;
    let token = world.token("sally").await;
    assert_eq!(token.ca_pin, Fingerprint::of(&world.ca));
    let joiner = Joiner::new();
    let first = enroll(world.address(), &world.ca, &joiner, &token)
        .await
        .unwrap();
    let named = Identity::of_certificate(&first.identity_certificate).unwrap();
    assert_eq!(named.to_string(), "certwell://hachyderm/agent/sally");
    let again = enroll(world.address(), &world.ca, &joiner, &token)
        .await
        .unwrap();
    assert_eq!(again.identity_certificate, first.identity_certificate);

    let thief = enroll(world.address(), &world.ca, &Joiner::new(), &token)
        .await
        .unwrap_err();
    assert_eq!(thief.code(), Code::PermissionDenied);
    assert!(
        thief.message().contains("used already"),
        "{}",
        thief.message()
    );
}

#[tokio::test]
async fn a_newer_token_voids_the_older_one_and_made_up_ones_are_refused() {
    let mut world = World::start().await;
    let older = world.token("sally").await;
    let mut newer = world.token("sally").await;
    let refused = enroll(world.address(), &world.ca, &Joiner::new(), &older)
        .await
        .unwrap_err();
    assert!(
        refused.message().contains("replaced or voided"),
        "{}",
        refused.message()
    );
    newer.secret = certwell_proto::Secret::new(vec![1; 32]);
    let refused = enroll(world.address(), &world.ca, &Joiner::new(), &newer)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("did not give out this token"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_token_needs_the_proof_of_the_key_that_it_will_be_bound_to() {
    let mut world = World::start().await;
    let token = world.token("sally").await;
    let mut request = Joiner::new().enroll_request(&token);
    request.bound_proof = Joiner::new().enroll_request(&token).bound_proof;
    let channel = connect(world.address(), tls(&world.ca, None))
        .await
        .unwrap();
    let refused = EnrollmentClient::new(channel)
        .enroll(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().starts_with("bound_proof: "),
        "{}",
        refused.message()
    );
    // The token is still good for its host.
    assert!(
        enroll(world.address(), &world.ca, &Joiner::new(), &token)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_identity_is_renewed_with_both_keys_and_the_same_key_gets_the_same_answer() {
    let mut world = World::start().await;
    let (mut joiner, identity) = world.enrolled("sally").await;
    joiner.identity = KeyPair::generate().unwrap();
    let channel = connect(world.address(), tls(&world.ca, Some(&identity)))
        .await
        .unwrap();
    let mut calls = EnrollmentClient::new(channel);
    let first = calls
        .renew(joiner.renew_request())
        .await
        .unwrap()
        .into_inner();
    let again = calls
        .renew(joiner.renew_request())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    assert_ne!(first.identity_certificate, identity.0);

    let mut forged = joiner.renew_request();
    forged.bound_proof = Joiner::new().sign(b"anything");
    assert_eq!(
        calls.renew(forged).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    // Old and new are both good until the old one ends.
    for identity in [
        identity,
        (first.identity_certificate, joiner.identity.serialize_der()),
    ] {
        let mut fleet = fleet(world.address(), &world.ca, &identity).await;
        assert!(fleet.report(v1::Report::default()).await.is_ok());
    }
}

#[tokio::test]
async fn without_a_certificate_only_enrollment_is_open() {
    let world = World::start().await;
    let channel = connect(world.address(), tls(&world.ca, None))
        .await
        .unwrap();
    let mut fleet = FleetClient::new(channel.clone());
    for code in [
        fleet
            .watch(v1::WatchRequest::default())
            .await
            .unwrap_err()
            .code(),
        fleet
            .fetch(v1::FetchRequest::default())
            .await
            .unwrap_err()
            .code(),
        fleet
            .report(v1::Report::default())
            .await
            .unwrap_err()
            .code(),
        EnrollmentClient::new(channel)
            .renew(v1::RenewRequest::default())
            .await
            .unwrap_err()
            .code(),
    ] {
        assert_eq!(code, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_by_the_handshake() {
    let world = World::start().await;
    let mut other = World::start().await;
    let (_, stranger) = other.enrolled("sally").await;
    // TLS 1.3 tells a client that its certificate was refused with the first bytes that it reads.
    let refused = match connect(world.address(), tls(&world.ca, Some(&stranger))).await {
        Err(_) => true,
        Ok(channel) => FleetClient::new(channel)
            .report(v1::Report::default())
            .await
            .is_err(),
    };
    assert!(refused);
}

#[tokio::test]
async fn tls_is_1_3_without_tickets() {
    let world = World::start().await;
    let mut config = tls(&world.ca, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let stream = TcpStream::connect(world.address()).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name.clone(), stream)
        .await
        .unwrap();
    assert_eq!(
        stream.get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    // The server's HTTP/2 settings come after any tickets would have.
    let mut settings = [0; 9];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut settings))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);

    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(world.ca.clone().into()).unwrap();
        roots
    };
    let old = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.address()).await.unwrap();
    assert!(
        tokio_rustls::TlsConnector::from(Arc::new(old))
            .connect(name, stream)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_others() {
    let mut world = World::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(world.address()).await.unwrap());
    }
    let (_, identity) = world.enrolled("sally").await;
    let mut fleet = fleet(world.address(), &world.ca, &identity).await;
    assert!(fleet.report(v1::Report::default()).await.is_ok());
}

#[tokio::test]
async fn a_revocation_that_the_database_forgot_is_applied_again_at_the_start() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let revoked = world.config.with_file_name("state").join("revoked.log");
    std::fs::write(revoked, format!("{} sally\n17", now().as_millisecond() + 1)).unwrap();
    let world = world.restart().await;
    let mut calls = fleet(world.address(), &world.ca, &sally).await;
    assert_eq!(
        calls
            .report(v1::Report::default())
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let mut calls = fleet(world.address(), &world.ca, &esme).await;
    assert!(calls.report(v1::Report::default()).await.is_ok());
}

#[tokio::test]
async fn a_revocation_is_written_down_beside_the_backups_before_it_is_answered_or_the_answer_says_so()
 {
    let mut world = World::start().await;
    let backups = world.config.with_file_name("backups");
    let revoke = async |world: &mut World, host: &str| {
        let (_, identity) = world.enrolled(host).await;
        let request = v1::RevokeHostRequest { host: host.into() };
        let answer = world.admin.revoke_host(request).await.unwrap().into_inner();
        let mut calls = fleet(world.address(), &world.ca, &identity).await;
        let refused = calls.report(v1::Report::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{host}");
        answer.warning
    };
    // No backups are made: there is nothing to restore.
    assert_eq!(revoke(&mut world, "sally").await, "");
    assert!(!backups.exists());

    std::fs::create_dir(&backups).unwrap();
    assert_eq!(revoke(&mut world, "esme").await, "");
    let own = world.config.with_file_name("state").join("revoked.log");
    let written = std::fs::read_to_string(backups.join("revoked.log")).unwrap();
    let mut lines: Vec<&str> = written.lines().collect();
    lines.sort_unstable();
    let own = std::fs::read_to_string(own).unwrap();
    assert_eq!(lines, own.lines().collect::<Vec<_>>(), "sally's too");

    std::fs::remove_file(backups.join("revoked.log")).unwrap();
    std::fs::create_dir(backups.join("revoked.log")).unwrap();
    let warning = revoke(&mut world, "esme").await;
    assert!(
        warning.contains("esme is cut off") && warning.contains("backups/revoked.log"),
        "{warning}"
    );
    world.event(|event| event.text == warning).await;
}
