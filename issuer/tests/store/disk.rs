//! What only the store on disk does: it survives, it is locked, it tells damage, it holds no secret in the clear.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use certwell_issuer::store::{
    Store as _, StoreError,
    keys::{Kek, KeyError, RecoveryKey},
    sqlite::{DATABASE, SqliteStore},
};
use certwell_proto::Generation;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use super::records::*;

/// A directory for a store, and the keys that open it.
struct Place {
    parent: tempfile::TempDir,
    kek: Kek,
    recovery: RecoveryKey,
}

impl Place {
    fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
            kek: Kek::generate().unwrap(),
            recovery: RecoveryKey::generate().unwrap(),
        }
    }

    fn state(&self) -> PathBuf {
        self.parent.path().join("state")
    }

    fn database(&self) -> PathBuf {
        self.state().join(DATABASE)
    }

    async fn create(&self) -> SqliteStore {
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

    async fn open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(&self.state(), &self.kek).await
    }

    fn files(&self) -> Vec<PathBuf> {
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
    assert_eq!(store.events(0, None, None).await.unwrap().len(), 1);
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

#[tokio::test]
async fn a_second_issuer_on_the_same_directory_is_refused_by_name() {
    let place = Place::new();
    let store = place.create().await;
    let error = place.open().await.unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&place.state().display().to_string()),
        "{error}"
    );

    store.put_token(&token("one", "sally")).await.unwrap();
    store.close().await;
    drop(store);
    place.open().await.unwrap();
}

#[tokio::test]
async fn another_key_encryption_key_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.create().await.close().await;
    let before = fs::read(place.database()).unwrap();
    let error = SqliteStore::open(&place.state(), &Kek::generate().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unseal { .. }), "{error:?}");
    assert!(error.to_string().contains("key-encryption key"), "{error}");
    assert_eq!(fs::read(place.database()).unwrap(), before);
    place.open().await.unwrap();
}

#[tokio::test]
async fn a_directory_without_a_store_says_how_to_make_one() {
    let place = Place::new();
    let error = place.open().await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert!(
        error.to_string().contains("certwell-issuer init"),
        "{error}"
    );
    assert!(!place.state().exists(), "opening makes nothing");
}

