//! `certwell-issuer backup`, as a person or a timer runs it.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
};

use certwell_issuer::store::{
    EventFilter, EventRecord, Store as _,
    keys::Kek,
    sqlite::{self, SqliteStore},
};
use certwell_proto::{Exit, v1::EventKind};
use jiff::Timestamp;

use super::fleet::*;

/// A fleet that is set up, and backed up below its own directory.
fn fleet() -> Fleet {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    fleet.set(
        "#backup-directory = \"/var/backups/certwell-issuer\"",
        &format!("backup-directory = {:?}", fleet.path("backups")),
    );
    fleet.set("#backups-kept = 14", "backups-kept = 3");
    fs::write(fleet.path("etc/conf.d/hosts.toml"), "[host.sally]\n").unwrap();
    fleet
}

/// The directory that a backup said it made.
fn taken(fleet: &Fleet) -> PathBuf {
    let output = fleet.run(&["backup", "--json"]);
    ended(&output, Exit::Done);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["version"], 1);
    assert!(told["bytes"].as_u64().unwrap() > 4_096, "{told}");
    PathBuf::from(told["backup"].as_str().unwrap())
}

fn names(directory: PathBuf) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn event(number: i64) -> EventRecord {
    EventRecord {
        id: 0,
        at: Timestamp::from_second(number).unwrap(),
        kind: EventKind::Admin,
        certificate: None,
        host: None,
        generation: 0.into(),
        text: format!("{number} {}", "x".repeat(2_000)),
    }
}

#[tokio::test]
async fn a_backup_under_write_load_is_whole_and_holds_all_that_was_committed_before_it() {
    let fleet = fleet();
    let kek = Kek::load(&fleet.path("etc/issuer.kek"), None, &fleet.path("state")).unwrap();
    let store = SqliteStore::open(&fleet.path("state"), &kek).await.unwrap();
    for number in 0..500 {
        store.add_event(&event(number)).await.unwrap();
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writing = tokio::spawn(async move {
        let mut written = 500;
        while !*stopped.borrow() {
            store.add_event(&event(written)).await.unwrap();
            written += 1;
        }
        store.close().await;
        written
    });
    let mut made = Vec::new();
    for _ in 0..3 {
        let mut command = fleet.command(&["backup", "--json"]);
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.unwrap().unwrap();
        ended(&output, Exit::Done);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        made.push(PathBuf::from(told["backup"].as_str().unwrap()));
    }
    stop.send_replace(true);
    let written = writing.await.unwrap();
    let mut held = Vec::new();
    for backup in made {
        sqlite::verify(&backup.join("certwell.db")).await.unwrap();
        // A copy opens like any store, by the key that isn't in it.
        let copy = tempfile::tempdir().unwrap();
        fs::copy(backup.join("certwell.db"), copy.path().join("certwell.db")).unwrap();
        let copy = SqliteStore::open(copy.path(), &kek).await.unwrap();
        let events = copy
            .events(0, &EventFilter::default(), u32::MAX)
            .await
            .unwrap();
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event.at.as_second(), i64::try_from(at).unwrap(), "no gap");
        }
        held.push(i64::try_from(events.len()).unwrap());
    }
    assert!(held[0] >= 500 && held.is_sorted(), "{held:?}");
    assert!(*held.last().unwrap() <= written, "{held:?} of {written}");
    assert!(written > 510, "there was no load: {written}");
}

#[test]
fn a_backup_holds_all_but_the_keys_and_is_open_to_nobody_else() {
    let fleet = fleet();
    fs::write(fleet.path("state/revoked.log"), "10 sally\n").unwrap();
    let backup = taken(&fleet);
    assert_eq!(
        names(backup.clone()),
        ["certwell.db", "conf.d", "issuer.toml", "revoked.log"]
    );
    for (copy, of) in [
        ("issuer.toml", "etc/issuer.toml"),
        ("conf.d/hosts.toml", "etc/conf.d/hosts.toml"),
        ("revoked.log", "state/revoked.log"),
    ] {
        assert_eq!(
            fs::read(backup.join(copy)).unwrap(),
            fs::read(fleet.path(of)).unwrap(),
            "{copy}"
        );
        assert_eq!(mode(&backup.join(copy)), 0o600, "{copy}");
    }
    assert_eq!(mode(&backup.join("certwell.db")), 0o600);
    assert_eq!(
        (mode(&backup), mode(&fleet.path("backups"))),
        (0o700, 0o700)
    );
    let key = fs::read_to_string(fleet.path("etc/issuer.kek")).unwrap();
    let below_backups =
        |(path, ..): &(PathBuf, u32, Option<Vec<u8>>)| path.starts_with(fleet.path("backups"));
    for (path, _, content) in fleet.tree().into_iter().filter(below_backups) {
        let content = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
        assert!(!content.contains(key.trim()), "{}", path.display());
    }
    // What was revoked is known beside the backups too.
    assert_eq!(
        fs::read(fleet.path("backups/revoked.log")).unwrap(),
        b"10 sally\n"
    );
}

