//! `certwell-issuer restore`, as a person runs it on a machine that has nothing of the fleet.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use certwell_issuer::store::{
    EventFilter, HostRecord, Store as _, TokenRecord,
    keys::{Kek, RecoveryKey},
    sqlite::{self, SqliteStore},
};
use certwell_proto::{Exit, Lineage};
use jiff::Timestamp;

use super::fleet::*;

/// A fleet with two hosts and an unused token, backed up, its recovery key in `key`; then lost.
struct Lost {
    fleet: Fleet,
    lineage: Lineage,
    ca: Vec<u8>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn host(name: &str) -> HostRecord {
    HostRecord {
        name: name.parse().unwrap(),
        bound_key: vec![1],
        identity: vec![2],
        identity_key: [3; 32],
        revoked: None,
        retired: false,
        info: Default::default(),
        last_seen: None,
    }
}

const TOKEN: [u8; 32] = [9; 32];

async fn store(fleet: &Fleet) -> SqliteStore {
    let kek = Kek::load(&fleet.path("etc/issuer.kek"), None, &fleet.path("state")).unwrap();
    SqliteStore::open(&fleet.path("state"), &kek).await.unwrap()
}

impl Lost {
    async fn new() -> Self {
        let fleet = Fleet::new();
        let made = fleet.init_with(&[]);
        ended(&made, Exit::Done);
        let key = text(&made.stdout).lines().next().unwrap().to_owned();
        fs::write(fleet.path("key"), key).unwrap();
        fleet.set(
            "#backup-directory = \"/var/backups/certwell-issuer\"",
            &format!("backup-directory = {:?}", fleet.path("backups")),
        );
        fs::write(fleet.path("etc/conf.d/hosts.toml"), "[host.sally]\n").unwrap();
        let store = store(&fleet).await;
        store.put_host(&host("sally")).await.unwrap();
        store.put_host(&host("esme")).await.unwrap();
        let token = TokenRecord {
            hash: TOKEN,
            host: "sally".parse().unwrap(),
            expires: at(9_999_999_999),
            used_by: None,
            void: false,
        };
        store.put_token(&token).await.unwrap();
        let lineage = store.lineage().await.unwrap();
        let ca = store.fleet_ca().await.unwrap().certificate;
        store.close().await;
        ended(&fleet.run(&["backup"]), Exit::Done);
        fs::remove_dir_all(fleet.path("state")).unwrap();
        fs::remove_dir_all(fleet.path("etc")).unwrap();
        Self { fleet, lineage, ca }
    }

