//! What hosts said reaches the store, whatever the store refuses meanwhile.

use std::{sync::Arc, time::Duration};

use certwell_issuer::{
    fleet::Scribe,
    store::{
        FleetCa, Observation, Store as _,
        keys::{Kek, RecoveryKey},
        sqlite::SqliteStore,
    },
};
use certwell_proto::{Generation, Lineage, Secret, v1};

use crate::world::beside;

struct Fixture {
    directory: tempfile::TempDir,
    store: Arc<SqliteStore>,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::create(
            &directory.path().join("state"),
            &Kek::generate().unwrap(),
            &RecoveryKey::generate().unwrap(),
            Lineage {
                id: uuid::Uuid::from_u128(1),
                started_ms: 1,
            },
            &FleetCa {
                fleet: "hachyderm".parse().unwrap(),
                certificate: b"certificate".to_vec(),
                key: Secret::new(b"key".to_vec()),
            },
        )
        .await
        .unwrap();
        Self {
            directory,
            store: Arc::new(store),
        }
    }

    async fn beside(&self, statement: &'static str) {
        beside(&self.directory.path().join("state"), statement).await;
    }

    /// Waits until the store holds observations of exactly these hosts.
    async fn stored(&self, hosts: &[&str]) {
        let mut found = Vec::new();
        for _ in 0..500 {
            let observations = self.store.observations().await.unwrap();
            found = observations
                .iter()
                .map(|seen| seen.host.to_string())
                .collect();
            if found == hosts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{hosts:?} were due, not {found:?}");
    }
}

fn observation(host: &str, generation: u64) -> Observation {
    Observation {
        host: host.parse().unwrap(),
        certificate: "media.hachyderm.io".parse().unwrap(),
        facts: v1::HostCertificateStatus::default(),
        outcome: v1::Outcome::Converged,
        outcome_generation: Generation(generation),
        told: None,
    }
}

#[tokio::test]
async fn a_note_that_the_store_refuses_holds_up_no_other() {
    let fixture = Fixture::new().await;
    let scribe = Scribe::start(fixture.store.clone());
    // More than the column holds.
    scribe.write(observation("bad", u64::MAX)).await;
    scribe.write(observation("esme", 1)).await;
    scribe.write(observation("sally", 1)).await;
    fixture.stored(&["esme", "sally"]).await;
    // Nor does it hold up those that come later, nor a better one from the same host.
    scribe.write(observation("fritz", 1)).await;
    scribe.write(observation("bad", 2)).await;
    fixture.stored(&["bad", "esme", "fritz", "sally"]).await;
}

#[tokio::test]
async fn what_came_while_the_store_failed_is_stored_when_it_works_again() {
    let fixture = Fixture::new().await;
    fixture
        .beside("CREATE TRIGGER full BEFORE INSERT ON observation BEGIN SELECT RAISE(ABORT, 'full'); END")
        .await;
    let scribe = Scribe::start(fixture.store.clone());
    for host in ["a", "b", "c", "d", "e"] {
        scribe.write(observation(host, 1)).await;
    }
    fixture.stored(&[]).await;
    fixture.beside("DROP TRIGGER full").await;
    fixture.stored(&["a", "b", "c", "d", "e"]).await;
}
