//! What a host's and a certificate's page tell of the past, however much has happened to others since.

use certwell_issuer::store::sqlite::DATABASE;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::world::{Reading, World};

/// Of sally's and of a certificate that both hosts have one each, and then of esme's as many as a large fleet brings.
const LONG_AGO: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
    INSERT INTO event (at, kind, certificate, host, generation, text)
    SELECT 1000 * unixepoch(), 9, CASE i WHEN 2 THEN 'media.hachyderm.io' END,
        CASE WHEN i = 1 THEN 'sally' WHEN i > 2 THEN 'esme' END, 1, 'it was number ' || i || '.' FROM n";

#[tokio::test]
async fn a_host_s_and_a_certificate_s_history_is_there_though_thousands_of_others_are_newer() {
    let world = World::start(Reading::Free).await;
    let mut beside = SqliteConnectOptions::new()
        .filename(world.path("state").join(DATABASE))
        .connect()
        .await
        .unwrap();
    sqlx::query(LONG_AGO).execute(&mut beside).await.unwrap();
    beside.close().await.unwrap();
    let told = |page: &str| -> Vec<u32> {
        let words = page.split("it was number ").skip(1);
        let numbers = words.map(|rest| rest.split('.').next().unwrap().parse().unwrap());
        numbers.collect()
    };
    let sally = world.get("/hosts/sally").await.body;
    assert_eq!(told(&sally), [1], "{sally}");
    let media = world.get("/certificates/media.hachyderm.io").await.body;
    assert_eq!(told(&media), [2], "{media}");
    // The newest first, and no more than one reads.
    let esme = world.get("/hosts/esme").await.body;
    let newest: Vec<u32> = (2951..=3000).rev().collect();
    assert_eq!(told(&esme), newest);
    world.app.stop().await;
}
