//! What the issuer keeps, and what it lets go of.

use std::{sync::atomic::Ordering, time::Duration};

use certwell_issuer::store::Store as _;
use certwell_proto::{
    JoinToken,
    v1::{Event, EventsRequest},
};
use tokio::time::{Instant, sleep};

use crate::world::{MEDIA, World};

/// More than one page of them.
const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    INSERT INTO event (at, kind, certificate, generation, text)
    SELECT 1000 * unixepoch(), 12, 'media.hachyderm.io', 1, 'n' || i FROM n";

async fn asked(world: &mut World, last: u32, certificate: &str) -> Vec<Event> {
    let request = EventsRequest {
        last,
        certificate: certificate.into(),
        ..Default::default()
    };
    told(world, request).await
}

async fn told(world: &mut World, request: EventsRequest) -> Vec<Event> {
    let mut stream = world.admin.events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn however_many_events_are_asked_for_few_are_in_memory_at_once() {
    let mut world = World::start().await.restart_after(MANY).await;
    for last in [0, u32::MAX] {
        let all = asked(&mut world, last, MEDIA).await;
        assert_eq!(all.iter().filter(|e| e.text.starts_with('n')).count(), 1000);
        assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
    let newest = asked(&mut world, 300, "").await;
    assert_eq!(newest.len(), 300);
    let most = world.store.most_events.load(Ordering::Relaxed);
    assert!(0 < most && most <= 300, "{most} at once");
    world.app.stop().await;
}

#[tokio::test]
async fn a_host_s_newest_events_are_told_and_those_that_follow() {
    let mut world = World::start().await;
    world.token("sally").await;
    world.token("esme").await;
    let mut world = world.restart_after(MANY).await;
    let of = |host: &str, last, follow| EventsRequest {
        host: host.into(),
        last,
        follow,
        ..Default::default()
    };
    let past = told(&mut world, of("sally", 50, false)).await;
    assert!(!past.is_empty(), "a thousand others are newer");
    assert!(past.iter().all(|event| event.host == "sally"), "{past:?}");
    assert_eq!(
        told(&mut world, of("sally", 1, false)).await,
        past[past.len() - 1..]
    );
    let unknown = world.admin.events(of("nobody", 1, false)).await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
    let mut live = world
        .admin
        .events(of("sally", 1, true))
        .await
        .unwrap()
        .into_inner();
    let first = live.message().await.unwrap().unwrap();
    assert_eq!(first, past[past.len() - 1]);
    world.token("esme").await;
    world.token("sally").await;
    let next = live.message().await.unwrap().unwrap();
    assert_eq!(next.host, "sally");
    assert!(next.id > first.id + 1, "esme's lies between");
    world.app.stop().await;
}

#[tokio::test]
async fn tokens_that_expired_long_ago_are_removed_and_others_stay() {
    let mut world = World::start().await;
    let hash = |token: &JoinToken| JoinToken::secret_hash(token.secret.expose());
    let old = hash(&world.token("sally").await);
    let fresh = hash(&world.token("esme").await);
    let world = world
        .restart_after("UPDATE token SET expires = 1 WHERE host = 'sally'")
        .await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.store.token(&old).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the old token stays");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(world.store.token(&fresh).await.unwrap().is_some());
    world.app.stop().await;
}
