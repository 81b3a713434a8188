//! What hosts tell of all their certificates: known, kept, and gone with them.

use std::time::Duration;

use certwell_issuer::store::Store as _;
use certwell_proto::v1;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{client::fleet, world::World};

fn told(source: &str, served: v1::ServedState) -> v1::Report {
    v1::Report {
        inventory: Some(v1::Inventory {
            at_ms: 77,
            rows: vec![v1::InventoryRow {
                source: source.into(),
                covers: vec!["old.example".into()],
                issuer: "CN=R3".into(),
                not_before: 1_700_000_000,
                not_after: 1_707_776_000,
                fingerprint: vec![7; 32],
                managed: v1::ManagedBy::Nobody.into(),
                served: served.into(),
                used_at: vec!["/etc/nginx/nginx.conf:7".into()],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn inventories(world: &mut World, hosts: &[&str]) -> Vec<v1::HostInventory> {
    let request = v1::InventoryRequest {
        hosts: hosts.iter().map(ToString::to_string).collect(),
    };
    let answer = world.admin.inventory(request).await.unwrap();
    answer.into_inner().hosts
}

/// Waits until the store has this many.
async fn stored(world: &World, count: usize) -> Vec<certwell_issuer::store::InventoryRecord> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = world.store.inventories().await.unwrap();
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "{count} were due, not {found:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_host_tells_its_inventory_and_it_survives_the_issuer_and_goes_with_the_host() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let (_, esme) = world.enrolled("esme").await;
    let report = told("/etc/nginx/old.pem", v1::ServedState::Unused);
    for (host, identity) in [("sally", &sally), ("esme", &esme)] {
        let mut client = fleet(world.address(), &world.ca, identity).await;
        client.report(report.clone()).await.unwrap();
        // What comes later without one takes nothing away.
        client.report(v1::Report::default()).await.unwrap();
        assert_eq!(
            inventories(&mut world, &[host]).await[0].inventory,
            report.inventory
        );
    }
    stored(&world, 2).await;
    let mut world = world.restart().await;
    let all = inventories(&mut world, &[]).await;
    let hosts: Vec<&str> = all.iter().map(|told| told.host.as_str()).collect();
    assert_eq!(hosts, ["esme", "sally"]);
    assert!(all.iter().all(|told| told.inventory == report.inventory));

    let request = v1::RetireHostRequest {
        host: "sally".into(),
    };
    world.admin.retire_host(request).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            world = world.restart().await;
        }
        let left = inventories(&mut world, &[]).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].host, "esme");
        assert_eq!(stored(&world, 1).await[0].host.as_str(), "esme");
    }
    world.app.stop().await;
}

#[tokio::test]
async fn what_is_told_again_keeps_its_time_and_another_takes_its_place() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    assert_eq!(
        inventories(&mut world, &["sally"]).await,
        [v1::HostInventory {
            host: "sally".into(),
            ..Default::default()
        }]
    );
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let first = told("/etc/nginx/old.pem", v1::ServedState::Yes);
    client.report(first.clone()).await.unwrap();
    let at = inventories(&mut world, &["sally"]).await[0].at_ms;
    assert!(at > 0);
    sleep(Duration::from_millis(5)).await;
    client.report(first).await.unwrap();
    assert_eq!(inventories(&mut world, &["sally"]).await[0].at_ms, at);
    let other = told("/etc/nginx/new.pem", v1::ServedState::Yes);
    client.report(other.clone()).await.unwrap();
    let now = inventories(&mut world, &["sally"]).await;
    assert_eq!(now[0].inventory, other.inventory);
    assert!(now[0].at_ms > at);
    world.app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_changes_nothing() {
    let mut world = World::start().await;
    let (_, sally) = world.enrolled("sally").await;
    let mut client = fleet(world.address(), &world.ca, &sally).await;
    let good = told("/etc/nginx/old.pem", v1::ServedState::Yes);
    client.report(good.clone()).await.unwrap();
    let mut bad = told("/etc/nginx/new.pem", v1::ServedState::Yes);
    if let Some(inventory) = &mut bad.inventory {
        inventory.rows[0].covers.push("not a name".into());
    }
    let refused = client.report(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused
            .message()
            .starts_with("inventory.rows[0].covers[1]: "),
        "{refused}"
    );
    let now = inventories(&mut world, &["sally"]).await;
    assert_eq!(now[0].inventory, good.inventory);

    let request = v1::InventoryRequest {
        hosts: vec!["sally".into(), "nobody".into()],
    };
    let unknown = world.admin.inventory(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    world.app.stop().await;
}
