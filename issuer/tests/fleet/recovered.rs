//! An issuer that was restored from a backup: what it waits for, and what it makes of what hosts tell.

use certwell_issuer::store::{EventFilter, Intent, Store as _, sqlite::SqliteStore};
use certwell_proto::{
    Generation, Lineage,
    v1::{self, enrollment_client::EnrollmentClient},
};
use tokio::time::{Duration, Instant, sleep, timeout};
use tonic::{Code, Streaming};

use crate::{
    client::{Identity, Joiner, connect, fleet, tls},
    world::{MEDIA, World, now},
};

const SOON: Duration = Duration::from_secs(10);
const LINEAGE: uuid::Uuid = uuid::Uuid::from_u128(99);

/// The store as a restore leaves it.
async fn restored(store: SqliteStore) {
    let before = store.lineage().await.unwrap();
    let lineage = Lineage {
        id: LINEAGE,
        started_ms: before.started_ms + 1,
    };
    store.begin_recovery(lineage, now()).await.unwrap();
    store.close().await;
}

/// Generation 1 is stored and assigned to sally; its chain.
async fn world() -> (World, Identity, Vec<Vec<u8>>) {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let chain = world.store.newest_issued().await.unwrap()[0]
        .fullchain
        .clone();
    let world = world.restart_on(restored).await;
    (world, sally, chain)
}