#[tokio::test]
async fn a_failing_file_system_or_engine_is_told_with_path_and_what_to_check() {
    let place = Place::new();
    let store = place.create().await;
    let mut beside = SqliteConnectOptions::new()
        .filename(place.database())
        .connect()
        .await
        .unwrap();
    sqlx::query(
        "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .execute(&mut beside)
    .await
    .unwrap();
    let failed = store.add_event(&event(1, None, "one")).await.unwrap_err();
    store.close().await;

    let elsewhere = Place::new();
    let file = elsewhere.parent.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("state");
    let refused = SqliteStore::create(
        &below,
        &elsewhere.kek,
        &elsewhere.recovery,
        lineage(),
        &fleet_ca(),
    )
    .await
    .unwrap_err();
    for (error, path) in [(failed, place.database()), (refused, below)] {
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains(&path.display().to_string()) && text.contains("disk isn't full"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn damage_is_told_with_path_and_remedy() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("emptied", |bytes| bytes.clear()),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("overwritten at its head", |bytes| bytes[..16].fill(b'x')),
        ("overwritten in its schema", |bytes| {
            bytes[100..2000].fill(0xa5)
        }),
        ("overwritten in its pages", |bytes| {
            bytes[4096..]
                .chunks_mut(4096)
                .for_each(|page| page[..64].fill(0xff))
        }),
        ("replaced by a text", |bytes| *bytes = b"hello ".repeat(100)),
    ];
    for (what, damage) in damages {
        let place = Place::new();
        place.create().await.close().await;
        let mut bytes = fs::read(place.database()).unwrap();
        damage(&mut bytes);
        fs::write(place.database(), &bytes).unwrap();
        let error = place.open().await.expect_err(what);
        assert!(
            matches!(error, StoreError::Corrupt { .. }),
            "{what}: {error:?}"
        );
        let sentence = error.to_string();
        assert!(
            sentence.contains("certwell.db") && sentence.contains("restore it from a backup"),
            "{sentence}"
        );
    }
}

#[tokio::test]
async fn damage_where_nothing_looks_at_the_start_is_found_at_the_start() {
    let place = Place::new();
    let store = place.create().await;
    store.begin_order(&intent("a.example", 1)).await.unwrap();
    store.finish_order(&issued("a.example", 1)).await.unwrap();
    store.close().await;
    drop(store);
    let mut bytes = fs::read(place.database()).unwrap();
    let chain = bytes
        .windows(300)
        .position(|window| window == [7; 300])
        .unwrap();
    let page = chain / 4096 * 4096;
    bytes[page..page + 64].fill(0xff);
    fs::write(place.database(), &bytes).unwrap();
    let error = place.open().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_of_another_program_is_left_as_it_is() {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
    let place = Place::new();
    fs::create_dir(place.state()).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(place.database())
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute("CREATE TABLE theirs (x)").await.unwrap();
    connection.close().await.unwrap();
    let before = fs::read(place.database()).unwrap();

    let error = place.open().await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    assert_eq!(fs::read(place.database()).unwrap(), before);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_told_apart_from_damage() {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
    let place = Place::new();
    place.create().await.close().await;
    let options = SqliteConnectOptions::new().filename(place.database());
    let mut connection = options.connect().await.unwrap();
    connection
        .execute("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)")
        .await
        .unwrap();
    connection.close().await.unwrap();
    let error = place.open().await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
}

#[tokio::test]
async fn a_secret_moved_to_another_row_does_not_open() {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
    let place = Place::new();
    let store = place.create().await;
    for certificate in ["a.example", "b.example"] {
        store.begin_order(&intent(certificate, 1)).await.unwrap();
        store.finish_order(&issued(certificate, 1)).await.unwrap();
    }
    store.close().await;
    drop(store);
    let options = SqliteConnectOptions::new().filename(place.database());
    let mut connection = options.connect().await.unwrap();
    connection
        .execute("UPDATE bundle SET private_key = (SELECT private_key FROM bundle WHERE certificate = 'b.example') WHERE certificate = 'a.example'")
        .await
        .unwrap();
    connection.close().await.unwrap();

    let store = place.open().await.unwrap();
    let error = store
        .bundle(&name("a.example"), Generation(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unseal { .. }), "{error:?}");
    assert!(
        error.to_string().contains("a.example, generation 1"),
        "{error}"
    );
    assert!(
        store
            .bundle(&name("b.example"), Generation(1))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn a_store_is_not_made_where_something_is() {
    let place = Place::new();
    place.create().await.close().await;
    let before = fs::read(place.database()).unwrap();
    let again = SqliteStore::create(
        &place.state(),
        &place.kek,
        &place.recovery,
        lineage(),
        &fleet_ca(),
    )
    .await;
    let error = again.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    assert_eq!(fs::read(place.database()).unwrap(), before);
}

#[test]
fn the_key_file_is_refused_where_it_is_open_misplaced_or_no_key() {
    let place = Place::new();
    fs::create_dir(place.state()).unwrap();
    let write = |path: PathBuf, text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let load = |path: &Path| Kek::load(path, None, &place.state());
    let text = place.kek.to_text();

    let good = write(place.parent.path().join("good"), &text, 0o600);
    assert_eq!(load(&good).unwrap().to_text(), text);
    let link = place.parent.path().join("link");
    symlink(&good, &link).unwrap();
    load(&link).unwrap();

    let missing = load(&place.parent.path().join("none")).unwrap_err();
    assert!(matches!(missing, KeyError::Missing { .. }), "{missing:?}");
    for mode in [0o640, 0o604, 0o660, 0o644] {
        let open = load(&write(place.parent.path().join("open"), &text, mode)).unwrap_err();
        assert!(matches!(open, KeyError::Open { .. }), "{open:?}");
        assert!(
            open.to_string().contains(&format!("mode {mode:04o}")),
            "{open}"
        );
        assert!(open.to_string().contains("chmod 600"), "{open}");
    }
    let inside = write(place.state().join("kek"), &text, 0o600);
    let beside_link = place.parent.path().join("beside");
    symlink(&inside, &beside_link).unwrap();
    for path in [inside, beside_link] {
        let beside = load(&path).unwrap_err();
        assert!(matches!(beside, KeyError::Beside { .. }), "{beside:?}");
    }
    for wrong in ["", "hello", "AAAA"] {
        let form = load(&write(place.parent.path().join("form"), wrong, 0o600)).unwrap_err();
        assert!(matches!(form, KeyError::Form { .. }), "{form:?}");
    }
    let shared = place.parent.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let directory = load(&write(shared.join("kek"), &text, 0o600)).unwrap_err();
    assert!(
        matches!(directory, KeyError::Directory { .. }),
        "{directory:?}"
    );
}

#[test]
fn a_systemd_credential_goes_before_the_file() {
    let place = Place::new();
    let credentials = place.parent.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    let file = place.parent.path().join("file");
    fs::write(&file, Kek::generate().unwrap().to_text()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let load = || {
        Kek::load(&file, Some(&credentials), &place.state())
            .unwrap()
            .to_text()
    };

    assert_ne!(
        load(),
        place.kek.to_text(),
        "without the credential the file counts"
    );
    fs::write(credentials.join("certwell-kek"), place.kek.to_text()).unwrap();
    assert_eq!(load(), place.kek.to_text());
}
