//! Hosts that are retired, certificates that are paused, and certificates that leave the configuration and return.

use std::time::Duration;

use certwell_proto::v1::{self, fleet_client::FleetClient};
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    client::{Joiner, enroll, fleet},
    offers::{next, watch},
    world::{MEDIA, World},
};

fn media(generation: u64) -> v1::FetchRequest {
    v1::FetchRequest {
        certificate: MEDIA.into(),
        generation,
    }
}

async fn fetch(client: &mut FleetClient<Channel>) -> Result<v1::Bundle, Code> {
    let answer = client.fetch(media(1)).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.code())
}

async fn status(world: &mut World) -> v1::StatusResponse {
    let request = v1::StatusRequest {};
    world.admin.status(request).await.unwrap().into_inner()
}

/// Waits until the host is offered this generation of its one certificate.
async fn offered(stream: &mut Streaming<v1::DesiredState>, generation: u64) -> v1::DesiredState {
    loop {
        let desired = next(stream).await;
        if desired.certificates.len() == 1 && desired.certificates[0].generation == generation {
            return desired;
        }
    }
}

async fn set_paused(world: &mut World, certificate: &str, paused: bool) {
    let certificate = certificate.to_owned();
    if paused {
        let request = v1::PauseRequest { certificate };
        world.admin.pause(request).await.unwrap();
    } else {
        let request = v1::ResumeRequest { certificate };
        world.admin.resume(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_retired_host_is_cut_off_for_good_and_forgotten() {
    let mut world = World::start().await;
    let (mut joiner, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let installed = v1::CertificateReport {
        name: MEDIA.into(),
        installed: Some(v1::Fact {
            generation: 1,
            agent_at_ms: 77,
        }),
        ..Default::default()
    };
    let report = v1::Report {
        certificates: vec![installed],
        ..Default::default()
    };
    client.report(report).await.unwrap();
    drop(client);
    // What the store holds, not only the memory of the process, is what has to be forgotten.
    let mut world = world.restart().await;
    let before = status(&mut world).await.certificates[0].hosts[0].clone();
    assert_eq!(
        (before.host.as_str(), before.installed.is_some()),
        ("sally", true)
    );

    let token = world.token("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    offered(&mut stream, 1).await;
    let began = Instant::now();
    let request = v1::RetireHostRequest {
        host: "sally".into(),
    };
    world.admin.retire_host(request.clone()).await.unwrap();
    let cut = timeout(Duration::from_secs(5), stream.message()).await;
    assert_eq!(cut.unwrap().unwrap_err().code(), Code::PermissionDenied);
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );

    joiner.identity = rcgen::KeyPair::generate().unwrap();
    for restarted in [false, true] {
        if restarted {
            world = world.restart().await;
            client = fleet(world.address(), &world.ca, &sally).await;
        }
        assert_eq!(fetch(&mut client).await, Err(Code::PermissionDenied));
        let denied = client.report(v1::Report::default()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        let denied = client.watch(v1::WatchRequest::default()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        // The token that was made before, by the host's own keys and by another machine's.
        for by in [&joiner, &Joiner::new()] {
            let denied = enroll(world.address(), &world.ca, by, &token)
                .await
                .unwrap_err();
            assert_eq!(denied.code(), Code::PermissionDenied);
        }
        let wish = v1::CreateTokenRequest {
            hosts: vec!["esme".into(), "sally".into()],
            ttl_seconds: 900,
        };
        let refused = world.admin.create_token(wish).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("sally was retired"), "{refused}");
        let again = world.admin.retire_host(request.clone()).await.unwrap_err();
        assert_eq!(again.code(), Code::FailedPrecondition);

        let forgotten = status(&mut world).await.certificates[0].hosts[0].clone();
        assert_eq!(
            (forgotten.host.as_str(), forgotten.installed),
            ("sally", None)
        );
        let hosts = world.admin.list_hosts(v1::ListHostsRequest {}).await;
        let life: Vec<_> = hosts
            .unwrap()
            .into_inner()
            .hosts
            .iter()
            .map(|host| (host.name.clone(), host.life()))
            .collect();
        assert_eq!(
            life,
            [
                ("esme".to_owned(), v1::HostLife::Enrolled),
                ("sally".to_owned(), v1::HostLife::Retired)
            ]
        );
        let mut bystander = fleet(world.address(), &world.ca, &esme).await;
        assert!(bystander.report(v1::Report::default()).await.is_ok());
    }
}

#[tokio::test]
async fn a_host_that_is_named_twice_is_given_no_token() {
    let mut world = World::start().await;
    let before = world.token("sally").await;
    let wish = v1::CreateTokenRequest {
        hosts: vec!["sally".into(), "esme".into(), "sally".into()],
        ttl_seconds: 900,
    };
    let refused = world.admin.create_token(wish).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("sally is named twice"),
        "{refused}"
    );
    // Nothing was made: the token of before is still good.
    let joined = enroll(world.address(), &world.ca, &Joiner::new(), &before).await;
    assert!(joined.is_ok());
}

#[tokio::test]
async fn a_pause_stops_offers_and_fetches_until_it_ends_even_over_a_restart() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    for paused in [MEDIA, ""] {
        let (mut client, mut stream) = watch(&world, &sally).await;
        offered(&mut stream, 1).await;
        assert!(fetch(&mut client).await.is_ok());

        set_paused(&mut world, paused, true).await;
        let held = offered(&mut stream, 0).await;
        assert!(held.certificates[0].fingerprints.is_empty());
        assert_eq!(fetch(&mut client).await, Err(Code::NotFound));

        drop((client, stream));
        world = world.restart().await;
        let (mut client, mut stream) = watch(&world, &sally).await;
        assert_eq!(next(&mut stream).await.certificates[0].generation, 0);
        assert_eq!(fetch(&mut client).await, Err(Code::NotFound));

        set_paused(&mut world, paused, false).await;
        offered(&mut stream, 1).await;
        assert!(fetch(&mut client).await.is_ok());

        drop((client, stream));
        world = world.restart().await;
    }
}

#[tokio::test]
async fn a_certificate_that_leaves_the_configuration_and_returns_keeps_its_generation() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (mut client, mut stream) = watch(&world, &sally).await;
    let before = offered(&mut stream, 1).await;
    let bundle = fetch(&mut client).await.unwrap();
    let file = world.config.with_file_name("conf.d").join("fleet.toml");
    let declared = std::fs::read_to_string(&file).unwrap();
    let (others, _) = declared.split_once("[certificate.").unwrap();
    for _ in 0..2 {
        std::fs::write(&file, others).unwrap();
        while !next(&mut stream).await.certificates.is_empty() {}
        assert_eq!(fetch(&mut client).await, Err(Code::NotFound));
        assert!(status(&mut world).await.certificates.is_empty());

        std::fs::write(&file, &declared).unwrap();
        let after = offered(&mut stream, 1).await;
        assert_eq!(after.certificates, before.certificates);
        assert_eq!(fetch(&mut client).await.unwrap(), bundle);
        assert_eq!(status(&mut world).await.certificates[0].generation, 1);
    }
}