fn report(generation: u64, chain: &[Vec<u8>]) -> v1::Report {
    let fact = v1::Fact {
        generation,
        agent_at_ms: 1,
    };
    v1::Report {
        certificates: vec![v1::CertificateReport {
            name: MEDIA.into(),
            fetched: Some(fact),
            installed: Some(fact),
            active_fullchain: chain.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

async fn stream(
    world: &World,
    host: &Identity,
    observed: v1::Report,
) -> Streaming<v1::DesiredState> {
    let mut client = fleet(world.address(), &world.ca, host).await;
    let request = v1::WatchRequest {
        observed: Some(observed),
        ..Default::default()
    };
    client.watch(request).await.unwrap().into_inner()
}

async fn tell(world: &World, host: &Identity, report: v1::Report) {
    let mut client = fleet(world.address(), &world.ca, host).await;
    client.report(report).await.unwrap();
}

/// The generation that is offered next.
async fn next(stream: &mut Streaming<v1::DesiredState>) -> u64 {
    let state = timeout(SOON, stream.message()).await.unwrap();
    let state = state.unwrap().unwrap();
    assert_eq!(state.lineage.unwrap().id, LINEAGE.as_bytes());
    state.certificates[0].generation
}

async fn status(world: &mut World) -> v1::StatusResponse {
    let asked = world.admin.status(v1::StatusRequest {}).await;
    asked.unwrap().into_inner()
}

/// What is being ordered, once something is.
async fn ordered(world: &World) -> Intent {
    let limit = Instant::now() + SOON;
    loop {
        if let Some(order) = world.store.pending_orders().await.unwrap().first() {
            return order.intent.clone();
        }
        assert!(Instant::now() < limit, "nothing is ordered");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn fetch(world: &World, host: &Identity) -> Result<v1::Bundle, Code> {
    let mut client = fleet(world.address(), &world.ca, host).await;
    let request = v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    let answer = client.fetch(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|e| e.code())
}

#[tokio::test]
async fn nothing_is_ordered_or_offered_until_the_hosts_have_told_what_they_have() {
    let (mut world, sally, chain) = world().await;
    let mut stream = stream(&world, &sally, v1::Report::default()).await;
    assert_eq!(next(&mut stream).await, 0);
    assert_eq!(fetch(&world, &sally).await, Err(Code::NotFound));
    let request = v1::RenewCertificateRequest {
        certificate: MEDIA.into(),
    };
    world.admin.renew(request).await.unwrap();
    let told = status(&mut world).await;
    let recovery = told.recovery.unwrap();
    assert_eq!((recovery.hosts, recovery.reported), (1, 0));
    assert!(
        told.problems[0].contains("0 of 1 host have reported"),
        "{:?}",
        told.problems
    );
    assert_eq!(world.store.pending_orders().await.unwrap(), []);

    tell(&world, &sally, report(1, &chain)).await;
    assert_eq!(next(&mut stream).await, 1);
    assert!(fetch(&world, &sally).await.is_ok());
    let over = |event: &v1::Event| event.text.starts_with("recovered: 1 of 1 host");
    timeout(SOON, world.event(over)).await.unwrap();
    assert_eq!(status(&mut world).await.recovery, None);
    let renewal = ordered(&world).await;
    assert_eq!(renewal.generation, Generation(2));
    assert!(renewal.replaces.is_some());

    // Over is over, also after another start.
    let limit = Instant::now() + SOON;
    while world
        .store
        .recovery()
        .await
        .unwrap()
        .unwrap()
        .ended
        .is_none()
    {
        assert!(Instant::now() < limit);
        sleep(Duration::from_millis(20)).await;
    }
    let mut world = world.restart().await;
    assert_eq!(status(&mut world).await.recovery, None);
}

#[tokio::test]
async fn a_generation_that_the_backup_had_forgotten_is_named_and_issued_once_more_under_a_higher_number()
 {
    let (mut world, sally, chain) = world().await;
    let mut first = stream(&world, &sally, report(4, &chain)).await;
    assert_eq!(next(&mut first).await, 0, "it keeps what it has");
    let again = ordered(&world).await;
    assert_eq!((again.generation, again.replaces), (Generation(5), None));
    assert_eq!(fetch(&world, &sally).await, Err(Code::NotFound));
    let named =
        |event: &v1::Event| event.kind() == v1::EventKind::Recovery && event.generation == 4;
    let event = timeout(SOON, world.event(named)).await.unwrap();
    assert_eq!(event.certificate, MEDIA);
    assert!(event.text.contains("sally has it"), "{event:?}");
    let request = v1::ExplainRequest {
        certificate: MEDIA.into(),
    };
    let explained = world.admin.explain(request).await.unwrap().into_inner();
    let sentence = "generation 4 was issued after the backup";
    assert!(
        explained.sentences.iter().any(|s| s.contains(sentence)),
        "{explained:?}"
    );
    // The number is kept, whoever tells what; nobody is offered what is stored.
    let world = world.restart().await;
    let mut after = stream(&world, &sally, report(3, &chain)).await;
    assert_eq!(next(&mut after).await, 0);
    assert_eq!(ordered(&world).await.generation, Generation(5));
    let highest = world.store.highest_generations().await.unwrap();
    assert_eq!(highest, [(MEDIA.parse().unwrap(), Generation(4))]);
}

/// The generation that a renewal makes which is asked for now.
async fn renewed(world: &mut World) -> u64 {
    let request = v1::RenewCertificateRequest {
        certificate: MEDIA.into(),
    };
    let renewed = world.admin.renew(request).await.unwrap();
    renewed.into_inner().generation
}

#[tokio::test]
async fn a_hosts_second_word_orders_nothing_also_after_restarts_of_the_issuer() {
    let (world, sally, chain) = world().await;
    tell(&world, &sally, report(4, &chain)).await;
    assert_eq!(ordered(&world).await.generation, Generation(5));
    let mut world = world;
    for claimed in [9, 15] {
        world = world.restart().await;
        assert_eq!(status(&mut world).await.recovery, None, "nobody is awaited");
        tell(&world, &sally, report(claimed, &chain)).await;
        assert_eq!(renewed(&mut world).await, 5);
        assert_eq!(ordered(&world).await.generation, Generation(5));
        let highest = world.store.highest_generations().await.unwrap();
        assert_eq!(highest, [(MEDIA.parse().unwrap(), Generation(4))]);
    }
    let events = world
        .store
        .events(0, &EventFilter::default(), 1_000)
        .await
        .unwrap();
    let named = |text: &str| text.starts_with("it was issued after the backup");
    assert_eq!(events.iter().filter(|event| named(&event.text)).count(), 1);
}

#[tokio::test]
async fn a_restart_in_the_middle_waits_only_for_the_hosts_that_have_not_told_yet() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let chain = world.store.newest_issued().await.unwrap()[0]
        .fullchain
        .clone();
    let fleet = world.config.with_file_name("conf.d/fleet.toml");
    let declared = std::fs::read_to_string(&fleet).unwrap();
    let both = declared.replace(r#"["sally"]"#, r#"["sally", "esme"]"#);
    std::fs::write(&fleet, both).unwrap();
    let mut world = world.restart_on(restored).await;
    for _ in 0..2 {
        tell(&world, &sally, report(1, &chain)).await;
        let recovery = status(&mut world).await.recovery.unwrap();
        assert_eq!((recovery.hosts, recovery.reported), (2, 1));
        world = world.restart().await;
    }
    let recovery = status(&mut world).await.recovery.unwrap();
    assert_eq!((recovery.hosts, recovery.reported), (2, 1));
    tell(&world, &esme, report(1, &chain)).await;
    assert_eq!(status(&mut world).await.recovery, None);
}

#[tokio::test]
async fn what_a_host_told_is_known_after_a_restart_though_nothing_was_ordered_yet() {
    let (mut world, sally, chain) = world().await;
    let paused = v1::PauseRequest {
        certificate: MEDIA.into(),
    };
    world.admin.pause(paused).await.unwrap();
    tell(&world, &sally, report(4, &chain)).await;
    let mut world = world.restart().await;
    assert_eq!(world.store.pending_orders().await.unwrap(), []);
    let mut offers = stream(&world, &sally, report(4, &chain)).await;
    assert_eq!(next(&mut offers).await, 0, "what is stored is older");
    let resumed = v1::ResumeRequest {
        certificate: MEDIA.into(),
    };
    world.admin.resume(resumed).await.unwrap();
    assert_eq!(ordered(&world).await.generation, Generation(5));
}

#[tokio::test]
async fn a_claim_without_a_chain_waits_for_one_and_an_absurd_one_is_told_and_not_believed() {
    let (mut world, sally, chain) = world().await;
    let mut offers = stream(&world, &sally, report(4, &[])).await;
    assert_eq!(next(&mut offers).await, 0);
    tell(&world, &sally, report(4, &[vec![1, 2, 3]])).await;
    assert_eq!(status(&mut world).await.recovery.unwrap().reported, 0);
    tell(&world, &sally, report(5_000, &chain)).await;
    let problems = status(&mut world).await.problems;
    assert!(
        problems
            .iter()
            .any(|told| told.contains("sally claims generation 5000")),
        "{problems:?}"
    );
    assert_eq!(
        next(&mut offers).await,
        1,
        "what is stored is what is known"
    );
    // Its first word counted: another number doesn't make the issuer order anew and anew.
    tell(&world, &sally, report(4, &chain)).await;
    assert_eq!(status(&mut world).await.certificates[0].problem, "");
    assert_eq!(world.store.pending_orders().await.unwrap(), []);
}

/// The record of sally is gone, as if she had enrolled after the backup; `revoked` is what the list says of her.
async fn forgotten(revoked: Option<i64>) -> (World, Joiner, Identity) {
    let mut world = World::start().await;
    let (joiner, sally) = world.enrolled("sally").await;
    if let Some(after_ms) = revoked {
        let list = world.config.with_file_name("state").join("revoked.log");
        let at = now().as_millisecond() + after_ms;
        std::fs::write(list, format!("{at} sally\n")).unwrap();
    }
    world.beside("DELETE FROM host").await;
    (world.restart_on(restored).await, joiner, sally)
}

#[tokio::test]
async fn a_host_that_enrolled_after_the_backup_shows_its_bound_key_and_goes_on_without_a_token() {
    let (mut world, mut joiner, sally) = forgotten(None).await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let refused = client.watch(v1::WatchRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let refused = client.report(v1::Report::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(fetch(&world, &sally).await, Err(Code::FailedPrecondition));

    // Another bound key than the one that the identity names, or none, proves nothing.
    let channel = connect(world.address(), tls(&world.ca, Some(&sally)))
        .await
        .unwrap();
    let mut calls = EnrollmentClient::new(channel);
    let stranger = Joiner {
        bound: rcgen::KeyPair::generate().unwrap(),
        identity: rcgen::KeyPair::generate().unwrap(),
    };
    let mut mixed = stranger.renew_request();
    mixed.bound_key = joiner.renew_request().bound_key;
    let mut silent = joiner.renew_request();
    silent.bound_key.clear();
    for wrong in [stranger.renew_request(), mixed, silent] {
        let refused = calls.renew(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }

    joiner.identity = rcgen::KeyPair::generate().unwrap();
    let renewed = calls
        .renew(joiner.renew_request())
        .await
        .unwrap()
        .into_inner();
    let renewed = (
        renewed.identity_certificate,
        joiner.identity.serialize_der(),
    );
    let mut offers = stream(&world, &renewed, v1::Report::default()).await;
    next(&mut offers).await;
    let named = |event: &v1::Event| event.text.contains("had enrolled after the backup");
    assert_eq!(
        timeout(SOON, world.event(named)).await.unwrap().host,
        "sally"
    );
    // The identity that she had before is as good: it is the same host.
    tell(&world, &sally, v1::Report::default()).await;
}

#[tokio::test]
async fn a_host_that_enrolled_after_the_backup_and_was_revoked_stays_revoked() {
    let (world, joiner, sally) = forgotten(Some(1_000)).await;
    assert_eq!(fetch(&world, &sally).await, Err(Code::PermissionDenied));
    let channel = connect(world.address(), tls(&world.ca, Some(&sally)))
        .await
        .unwrap();
    let mut calls = EnrollmentClient::new(channel);
    let refused = calls.renew(joiner.renew_request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(world.store.hosts().await.unwrap(), []);
}

#[tokio::test]
async fn a_host_that_enrolled_again_after_the_backup_renews_by_the_bound_key_that_its_identity_names()
 {
    let mut world = World::start().await;
    let (old, old_identity) = world.enrolled("sally").await;
    let before = world.store.hosts().await.unwrap().remove(0);
    let (mut joiner, sally) = world.enrolled("sally").await;
    let world = world
        .restart_on(async move |store: SqliteStore| {
            store.put_host(&before).await.unwrap();
            restored(store).await;
        })
        .await;
    let renew = async |identity: &Identity, joiner: &Joiner| {
        let channel = connect(world.address(), tls(&world.ca, Some(identity)))
            .await
            .unwrap();
        EnrollmentClient::new(channel)
            .renew(joiner.renew_request())
            .await
    };
    assert!(renew(&sally, &old).await.is_err());
    joiner.identity = rcgen::KeyPair::generate().unwrap();
    renew(&sally, &joiner).await.unwrap();
    let record = world.store.hosts().await.unwrap().remove(0);
    assert_eq!(record.bound_key, joiner.renew_request().bound_key);
    // What was before that is not taken back by the machine that it was.
    assert!(renew(&old_identity, &old).await.is_err());
}

#[tokio::test]
async fn a_host_that_the_backup_has_forgotten_is_revoked_and_its_bound_key_opens_nothing() {
    let (mut world, mut joiner, sally) = forgotten(None).await;
    let request = v1::RevokeHostRequest {
        host: "sally".into(),
    };
    world.admin.revoke_host(request).await.unwrap();
    let list = world.config.with_file_name("state").join("revoked.log");
    assert!(std::fs::read_to_string(&list).unwrap().contains(" sally"));
    joiner.identity = rcgen::KeyPair::generate().unwrap();
    for again in [false, true] {
        if again {
            world = world.restart().await;
        }
        assert_eq!(fetch(&world, &sally).await, Err(Code::PermissionDenied));
        let channel = connect(world.address(), tls(&world.ca, Some(&sally)))
            .await
            .unwrap();
        let mut calls = EnrollmentClient::new(channel);
        let refused = calls.renew(joiner.renew_request()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    // A new token lets the machine in again.
    let (_, sally) = world.enrolled("sally").await;
    tell(&world, &sally, v1::Report::default()).await;
}
