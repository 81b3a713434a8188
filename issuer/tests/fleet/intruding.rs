//! Who comes with an identity that isn't good any more is refused, remembered, and told; and the issuer looks after itself.

use std::time::Duration;

use certwell_issuer::plan::{
    alert::{Class, alerts},
    facts::{Failing, FleetFacts, OrderFacts, OrderStage},
};
use certwell_proto::v1;
use tonic::Code;

use crate::{
    client::fleet,
    world::{MEDIA, World, now},
};

async fn facts(world: &World, enough: impl Fn(&FleetFacts) -> bool) -> FleetFacts {
    for _ in 0..200 {
        let facts = world.app.registry().facts().await.unwrap();
        if enough(&facts) {
            return (*facts).clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn a_revoked_identity_that_is_used_is_counted_and_forgotten_when_its_host_joins_again() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let request = || v1::FetchRequest {
        certificate: MEDIA.into(),
        generation: 1,
    };
    client.fetch(request()).await.unwrap();
    let known = facts(&world, |_| true).await;
    assert!(known.intruders.is_empty());

    world.revoke("sally").await;
    for _ in 0..3 {
        let refused = client.fetch(request()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let known = facts(&world, |facts| {
        facts.intruders.values().any(|i| i.calls == 3)
    })
    .await;
    let (host, intruder) = known.intruders.first_key_value().unwrap();
    assert_eq!(host.as_str(), "sally");
    assert!(intruder.why.contains("was revoked at"), "{}", intruder.why);
    let told = alerts(&known, now());
    assert!(
        told.iter()
            .any(|alert| alert.key.class == Class::RevokedIdentity),
        "{told:#?}"
    );
    let event = world
        .event(|event| event.text.starts_with("refused: "))
        .await;
    assert_eq!(event.host, "sally");

    world.enrolled("sally").await;
    facts(&world, |facts| facts.intruders.is_empty()).await;
}

#[tokio::test]
async fn the_issuer_looks_at_its_own_disk_and_backups() {
    let world = World::start().await;
    let known = facts(&world, |facts| facts.issuer.backups.is_some()).await;
    let disk = known.issuer.disk.unwrap();
    assert!(disk.bytes.total > 0 && disk.bytes.free <= disk.bytes.total);
    assert_eq!(known.issuer.backups.unwrap().newest, None);
}

#[tokio::test]
async fn a_failure_is_not_over_because_it_is_tried_once_more() {
    let world = World::start().await;
    let name = MEDIA.parse().unwrap();
    let order = |facts: &FleetFacts| facts.certificates[&name].order.clone();
    // Its own issuance has said that nothing is due.
    facts(&world, |facts| order(facts).next_at.is_some()).await;
    let failing = Failing {
        since: now(),
        last: now(),
        again: None,
        problem: "the CA is away".into(),
        validation: false,
    };
    let registry = world.app.registry();
    let failed = OrderFacts {
        stage: OrderStage::Waiting,
        failures: 3,
        failing: Some(failing.clone()),
        ..OrderFacts::default()
    };
    registry.order(&name, failed).await;
    let tried = OrderFacts {
        stage: OrderStage::Ordered(2.into()),
        ..OrderFacts::default()
    };
    registry.order(&name, tried).await;
    let known = order(&registry.facts().await.unwrap());
    assert_eq!((known.failures, known.failing), (3, Some(failing)));
    registry.order(&name, OrderFacts::default()).await;
    let known = order(&registry.facts().await.unwrap());
    assert_eq!((known.failures, known.failing), (0, None));
}
