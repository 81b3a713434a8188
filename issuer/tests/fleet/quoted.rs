//! What the issuer knows of a host that is connected, for a preflight that it doesn't answer.

use std::{collections::BTreeMap, sync::Arc};

use certwell_issuer::{
    config::Config,
    fleet::{Events, Registry, Scribe, Start},
    plan::facts::FleetFacts,
    store::Store,
};
use certwell_proto::{HostName, v1};
use tokio::sync::watch;

use crate::world::World;

#[tokio::test]
async fn the_words_of_a_connected_host_are_known_until_it_takes_them_back() {
    let world = World::start().await;
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
            hosts: BTreeMap::new(),
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