#[test]
fn the_oldest_backups_go_and_nothing_else_and_what_a_run_left_that_was_cut_off() {
    let fleet = fleet();
    let backups = fleet.path("backups");
    fs::create_dir(&backups).unwrap();
    for kept in ["certwell-mine", "certwell-20200101T000000Z.tar"] {
        fs::create_dir(backups.join(kept)).unwrap();
    }
    for goes in [
        "certwell-20200101T000000Z",
        ".certwell-20200101T000001Z.new",
    ] {
        fs::create_dir(backups.join(goes)).unwrap();
        fs::write(backups.join(goes).join("certwell.db"), "old").unwrap();
    }
    let made: Vec<PathBuf> = (0..4).map(|_| taken(&fleet)).collect();
    let mut expected: Vec<String> = made[1..]
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .chain(["certwell-mine", "certwell-20200101T000000Z.tar"].map(str::to_owned))
        .collect();
    expected.sort();
    assert_eq!(names(backups), expected);
}

#[test]
fn a_script_is_told_what_was_made_removed_and_called_by_a_time_to_come() {
    let fleet = fleet();
    fleet.set("backups-kept = 3", "backups-kept = 2");
    let old = taken(&fleet);
    let ahead = fleet.path("backups/certwell-29991128T031500Z");
    fs::create_dir(&ahead).unwrap();
    let output = fleet.run(&["backup", "--json"]);
    ended(&output, Exit::Done);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let at: Timestamp = told["at"].as_str().unwrap().parse().unwrap();
    let bytes = told["bytes"].as_u64().unwrap();
    assert!(bytes > 4_096, "{told}");
    let backup = told["backup"].as_str().unwrap();
    let instant = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    assert!(backup.contains(&instant), "{told}");
    assert!(
        PathBuf::from(backup).join("certwell.db").is_file(),
        "{told}"
    );
    let wanted = serde_json::json!({
        "version": 1,
        "backup": backup,
        "at": at.to_string(),
        "bytes": bytes,
        "removed": [old],
        "later": [ahead],
    });
    assert_eq!(told, wanted);
    assert!(!old.exists());
}

#[test]
fn what_can_not_be_backed_up_is_told_and_leaves_nothing() {
    let fleet = fleet();
    let backups = fleet.path("backups");
    let elsewhere = fleet.path("elsewhere").display().to_string();
    let one = ["backup", "--output", &elsewhere];
    ended(&fleet.run(&one), Exit::Done);
    assert!(fleet.path("elsewhere/certwell.db").is_file() && !backups.exists());
    let stderr = ended(&fleet.run(&one), Exit::Conflict);
    assert!(
        stderr.contains(&elsewhere) && stderr.contains("exists already"),
        "{stderr}"
    );

    let database = fs::read(fleet.path("state/certwell.db")).unwrap();
    // Every page is there; one of them says what it shouldn't.
    let mut damaged = database.clone();
    let page = of_fleet_ca(&damaged) / 4_096 * 4_096;
    damaged[page..page + 4_096].fill(0x5a);
    for wrong in [&database[..5_000], &damaged, b"no database at all"] {
        fs::write(fleet.path("state/certwell.db"), wrong).unwrap();
        let stderr = ended(&fleet.run(&["backup"]), Exit::Internal);
        assert!(stderr.contains("can't be used"), "{stderr}");
        assert!(!backups.exists(), "{:?}", names(backups));
    }
    fs::remove_file(fleet.path("state/certwell.db")).unwrap();
    let stderr = ended(&fleet.run(&["backup"]), Exit::NotFound);
    assert!(stderr.contains("there is no store"), "{stderr}");
    assert!(!backups.exists());

    fs::write(fleet.path("state/certwell.db"), &database).unwrap();
    fs::write(&backups, "a file").unwrap();
    let before = fleet.tree();
    assert_ne!(fleet.run(&["backup"]).status.code(), Some(0));
    assert_eq!(fleet.tree(), before);
}

