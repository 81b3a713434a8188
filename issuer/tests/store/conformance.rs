//! One test for each behaviour that the trait promises, run against each store. Subjects have files of their own.

use std::{future::Future, sync::Arc};

use certwell_issuer::store::{
    Store, StoreError,
    keys::{Kek, RecoveryKey},
    memory::MemoryStore,
    sqlite::SqliteStore,
};

use super::records::*;

type Any = Arc<dyn Store>;

async fn with_memory<F: Future<Output = ()>>(test: fn(Any) -> F) {
    test(Arc::new(MemoryStore::new(lineage(), fleet_ca()))).await;
}

async fn with_sqlite<F: Future<Output = ()>>(test: fn(Any) -> F) {
    let parent = tempfile::tempdir().unwrap();
    let (kek, recovery) = (Kek::generate().unwrap(), RecoveryKey::generate().unwrap());
    let directory = parent.path().join("state");
    let store = SqliteStore::create(&directory, &kek, &recovery, lineage(), &fleet_ca())
        .await
        .unwrap();
    test(Arc::new(store)).await;
}

macro_rules! behaviours {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::with_memory(super::$name).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::with_sqlite(super::$name).await; })*
        }
    };
}

behaviours! {
    lineage_and_fleet_ca_are_what_the_store_began_with
    an_account_is_stored_with_its_key_alone_then_with_its_url
}

#[path = "conformance/alerts.rs"]
mod alerts;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/fleet.rs"]
mod fleet;
#[path = "conformance/orders.rs"]
mod orders;
#[path = "conformance/recovery.rs"]
mod recovery;

fn is_conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(sentence)) => sentence,
        other => panic!("a conflict was due, not {other:?}"),
    }
}

async fn issue(store: &Any, certificate: &str, generation: u64) {
    store
        .begin_order(&intent(certificate, generation))
        .await
        .unwrap();
    store
        .finish_order(&issued(certificate, generation))
        .await
        .unwrap();
}

async fn lineage_and_fleet_ca_are_what_the_store_began_with(store: Any) {
    assert_eq!(store.lineage().await.unwrap(), lineage());
    let ca = store.fleet_ca().await.unwrap();
    assert_eq!(ca.fleet.as_str(), "hachyderm");
    assert_eq!(ca.certificate, fleet_ca().certificate);
    assert_eq!(ca.key.expose(), CA_KEY);
}

async fn an_account_is_stored_with_its_key_alone_then_with_its_url(store: Any) {
    assert_eq!(store.account("https://a/").await.unwrap(), None);
    let begun = account("https://a/", None);
    store.put_account(&begun).await.unwrap();
    assert_eq!(store.account("https://a/").await.unwrap(), Some(begun));

    let made = account("https://a/", Some("https://a/acct/1"));
    store.put_account(&made).await.unwrap();
    let other = account("https://b/", None);
    store.put_account(&other).await.unwrap();
    assert_eq!(store.accounts().await.unwrap(), [made, other]);
}
