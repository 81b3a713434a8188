//! A task that falls over is noticed: the process ends, or what fell is begun again.

use std::{future::pending, time::Duration};

use certwell_proto::v1::{self, EventKind};
use tokio::time::{sleep, timeout};

use crate::{
    client::fleet,
    world::{MEDIA, World},
};

const SOON: Duration = Duration::from_secs(10);

async fn renew(world: &mut World) {
    let request = v1::RenewCertificateRequest {
        certificate: MEDIA.into(),
    };
    world.admin.renew(request).await.unwrap();
}

/// The error with which the issuer ends by itself.
async fn ended(world: &mut World) -> String {
    let ended = timeout(SOON, world.app.run(pending())).await.unwrap();
    ended.unwrap_err().to_string()
}

#[tokio::test]
async fn an_issuer_that_can_write_no_events_any_more_ends() {
    let mut world = World::start().await;
    world.store.panic_at(Some("add_events"));
    world.token("sally").await;
    assert_eq!(
        ended(&mut world).await,
        "the events task ended that should have gone on"
    );
    timeout(SOON, world.app.stop()).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_can_write_down_nothing_of_what_hosts_say_ends() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    world.store.panic_at(Some("put_observations"));
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let report = v1::Report {
        certificates: vec![v1::CertificateReport {
            name: MEDIA.into(),
            problem: "nginx is stopped".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    client.report(report).await.unwrap();
    assert_eq!(
        ended(&mut world).await,
        "the scribe task ended that should have gone on"
    );
    timeout(SOON, world.app.stop()).await.unwrap();
}

#[tokio::test]
async fn an_account_whose_task_fell_over_is_kept_by_another() {
    let mut world = World::start().await;
    world.store.panic_at(Some("account"));
    renew(&mut world).await;
    let fell = |event: &v1::Event| event.text.contains("the task that keeps the account");
    timeout(SOON, world.event(fell)).await.unwrap();
    world.store.panic_at(None);
    renew(&mut world).await;
    // The CA isn't there: it was asked.
    let refused = |event: &v1::Event| {
        event.kind() == EventKind::OrderFailed && event.text.contains("127.0.0.1:1")
    };
    timeout(SOON, world.event(refused)).await.unwrap();
    assert_eq!(world.store.panicked(), 1);
    world.app.stop().await;
}

#[tokio::test]
async fn an_issuance_that_falls_over_each_time_does_not_spin() {
    let mut world = World::start().await;
    world.store.panic_at(Some("begin_order"));
    renew(&mut world).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(world.store.panicked(), 1);
    assert!(
        timeout(Duration::from_millis(100), world.app.run(pending()))
            .await
            .is_err()
    );
    world.app.stop().await;
}