#[test]
fn what_root_backs_up_belongs_to_the_services_user_who_may_then_go_on_with_it() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: whom backups belong to; only root makes them for another user\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let fleet = fleet();
    for of_service in ["state", "state/certwell.db", "state/lock"] {
        chown(fleet.path(of_service), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    fs::write(fleet.path("state/revoked.log"), "10 sally\n").unwrap();
    chown(
        fleet.path("state/revoked.log"),
        Some(SERVICE),
        Some(SERVICE),
    )
    .unwrap();
    fs::set_permissions(fleet.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    taken(&fleet);
    let of_backups = fleet.path("backups");
    for (path, ..) in fleet.tree() {
        if path.starts_with(&of_backups) || path.starts_with(fleet.path("state/certwell.db")) {
            assert_eq!(
                fs::metadata(&path).unwrap().uid(),
                SERVICE,
                "{}",
                path.display()
            );
        }
    }
    // The service's own run, as a timer makes it.
    let binary = fleet.path("certwell-issuer");
    copy_program(env!("CARGO_BIN_EXE_certwell-issuer"), &binary);
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=4998", "--regid=4998", "--clear-groups"])
        .arg(&binary)
        .arg("--config")
        .arg(fleet.path("etc/issuer.toml"))
        .arg("backup")
        .output()
        .unwrap();
    ended(&output, Exit::Done);
}

#[test]
fn root_follows_no_link_of_the_services_user_and_gives_nothing_away() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: links in the way of root's backup; only root can be led astray\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let fleet = fleet();
    fs::set_permissions(fleet.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    for of_service in ["state", "state/certwell.db", "state/lock"] {
        chown(fleet.path(of_service), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let secret = fleet.path("secret");
    fs::write(&secret, "10 sally\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&secret, fleet.path("state/revoked.log")).unwrap();
    let output = fleet.run(&["backup"]);
    assert_ne!(output.status.code(), Some(0), "root read it");
    for (path, ..) in fleet.tree() {
        let below = path.starts_with(fleet.path("backups"));
        assert!(!(below && path.ends_with("revoked.log")), "{path:?}");
    }

    // A link to what isn't there yet, where only root may make it.
    fs::remove_file(fleet.path("state/revoked.log")).unwrap();
    fs::write(fleet.path("state/revoked.log"), "10 sally\n").unwrap();
    chown(
        fleet.path("state/revoked.log"),
        Some(SERVICE),
        Some(SERVICE),
    )
    .unwrap();
    let backups = fleet.path("backups");
    if !backups.exists() {
        fs::create_dir(&backups).unwrap();
    }
    chown(&backups, Some(SERVICE), Some(SERVICE)).unwrap();
    let preload = fleet.path("preload");
    std::os::unix::fs::symlink(&preload, backups.join("revoked.log")).unwrap();
    assert_ne!(fleet.run(&["backup"]).status.code(), Some(0));
    assert!(preload.symlink_metadata().is_err(), "root made it");
}

#[test]
fn root_names_a_place_where_only_root_may_write_and_the_backup_there_is_the_services() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: root's --output; only root may write where others may not\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let fleet = fleet();
    fs::set_permissions(fleet.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    for of_service in ["state", "state/certwell.db", "state/lock"] {
        chown(fleet.path(of_service), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let output = fleet.path("mine").display().to_string();
    ended(&fleet.run(&["backup", "--output", &output]), Exit::Done);
    for name in ["", "certwell.db", "issuer.toml"] {
        let owner = fs::metadata(fleet.path("mine").join(name)).unwrap().uid();
        assert_eq!(owner, SERVICE, "{name:?}");
    }
    assert_eq!(fs::metadata(fleet.path("")).unwrap().uid(), 0);
    // What fails leaves nothing there.
    fs::write(fleet.path("state/certwell.db"), "no database").unwrap();
    let again = fleet.path("again").display().to_string();
    assert_ne!(
        fleet.run(&["backup", "--output", &again]).status.code(),
        Some(0)
    );
    assert!(names(fleet.path("again")).is_empty());
}

#[test]
fn a_backup_made_after_the_clock_went_back_stays_and_the_names_from_the_future_are_told() {
    let fleet = fleet();
    let backups = fleet.path("backups");
    fs::create_dir(&backups).unwrap();
    for second in 0..3 {
        fs::create_dir(backups.join(format!("certwell-29990101T00000{second}Z"))).unwrap();
    }
    let output = fleet.run(&["backup"]);
    let stderr = ended(&output, Exit::Done);
    assert!(stderr.contains("later than now"), "{stderr}");
    let told = text(&output.stdout);
    let made = told.split_once(": ").unwrap().0;
    assert!(PathBuf::from(made).join("certwell.db").is_file(), "{told}");
    assert_eq!(
        names(backups)
            .into_iter()
            .filter(|name| name.starts_with("certwell-2999"))
            .collect::<Vec<_>>(),
        ["certwell-29990101T000001Z", "certwell-29990101T000002Z"]
    );
}

#[test]
fn a_mistake_beside_the_issuers_own_table_is_told_and_backed_up_as_it_is() {
    let fleet = fleet();
    let typo = "[host.sally\n";
    fs::write(fleet.path("etc/conf.d/hosts.toml"), typo).unwrap();
    for (more, says) in [
        ("", "hosts.toml"),
        ("\n[certificate.Wrong]\n", "issuer.toml"),
    ] {
        let config = fs::read_to_string(fleet.path("etc/issuer.toml")).unwrap();
        fs::write(fleet.path("etc/issuer.toml"), config + more).unwrap();
        let output = fleet.run(&["backup", "--json"]);
        let stderr = ended(&output, Exit::Done);
        assert!(
            stderr.contains("mistake") && stderr.contains(says),
            "{stderr}"
        );
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let made = PathBuf::from(told["backup"].as_str().unwrap());
        assert_eq!(
            fs::read_to_string(made.join("conf.d/hosts.toml")).unwrap(),
            typo
        );
    }
    fleet.set("backups-kept = 3", "backups-kept = \"three\"");
    let stderr = ended(&fleet.run(&["backup"]), Exit::Configuration);
    assert!(stderr.contains("backups-kept"), "{stderr}");
}
