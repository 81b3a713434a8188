//! What the store on disk refuses: another holder, another key, damage, another program's file.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use certwell_issuer::store::{
    Store as _, StoreError,
    keys::{Kek, KeyError},
    sqlite::SqliteStore,
};
use certwell_proto::Generation;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use super::records::*;

use super::disk::Place;

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