    fn backup(&self) -> PathBuf {
        let entries = fs::read_dir(self.fleet.path("backups")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.is_dir());
        paths.sort();
        paths.pop().unwrap()
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.fleet.path(name).display().to_string();
        let own = [
            "restore",
            "--from",
            &path("backups"),
            "--recovery-key-file",
            &path("key"),
        ];
        own.iter()
            .chain(more)
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn restore(&self, more: &[&str]) -> Output {
        let words = self.words(more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.fleet.run(&words)
    }

    /// All that a restored fleet is.
    async fn is_restored(&self) -> SqliteStore {
        let store = store(&self.fleet).await;
        let lineage = store.lineage().await.unwrap();
        assert!(lineage.forbids(&self.lineage) && !self.lineage.forbids(&lineage));
        assert_eq!(store.fleet_ca().await.unwrap().certificate, self.ca);
        assert_eq!(store.hosts().await.unwrap().len(), 2);
        assert!(store.token(&TOKEN).await.unwrap().unwrap().void);
        let recovery = store.recovery().await.unwrap().unwrap();
        assert_eq!(recovery.ended, None);
        ended(&self.fleet.run(&["check"]), Exit::Done);
        store
    }
}

#[tokio::test]
async fn a_script_is_told_what_was_restored_and_what_was_made_anew() {
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    // Called by a time that is still to come.
    let ahead = fleet.path("backups/certwell-29991128T031500Z");
    fs::rename(lost.backup(), &ahead).unwrap();
    fs::write(fleet.path("backups/revoked.log"), "1700000000 esme\n").unwrap();
    let output = lost.restore(&["--json"]);
    ended(&output, Exit::Done);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let store = lost.is_restored().await;
    let lineage = store.lineage().await.unwrap().to_string();
    let wanted = serde_json::json!({
        "version": 1,
        "backup": ahead,
        "config": fleet.path("etc/issuer.toml"),
        "config_from_backup": true,
        "key_file": fleet.path("etc/issuer.kek"),
        "key_made": true,
        "state_directory": fleet.path("state"),
        "lineage": lineage,
        "hosts": 2,
        "revoked": ["esme"],
        "later": [ahead],
        "problem": null,
    });
    assert_eq!(told, wanted);
    store.close().await;
    let again = lost.restore(&["--json"]);
    assert!(ended(&again, Exit::Conflict).contains("there is a store"));
    assert_eq!(text(&again.stdout), "");
}

#[tokio::test]
async fn a_lost_issuer_is_restored_with_another_lineage_and_key_by_the_same_recovery_key() {
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    let output = lost.restore(&[]);
    let stderr = ended(&output, Exit::Done);
    assert!(
        stderr.contains(&lost.backup().display().to_string()),
        "{stderr}"
    );
    let told = text(&output.stdout);
    assert!(
        told.contains("(from the backup)") && told.contains("(new)") && told.contains("2 hosts"),
        "{told}"
    );
    assert_eq!(mode(&fleet.path("state")), 0o700);
    assert_eq!(mode(&fleet.path("state/certwell.db")), 0o600);
    assert_eq!(mode(&fleet.path("etc/issuer.kek")), 0o600);
    assert_eq!(mode(&fleet.path("etc/issuer.toml")), 0o644);
    assert_eq!(
        fs::read_to_string(fleet.path("etc/conf.d/hosts.toml")).unwrap(),
        "[host.sally]\n"
    );
    assert!(!fleet.path("state/.restoring").exists());
    lost.is_restored().await.close().await;
    // A backup of what was restored is opened by the same key, and by no other.
    ended(&fleet.run(&["backup"]), Exit::Done);
    let copy = lost.backup().join("certwell.db");
    let key: RecoveryKey = fs::read_to_string(fleet.path("key"))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        sqlite::prove(&copy, &key).await.unwrap().certificate,
        lost.ca
    );
    let other = RecoveryKey::generate().unwrap();
    assert!(sqlite::prove(&copy, &other).await.is_err());
}

#[tokio::test]
async fn the_key_comes_from_standard_input_and_what_the_machine_has_already_stays() {
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    fs::create_dir_all(fleet.path("etc/conf.d")).unwrap();
    let kek = Kek::generate().unwrap().to_text();
    fs::write(fleet.path("etc/issuer.kek"), kek.as_bytes()).unwrap();
    fs::set_permissions(
        fleet.path("etc/issuer.kek"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let changed = fs::read_to_string(lost.backup().join("issuer.toml")).unwrap() + "# edited\n";
    fs::write(fleet.path("etc/issuer.toml"), &changed).unwrap();
    let backup = lost.backup().display().to_string();
    let output = fleet
        .command(&["restore", "--from", &backup])
        .stdin(Stdio::from(fs::File::open(fleet.path("key")).unwrap()))
        .output()
        .unwrap();
    ended(&output, Exit::Done);
    assert_eq!(
        fs::read(fleet.path("etc/issuer.kek")).unwrap(),
        kek.as_bytes()
    );
    assert_eq!(
        fs::read_to_string(fleet.path("etc/issuer.toml")).unwrap(),
        changed
    );
    lost.is_restored().await;
}

#[tokio::test]
async fn every_revocation_that_is_known_anywhere_is_applied() {
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    fs::write(lost.backup().join("revoked.log"), "10000 sally\n").unwrap();
    fs::write(
        fleet.path("backups/revoked.log"),
        "20000 sally\n5000 later\n7",
    )
    .unwrap();
    fs::write(fleet.path("newer"), "30000 esme\n").unwrap();
    let newer = fleet.path("newer").display().to_string();
    let output = lost.restore(&["--revocations", &newer]);
    ended(&output, Exit::Done);
    let told = text(&output.stdout);
    assert!(told.contains("esme, later, sally"), "{told}");
    let store = lost.is_restored().await;
    let mut hosts = store.hosts().await.unwrap();
    hosts.sort_by_key(|host| host.name.clone());
    let revoked: Vec<_> = hosts.iter().map(|host| host.revoked).collect();
    assert_eq!(revoked, [Some(at(30)), Some(at(20))]);
    // One that the backup doesn't know may come back from its own disk: the list is kept.
    let kept = fs::read_to_string(fleet.path("state/revoked.log")).unwrap();
    assert_eq!(kept, "30000 esme\n5000 later\n20000 sally\n");
}

#[tokio::test]
async fn what_can_not_be_restored_is_told_and_nothing_is_written() {
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    let refused = |exit: Exit, part: &str, more: &[&str]| {
        let before = fleet.tree();
        let stderr = ended(&lost.restore(more), exit);
        assert!(stderr.contains(part), "{part:?} is missing in {stderr}");
        assert_eq!(fleet.tree(), before, "{part}");
    };
    let key = fs::read(fleet.path("key")).unwrap();
    let wrong = RecoveryKey::generate().unwrap().to_text();
    fs::write(fleet.path("key"), wrong.as_bytes()).unwrap();
    refused(Exit::Configuration, "isn't the recovery key", &[]);
    fs::write(fleet.path("key"), &key[..key.len() - 1]).unwrap();
    refused(Exit::Usage, "that is no recovery key", &[]);
    fs::write(fleet.path("key"), &key).unwrap();
    let nowhere = fleet.path("nowhere").display().to_string();
    refused(Exit::NotFound, "nowhere", &["--revocations", &nowhere]);

    let database = lost.backup().join("certwell.db");
    let whole = fs::read(&database).unwrap();
    let mut damaged = whole.clone();
    let page = of_fleet_ca(&damaged) / 4_096 * 4_096;
    damaged[page..page + 4_096].fill(0x5a);
    for content in [&damaged[..], &whole[..5_000], b"rubbish"] {
        fs::write(&database, content).unwrap();
        refused(Exit::Internal, "certwell.db can't be used", &[]);
    }
    // Every page is whole, and one secret isn't.
    fs::write(&database, &whole).unwrap();
    let secret = {
        use sqlx::{ConnectOptions as _, Connection as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&database);
        let mut connection = options.connect().await.unwrap();
        let of_ca = "UPDATE fleet SET ca_key = zeroblob(length(ca_key))";
        sqlx::query(of_ca).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        "can't unseal the fleet-ca-key of hachyderm"
    };
    refused(Exit::Configuration, secret, &[]);
    fs::write(&database, &whole).unwrap();

    // A configuration that comes with the backup, and can't be used here, goes again.
    let config = lost.backup().join("issuer.toml");
    let text = fs::read_to_string(&config).unwrap();
    let beside = fleet.path("state/issuer.kek").display().to_string();
    let of_key = fleet.path("etc/issuer.kek").display().to_string();
    for (part, wrong) in [
        (
            "unknown key",
            text.replace("\n[issuer]\n", "\n[issuer]\nwrong = 1\n"),
        ),
        (
            "for the fleet other",
            text.replace("\"hachyderm\"", "\"other\""),
        ),
        ("inside the state directory", text.replace(&of_key, &beside)),
    ] {
        fs::write(&config, wrong).unwrap();
        refused(Exit::Configuration, part, &[]);
    }
    fs::remove_file(&config).unwrap();
    refused(
        Exit::Configuration,
        "the backup holds no configuration",
        &[],
    );
    fs::write(&config, text).unwrap();

    ended(&lost.restore(&[]), Exit::Done);
    refused(Exit::Conflict, "there is a store at", &[]);
    fs::remove_dir_all(fleet.path("backups")).unwrap();
    fs::create_dir(fleet.path("backups")).unwrap();
    fs::remove_dir_all(fleet.path("state")).unwrap();
    refused(Exit::NotFound, "holds no backup", &[]);
}

#[tokio::test]
async fn a_restore_that_is_killed_anywhere_leaves_no_store_and_the_next_one_ends_it() {
    if Command::new("strace").arg("-V").output().is_err() {
        let loud = b"\nSKIPPED: a restore that is killed; strace isn't installed\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const CALLS: &str = "mkdir,rename,unlink,rmdir,fsync,fdatasync,ftruncate,chmod,pwrite64,write";
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    let mut killed = 0;
    // Each call by its number, as many as there are; a few are left out where there are many of them.
    for number in (1..40).chain((40..2_000).step_by(7)) {
        let output = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={CALLS}"),
                "-e",
            ])
            .arg(format!("inject={CALLS}:signal=KILL:when={number}"))
            .arg(env!("CARGO_BIN_EXE_certwell-issuer"))
            .arg("--config")
            .arg(fleet.path("etc/issuer.toml"))
            .args(lost.words(&[]))
            .output()
            .unwrap();
        let whole = output.status.success();
        killed += u32::from(!whole);
        if !fleet.path("state/certwell.db").exists() {
            assert!(!whole);
            ended(&lost.restore(&[]), Exit::Done);
        }
        let store = lost.is_restored().await;
        assert!(
            store
                .events(0, &EventFilter::default(), 9)
                .await
                .unwrap()
                .iter()
                .any(|e| e.text.contains("restored from"))
        );
        store.close().await;
        assert!(whole || killed < 1_000);
        fs::remove_dir_all(fleet.path("state")).unwrap();
        fs::remove_dir_all(fleet.path("etc")).unwrap();
        if whole {
            break;
        }
    }
    assert!(killed > 20, "{killed}");
}

#[tokio::test]
async fn what_root_restores_belongs_to_the_services_user() {
    if !nix::unistd::geteuid().is_root() {
        let loud =
            b"\nSKIPPED: whom a restored store belongs to; only root restores for another user\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    fs::write(fleet.path("backups/revoked.log"), "10 esme\n").unwrap();
    fs::create_dir(fleet.path("state")).unwrap();
    chown(fleet.path("state"), Some(SERVICE), Some(SERVICE)).unwrap();
    ended(&lost.restore(&[]), Exit::Done);
    for made in ["certwell.db", "revoked.log"] {
        let of = fs::metadata(fleet.path("state").join(made)).unwrap();
        assert_eq!((of.uid(), of.gid()), (SERVICE, SERVICE), "{made}");
    }
    assert_eq!(fs::metadata(fleet.path("etc/issuer.kek")).unwrap().uid(), 0);
    // The service goes on with the backups, to whichever user they belonged on the machine that is lost.
    let backups = fleet.path("backups");
    let of_backups: Vec<_> = fleet.tree().into_iter().map(|(path, ..)| path).collect();
    let of_backups = of_backups.iter().filter(|path| path.starts_with(&backups));
    let mut seen = 0;
    for path in of_backups.chain([&backups]) {
        let of = fs::metadata(path).unwrap().uid();
        assert_eq!(of, SERVICE, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 3, "{seen}");
}

#[tokio::test]
async fn a_directory_in_which_others_keep_theirs_stays_whose_it_is() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: whose backups are; only root restores for another user\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let lost = Lost::new().await;
    let fleet = &lost.fleet;
    fs::write(fleet.path("backups/revoked.log"), "10 esme\n").unwrap();
    fs::write(fleet.path("backups/letters.tar"), "").unwrap();
    fs::create_dir(fleet.path("state")).unwrap();
    chown(fleet.path("state"), Some(SERVICE), Some(SERVICE)).unwrap();
    ended(&lost.restore(&[]), Exit::Done);
    for (path, owner) in [
        ("backups", 0),
        ("backups/letters.tar", 0),
        ("backups/revoked.log", SERVICE),
    ] {
        let of = fs::metadata(fleet.path(path)).unwrap().uid();
        assert_eq!(of, owner, "{path}");
    }
}
