//! Who is not let in, one reason after the other, where nothing else would keep him out.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use certwell_issuer::store::{Store as _, TokenRecord};
use certwell_proto::{
    Exit, JoinToken,
    identity::serial,
    v1::{self, enrollment_client::EnrollmentClient},
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{process::Command, time::timeout};
use tonic::Code;

use crate::{
    client::{Identity, Joiner, connect, enroll, fleet, tls},
    offers::{next, watch},
    world::{MEDIA, World, now},
};

/// An identity that the fleet CA signed, whoever it is of.
async fn signed(world: &World, who: &str, not_after: Timestamp) -> Identity {
    let ca = world.store.fleet_ca().await.unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(ca.key.expose().to_vec()));
    let key = KeyPair::try_from(&key).unwrap();
    let issuer = Issuer::from_ca_cert_der(&ca.certificate.as_slice().into(), key).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(who.try_into().unwrap())];
    params.serial_number = Some(SerialNumber::from_slice(&serial(now(), [7; 8])));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let seconds = u64::try_from(not_after.as_second()).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = (std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into();
    let own = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    (certificate.der().to_vec(), own.serialize_der())
}

#[tokio::test]
async fn an_identity_of_another_role_is_no_agent() {
    let mut world = World::start().await;
    world.enrolled("sally").await;
    let tomorrow = now() + SignedDuration::from_hours(24);
    for (role, expected) in [
        ("agent", Code::Ok),
        ("admin", Code::PermissionDenied),
        ("issuer", Code::PermissionDenied),
    ] {
        let who = format!("certwell://hachyderm/{role}/sally");
        let identity = signed(&world, &who, tomorrow).await;
        let mut client = fleet(world.address(), &world.ca, &identity).await;
        let request = v1::FetchRequest {
            certificate: MEDIA.into(),
            generation: 1,
        };
        let fetched = client.fetch(request).await;
        let code = fetched.map_or_else(|refused| refused.code(), |_| Code::Ok);
        assert_eq!(code, expected, "{role}");

        let channel = connect(world.address(), tls(&world.ca, Some(&identity)))
            .await
            .unwrap();
        let renewed = EnrollmentClient::new(channel)
            .renew(v1::RenewRequest::default())
            .await
            .unwrap_err();
        let is_agent = expected == Code::Ok;
        assert_eq!(
            renewed.message().contains("for agents"),
            !is_agent,
            "{role}"
        );
    }
}

#[tokio::test]
async fn an_identity_that_expires_is_cut_off_and_every_later_call_refused() {
    let mut world = World::start().await;
    world.enrolled("sally").await;
    let end = now() + SignedDuration::from_secs(3);
    let sally = signed(&world, "certwell://hachyderm/agent/sally", end).await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    let cut = timeout(Duration::from_secs(10), stream.message()).await;
    assert_eq!(cut.unwrap().unwrap_err().code(), Code::Unauthenticated);
    // The connection is older than the end, and still open.
    let refused = client.report(v1::Report::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("expired at"), "{refused}");
}

#[tokio::test]
async fn a_token_of_a_host_that_left_the_configuration_is_refused() {
    let mut world = World::start().await;
    let token = world.token("esme").await;
    let file = world.config.with_file_name("conf.d").join("fleet.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[host.esme]\n", "")).unwrap();
    world
        .event(|event| event.text.contains("configuration was read anew"))
        .await;
    let refused = enroll(world.address(), &world.ca, &Joiner::new(), &token)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("no longer declared"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_token_that_a_retired_host_still_has_is_refused() {
    let mut world = World::start().await;
    let mut token = world.token("sally").await;
    world.enrolled("sally").await;
    let request = v1::RetireHostRequest {
        host: "sally".into(),
    };
    world.admin.retire_host(request).await.unwrap();
    // Made while it was retired, and so not voided by that.
    token.secret = certwell_proto::Secret::new(vec![3; 32]);
    let record = TokenRecord {
        hash: JoinToken::secret_hash(token.secret.expose()),
        host: "sally".parse().unwrap(),
        expires: now() + SignedDuration::from_hours(1),
        used_by: None,
        void: false,
    };
    world.store.put_token(&record).await.unwrap();
    let refused = enroll(world.address(), &world.ca, &Joiner::new(), &token)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("was retired"), "{refused}");
}

#[tokio::test]
async fn a_token_lives_for_a_second_at_least_and_7_days_at_most() {
    let mut world = World::start().await;
    let week = 7 * 86_400;
    for (ttl_seconds, good) in [(0, false), (1, true), (week, true), (week + 1, false)] {
        let request = v1::CreateTokenRequest {
            hosts: vec!["sally".into()],
            ttl_seconds,
        };
        let code = world.admin.create_token(request).await;
        let code = code.map_or_else(|refused| refused.code(), |_| Code::Ok);
        let expected = if good {
            Code::Ok
        } else {
            Code::InvalidArgument
        };
        assert_eq!(code, expected, "{ttl_seconds}");
    }
}

#[tokio::test]
async fn a_revocation_outlives_the_database_that_forgot_it() {
    let mut world = World::start().await;
    let (_, first) = world.enrolled("sally").await;
    world.revoke("sally").await;
    let (_, second) = world.enrolled("sally").await;
    world.revoke("sally").await;
    let (_, third) = world.enrolled("sally").await;
    for forgotten in [
        "UPDATE host SET revoked = NULL",
        "UPDATE host SET revoked = 1",
    ] {
        world = world.restart_after(forgotten).await;
        for (identity, expected) in [
            (&first, Code::PermissionDenied),
            (&second, Code::PermissionDenied),
            (&third, Code::Ok),
        ] {
            let mut client = fleet(world.address(), &world.ca, identity).await;
            let answer = client.report(v1::Report::default()).await;
            let code = answer.map_or_else(|refused| refused.code(), |_| Code::Ok);
            assert_eq!(code, expected, "{forgotten}");
        }
    }
}

#[tokio::test]
async fn a_host_has_nothing_to_say_about_what_is_not_assigned_to_it() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let of_media = v1::CertificateReport {
        name: MEDIA.into(),
        installed: Some(v1::Fact {
            generation: 1,
            agent_at_ms: 77,
        }),
        ..Default::default()
    };
    for identity in [esme, sally] {
        let mut client = fleet(world.address(), &world.ca, &identity).await;
        let report = v1::Report {
            certificates: vec![of_media.clone()],
            ..Default::default()
        };
        client.report(report).await.unwrap();
    }
    let first = world
        .event(|event| event.kind() == v1::EventKind::Installed)
        .await;
    assert_eq!(first.host, "sally");
}

#[tokio::test]
async fn the_admin_socket_is_for_root_and_the_group_whatever_its_mode() {
    if !nix::unistd::Uid::effective().is_root() {
        skipped("another user's call can only be made by root");
        return;
    }
    let world = World::start().await;
    let socket = &world.app.admin_socket;
    let directory = socket.parent().unwrap();
    let certwell = directory.join("certwell");
    // By another process: one that is forked here meanwhile would hold the copy open for writing, and then it can't be run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_certwell"))
        .arg(&certwell)
        .status()
        .await;
    assert!(copied.unwrap().success());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    for (user, expected) in [(0, Exit::Done), (65_534, Exit::Denied)] {
        let output = Command::new(&certwell)
            .arg("--socket")
            .arg(socket)
            .args(["hosts", "list"])
            .uid(user)
            .gid(user)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(expected as i32),
            "{user}: {said}"
        );
        assert_eq!(said.contains("only root"), user != 0, "{said}");
    }
}

/// Not by `eprintln!`, which is heard only when a test fails.
fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
