//! What only the store on disk does: it survives, and it holds no secret in the clear.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use certwell_issuer::store::{
    EventFilter, Store as _, StoreError,
    keys::{Kek, RecoveryKey},
    sqlite::{DATABASE, SqliteStore},
};
use certwell_proto::Generation;

use super::records::*;

/// A directory for a store, and the keys that open it.
pub(super) struct Place {
    pub(super) parent: tempfile::TempDir,
    pub(super) kek: Kek,
    pub(super) recovery: RecoveryKey,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
            kek: Kek::generate().unwrap(),
            recovery: RecoveryKey::generate().unwrap(),
        }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.parent.path().join("state")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.state().join(DATABASE)
    }

    pub(super) async fn create(&self) -> SqliteStore {
        SqliteStore::create(
            &self.state(),
            &self.kek,
            &self.recovery,
            lineage(),
            &fleet_ca(),
        )
        .await
        .unwrap()
    }

    pub(super) async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.state(), &self.kek).await
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.state())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[tokio::test]
async fn everything_is_there_after_reopening_even_without_a_clean_close() {
    let place = Place::new();
    for clean in [true, false] {
        let store = if clean {
            place.create().await
        } else {
            place.open().await.unwrap()
        };
        if clean {
            store
                .put_account(&account("https://a/", None))
                .await
                .unwrap();
            store.begin_order(&intent("a.example", 1)).await.unwrap();
            store.finish_order(&issued("a.example", 1)).await.unwrap();
            store.begin_order(&intent("a.example", 2)).await.unwrap();
            store
                .order_placed(&name("a.example"), Generation(2), "https://ca/order/2")
                .await
                .unwrap();
            store.put_token(&token("one", "sally")).await.unwrap();
            store
                .put_observations(&[observation("sally", "a.example", 1)])
                .await
                .unwrap();
            store.set_paused(None, true).await.unwrap();
            store.add_event(&event(1, None, "one")).await.unwrap();
            store.close().await;
        } else {
            store.put_host(&host_record("sally")).await.unwrap();
        }
        drop(store);
    }
    let store = place.open().await.unwrap();
    assert_eq!(store.lineage().await.unwrap(), lineage());
    assert_eq!(store.fleet_ca().await.unwrap().key.expose(), CA_KEY);
    assert_eq!(
        store.accounts().await.unwrap(),
        [account("https://a/", None)]
    );
    assert_eq!(
        store.newest_issued().await.unwrap(),
        [issued("a.example", 1)]
    );
    let pending = store.pending_orders().await.unwrap();
    assert_eq!(pending[0].intent, intent("a.example", 2));
    assert_eq!(pending[0].url.as_deref(), Some("https://ca/order/2"));
    assert_eq!(
        store.token(&token("one", "sally").hash).await.unwrap(),
        Some(token("one", "sally"))
    );
    assert_eq!(store.hosts().await.unwrap(), [host_record("sally")]);
    assert_eq!(store.observations().await.unwrap().len(), 1);
    assert_eq!(store.paused().await.unwrap(), [None]);
    assert_eq!(
        store
            .events(0, &EventFilter::default(), 2)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_copy_of_the_files_taken_at_any_commit_opens_with_all_that_was_committed() {
    let place = Place::new();
    let store = place.create().await;
    for generation in 1..=5 {
        store
            .begin_order(&intent("a.example", generation))
            .await
            .unwrap();
        // As after a power cut right now: what is on disk, log included, and no clean close.
        let cut = Place {
            parent: tempfile::tempdir().unwrap(),
            kek: place.kek.clone(),
            recovery: place.recovery.clone(),
        };
        fs::create_dir(cut.state()).unwrap();
        for file in place.files() {
            if !file.ends_with("certwell.db-shm") {
                fs::copy(&file, cut.state().join(file.file_name().unwrap())).unwrap();
            }
        }
        let after = cut.open().await.unwrap();
        assert_eq!(
            after.pending_orders().await.unwrap()[0].intent,
            intent("a.example", generation)
        );
        assert_eq!(
            after.newest_issued().await.unwrap().len(),
            usize::from(generation > 1)
        );
        store
            .finish_order(&issued("a.example", generation))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn two_writers_at_once_leave_exactly_one_order() {
    let place = Place::new();
    let store = std::sync::Arc::new(place.create().await);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.begin_order(&intent("a.example", 1)).await.is_ok() })
        })
        .collect();
    let mut begun = 0;
    for task in tasks {
        begun += usize::from(task.await.unwrap());
    }
    assert_eq!(begun, 1);
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let place = Place::new();
    let store = place.create().await;
    store.put_token(&token("one", "sally")).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&place.state()), 0o700);
    let files = place.files();
    assert!(files.len() >= 3, "database, log and lock: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn no_file_holds_a_secret_in_the_clear() {
    let place = Place::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let store = place.create().await;
    store
        .put_account(&account("https://a/", None))
        .await
        .unwrap();
    let mut real = intent("a.example", 1);
    real.private_key = certwell_proto::Secret::new(key.serialize_der());
    store.begin_order(&real).await.unwrap();
    store.finish_order(&issued("a.example", 1)).await.unwrap();
    store.begin_order(&intent("a.example", 2)).await.unwrap();

    let pkcs8 = key.serialize_der();
    let recovery = place.recovery.to_text();
    let kek = place.kek.to_text();
    // The private scalar of a P-256 key in PKCS#8 begins at byte 36.
    let secrets: [&[u8]; 8] = [
        CA_KEY,
        ACCOUNT_KEY,
        CERTIFICATE_KEY,
        &pkcs8,
        &pkcs8[36..68],
        b"PRIVATE KEY",
        recovery.as_bytes(),
        kek.trim_end().as_bytes(),
    ];
    let scan = |when: &str| {
        for file in place.files() {
            let bytes = fs::read(&file).unwrap();
            for (index, secret) in secrets.iter().enumerate() {
                assert!(
                    !contains(&bytes, secret),
                    "secret {index} in {} {when}",
                    file.display()
                );
            }
        }
    };
    let log = fs::read(place.state().join("certwell.db-wal")).unwrap();
    assert!(
        contains(&log, b"https://ca.example/directory"),
        "the scan would find what is in the clear"
    );
    scan("while open");
    store.close().await;
    assert!(contains(
        &fs::read(place.database()).unwrap(),
        b"https://ca.example/directory"
    ));
    scan("when closed");
}
