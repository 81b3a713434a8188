//! What the issuer is told of every certificate of a host, and when.

use std::{fs, time::Duration};

use certwell_proto::v1::{self, ManagedBy, ServedState};

use super::{
    faults::reloaded,
    fleet::self_signed,
    host::{NAME, free_port},
    issuer::eventually,
    quiet::settled,
    world::{World, leaf, serving, world},
};

/// Waits until the last inventory is as wanted.
async fn told(world: &World, what: &str, wanted: impl Fn(&v1::Inventory) -> bool) -> v1::Inventory {
    eventually(what, || async {
        let told = world
            .issuer
            .memory
            .lock()
            .unwrap()
            .inventories
            .last()
            .cloned();
        told.filter(|told| wanted(told))
    })
    .await
}

fn row<'a>(told: &'a v1::Inventory, source: &str) -> Option<&'a v1::InventoryRow> {
    told.rows.iter().find(|row| row.source.ends_with(source))
}

fn is_served(told: &v1::Inventory, source: &str) -> bool {
    row(told, source).is_some_and(|row| row.served() == ServedState::Yes)
}

#[tokio::test]
async fn every_certificate_is_told_and_again_when_nginx_s_configuration_or_a_file_changes() {
    let (world, first) = serving().await;
    let own = told(&world, "its own is told as served", |told| {
        is_served(told, "fullchain.pem")
    })
    .await;
    let own = row(&own, "fullchain.pem").unwrap();
    assert_eq!(own.managed(), ManagedBy::Certwell);
    assert_eq!(own.managed_name, NAME);
    assert_eq!(own.fingerprint, leaf(&first).0);

    // Of another hand: first named and not loaded, then loaded, by a reload of which nothing tells.
    let file = world.host.path("other/strange.pem");
    fs::create_dir(world.host.path("other")).unwrap();
    let (certificate, key) = self_signed("strange.example.org", (-3_600, 86_400));
    fs::write(&file, [certificate, key].concat()).unwrap();
    let (port, path) = (free_port(), file.display());
    world.host.write_nginx(
        true,
        &format!(
            "server {{ listen {port} ssl; server_name strange.example.org; ssl_certificate {path}; \
             ssl_certificate_key {path}; }}"
        ),
    );
    let named = told(&world, "it is named", |told| {
        row(told, "strange.pem").is_some()
    })
    .await;
    let strange = row(&named, "strange.pem").unwrap();
    assert_eq!(strange.managed(), ManagedBy::Nobody);
    assert_eq!(strange.served(), ServedState::No);
    assert_eq!(strange.covers, ["strange.example.org"]);
    assert_eq!(strange.listeners, [port.to_string()]);
    assert!(strange.used_at[0].contains("nginx.conf:"), "{strange:?}");
    reloaded(&world.host).await;
    let served = told(&world, "it is served", |told| {
        is_served(told, "strange.pem")
    })
    .await;
    let before = row(&served, "strange.pem").unwrap().fingerprint.clone();

    // Another file in its place, which nginx doesn't know of.
    let (certificate, key) = self_signed("strange.example.org", (-3_600, 86_400));
    fs::write(&file, [certificate, key].concat()).unwrap();
    told(&world, "the file changed", |told| {
        row(told, "strange.pem")
            .is_some_and(|row| row.fingerprint != before && row.served() == ServedState::No)
    })
    .await;

    world.host.write_nginx(true, "");
    reloaded(&world.host).await;
    told(&world, "it is gone", |told| {
        row(told, "strange.pem").is_none() && is_served(told, "fullchain.pem")
    })
    .await;
}

#[tokio::test]
async fn while_nothing_changes_nothing_is_told() {
    let (mut world, _) = serving().await;
    told(&world, "its own is told as served", |told| {
        is_served(told, "fullchain.pem")
    })
    .await;
    settled(&world.host).await;
    let memory = world.issuer.memory.clone();
    let count = || memory.lock().unwrap().inventories.len();
    let (before, tests) = (count(), world.host.tests_of_nginx());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(count(), before);
    assert_eq!(world.host.tests_of_nginx(), tests);
    // A new connection knows nothing of what the one before was told.
    world.issuer.stop();
    world.issuer.restart().await;
    eventually("it is told again", || async {
        (count() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_host_whose_nginx_is_unknown_tells_what_there_is_and_calls_nothing_dead() {
    let mut world = world().await;
    world.host.set_agent("binary = \"no-such-nginx\"");
    world.offer(&world.bundle(1));
    world.host.start_agent();
    let told = told(&world, "what there is", |told| {
        row(told, "fullchain.pem").is_some_and(|row| !row.fingerprint.is_empty())
            && !told.problem.is_empty()
    })
    .await;
    assert!(told.problem.contains("no-such-nginx"), "{told:?}");
    assert!(
        told.rows
            .iter()
            .all(|row| row.served() == ServedState::Unprobed),
        "{told:?}"
    );
}
