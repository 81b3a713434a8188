//! What the issuer knows of a host: what it said last, for a preflight that it doesn't answer; when it was heard last,
//! by a clock that was set back since.

use std::{collections::BTreeMap, sync::Arc};

use certwell_issuer::{
    config::Config,
    fleet::{Events, Registry, Scribe, Start},
    plan::{
        facts::{FleetFacts, HostFacts},
        presence::last_seen,
    },
    store::Store,
};
use certwell_proto::{HostName, v1};
use tokio::sync::watch;

use crate::world::World;

/// A registry over the world's store that knows these hosts.
async fn registry(world: &World, hosts: BTreeMap<HostName, HostFacts>) -> Registry {
    let store: Arc<dyn Store> = world.store.clone();
    let config = Arc::new(Config::load(&world.config).unwrap());
    let events = Events::start(store.clone());
    let (registry, _control) = Registry::start(Start {
        facts: FleetFacts {
            fleet: "hachyderm".parse().unwrap(),
            lineage: store.lineage().await.unwrap(),
            config,
            config_problem: None,
            paused: false,
            certificates: BTreeMap::new(),
            hosts,
            thumbprints: BTreeMap::new(),
            inventories: BTreeMap::new(),
            recovery: None,
            sightings: certwell_issuer::plan::seen::Sightings::none(jiff::Timestamp::UNIX_EPOCH),
            issuer: Default::default(),
            intruders: Default::default(),
        },
        events,
        scribe: Scribe::start(store),
        gate: watch::channel(Arc::default()).0,
    });
    registry
}

#[tokio::test]
async fn what_a_clock_said_that_was_set_back_counts_from_when_that_is_noticed() {
    let world = World::start().await;
    let sally: HostName = "sally".parse().unwrap();
    let ahead = "2999-01-01T00:00:00Z".parse().unwrap();
    let known = HostFacts {
        last_seen: Some(ahead),
        ..HostFacts::default()
    };
    let registry = registry(&world, BTreeMap::from([(sally.clone(), known)])).await;
    let seen = async || {
        let facts = registry.facts().await.unwrap();
        assert_eq!(facts.hosts[&sally].last_seen, Some(ahead), "it is kept");
        last_seen(facts.hosts.get(&sally)).unwrap()
    };
    let first = seen().await;
    assert!(first < ahead);
    assert_eq!(seen().await, first, "it doesn't go on from there");
    world.app.stop().await;
}

#[tokio::test]
async fn the_words_of_a_connected_host_are_known_until_it_takes_them_back() {
    let world = World::start().await;
    let registry = registry(&world, BTreeMap::new()).await;
    let hosts: [HostName; 2] = ["sally", "esme"].map(|name| name.parse().unwrap());
    let [sally, _] = &hosts;
    let _open = registry
        .watch(sally, v1::WatchRequest::default())
        .await
        .unwrap();
    for problem in ["nginx refuses the new challenge map", ""] {
        let report = v1::Report {
            host_problem: problem.into(),
            ..Default::default()
        };
        registry.report(sally, report).await.unwrap();
        let known = registry.hosts(&hosts).await;
        assert_eq!(known.keys().collect::<Vec<_>>(), [sally]);
        assert!(known[sally].connected);
        assert_eq!(known[sally].problem.as_deref().unwrap_or_default(), problem);
    }
    world.app.stop().await;
}
