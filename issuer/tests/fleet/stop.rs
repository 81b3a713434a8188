//! An issuer that is told to stop ends in order: what was said to it before is in the store.

use std::{sync::Arc, time::Duration};

use certwell_issuer::{
    acme::orders::Stored,
    config::Config,
    fleet::{
        Events, Registry, Scribe, Start,
        ca::Ca,
        peer::{Caller, Doorkeeper, Gate as Allowed, Peer},
        recall,
        service::FleetService,
    },
    store::Store,
};
use certwell_proto::v1::{self, fleet_server::Fleet as _};
use tokio::{sync::watch::Sender, time::timeout};
use tonic::Code;

use crate::{
    client::fleet,
    gated::{Gate, GatedStore},
    offers::{next, watch},
    world::{self, MEDIA, World},
};

/// Longer than what waits for nothing takes.
const WHILE: Duration = Duration::from_secs(1);

fn report(host_problem: &str, tested: bool) -> v1::Report {
    let fact = v1::Fact {
        generation: 1,
        agent_at_ms: 77,
    };
    let of_media = v1::CertificateReport {
        name: MEDIA.into(),
        installed: Some(fact),
        tested: tested.then_some(fact),
        ..Default::default()
    };
    v1::Report {
        certificates: vec![of_media],
        host_problem: host_problem.into(),
        ..Default::default()
    }
}

/// Stops an issuer whose store is held back at a gate with a first report, just after a second one came in; then
/// starts another.
async fn stopped_after_reports(gate: fn(&GatedStore) -> &Gate) -> World {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let store = world.store.clone();
    gate(&store).close();
    client.report(report("", false)).await.unwrap();
    gate(&store).holds_one().await;
    let last = report("the disk is nearly full", true);
    client.report(last).await.unwrap();
    drop(client);
    let mut stopping = Box::pin(world.restart());
    assert!(
        timeout(WHILE, &mut stopping).await.is_err(),
        "it stopped before the store had what it was told"
    );
    gate(&store).open();
    stopping.await
}

#[tokio::test]
async fn what_a_host_said_just_before_the_stop_is_in_the_store() {
    let mut world = stopped_after_reports(|store| &store.observations).await;
    let request = v1::StatusRequest {};
    let status = world.admin.status(request).await.unwrap().into_inner();
    let sally = &status.certificates[0].hosts[0];
    for fact in [&sally.installed, &sally.tested] {
        let fact = fact
            .as_ref()
            .map(|fact| (fact.generation, fact.agent_at_ms));
        assert_eq!(fact, Some((1, 77)), "{sally:?}");
    }
}

#[tokio::test]
async fn what_happened_just_before_the_stop_is_among_the_events() {
    let mut world = stopped_after_reports(|store| &store.events).await;
    let request = v1::EventsRequest::default();
    let mut events = world.admin.events(request).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        kinds.push(event.kind());
    }
    for kind in [v1::EventKind::Installed, v1::EventKind::HostProblem] {
        assert!(kinds.contains(&kind), "{kind:?} is missing in {kinds:?}");
    }
}

#[tokio::test]
async fn a_stop_cuts_streams_and_lets_nobody_in() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_client, mut stream) = watch(&world, &sally).await;
    next(&mut stream).await;
    let (address, store) = (world.address(), world.store.clone());
    // The stop waits for this, so that what is seen meanwhile is seen of an issuer that is stopping.
    store.events.close();
    world.token("esme").await;
    let stopping = tokio::spawn(world.app.stop());
    // Sooner than a stop gives up on calls that don't end by themselves.
    let cut = timeout(WHILE, stream.message()).await.unwrap();
    assert!(!matches!(cut, Ok(Some(_))), "{cut:?}");
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(!stopping.is_finished());
    store.events.open();
    timeout(Duration::from_secs(20), stopping)
        .await
        .unwrap()
        .unwrap();
}

/// The service of a stopped issuer, without its listener; and who it lets in.
async fn service(world: World) -> (FleetService, Sender<Arc<Allowed>>) {
    let config = Arc::new(Config::load(&world.config).unwrap());
    world.app.stop().await;
    let store: Arc<dyn Store> = Arc::new(world::open(&config).await);
    let ca = Ca::new(store.fleet_ca().await.unwrap()).unwrap();
    let stored = Stored::read(store.as_ref()).await.unwrap();
    let facts = recall(store.as_ref(), &config, &ca, &stored).await.unwrap();
    let allowed = Sender::new(Arc::new(Allowed::of(&facts)));
    let events = Events::start(store.clone());
    let start = Start {
        facts,
        events: events.clone(),
        scribe: Scribe::start(store.clone()),
        gate: Sender::new(Arc::default()),
    };
    let registry = Registry::start(start).0;
    let service = FleetService {
        doorkeeper: Doorkeeper {
            gate: allowed.subscribe(),
            registry: registry.clone(),
        },
        registry,
        store,
        events,
    };
    (service, allowed)
}

fn called<T>(by: &Arc<Peer>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(Caller(Some(by.clone())));
    request
}

#[tokio::test]
async fn a_call_that_comes_too_late_is_not_said_to_be_taken() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let sally = Arc::new(Peer::of_certificate(&sally.0).unwrap());
    let (service, _allowed) = service(world).await;
    let watch = || service.watch(called(&sally, v1::WatchRequest::default()));
    let report = || service.report(called(&sally, report("", false)));
    assert!(watch().await.is_ok());
    service.registry.stop().await;
    assert_eq!(watch().await.err().unwrap().code(), Code::Unavailable);
    assert!(report().await.is_ok());
    service.registry.finish().await;
    assert_eq!(report().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_host_that_is_revoked_while_its_stream_is_opened_gets_none() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let sally = Arc::new(Peer::of_certificate(&sally.0).unwrap());
    let (service, allowed) = service(world).await;
    let mut opening = service.watch(called(&sally, v1::WatchRequest::default()));
    // It has been let in, and waits for the registry.
    tokio::select! {
        biased;
        _ = &mut opening => panic!("the registry can't have answered yet"),
        () = std::future::ready(()) => {}
    }
    allowed.send_replace(Arc::default());
    let refused = opening.await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
