//! `init`: what it makes, and what it leaves alone.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    process::Stdio,
};

use certwell_issuer::{
    config::Config,
    store::{
        Store as _,
        keys::{Kek, RecoveryKey},
        sealing::DataKey,
        sqlite::SqliteStore,
    },
};
use certwell_proto::Exit;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::fleet::*;

#[tokio::test]
async fn init_makes_all_that_serve_needs_and_shows_the_recovery_key_once() {
    let fleet = Fleet::new();
    let output = fleet.init_with(&[]);
    let stderr = ended(&output, Exit::Done);
    let stdout = text(&output.stdout);
    assert!(
        stdout.contains("It opens the store, or a backup of it"),
        "{stdout}"
    );
    assert!(stderr.contains("certwell token create --host"), "{stderr}");
    // The unit takes the key from its default place only.
    let credential = format!("certwell-kek:{}", fleet.path("etc/issuer.kek").display());
    assert!(stderr.contains(&credential), "{stderr}");
    assert_eq!(mode(&fleet.path("etc/issuer.kek")), 0o600);
    assert_eq!(mode(&fleet.path("state")), 0o700);
    assert_eq!(mode(&fleet.path("state/certwell.db")), 0o600);
    assert!(fleet.path("etc/conf.d").is_dir());

    let config = Config::load(&fleet.path("etc/issuer.toml")).unwrap();
    assert_eq!(config.issuer.fleet.as_str(), "hachyderm");
    assert_eq!(
        config.issuer.endpoints,
        ["issuer.example.org:7443", "127.0.0.1:7443"]
    );
    assert_eq!(config.issuer.listen[0].to_string(), "127.0.0.1:7443");
    assert_eq!(config.issuer.state_directory, fleet.path("state"));

    let kek = Kek::load(
        &config.issuer.key_encryption_key,
        None,
        &config.issuer.state_directory,
    )
    .unwrap();
    let store = SqliteStore::open(&config.issuer.state_directory, &kek)
        .await
        .unwrap();
    assert_eq!(store.lineage().await.unwrap().id.get_version_num(), 4);
    let ca = store.fleet_ca().await.unwrap();
    let (_, parsed) = X509Certificate::from_der(&ca.certificate).unwrap();
    assert_eq!(
        parsed.subject().to_string(),
        "CN=certwell fleet CA hachyderm"
    );
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca && constraints.path_len_constraint == Some(0));
    assert!(parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
    let years = (parsed.validity().not_after.timestamp()
        - parsed.validity().not_before.timestamp())
        / (365 * 86_400);
    assert_eq!(years, 20);
    let key = rcgen::KeyPair::try_from(ca.key.expose()).unwrap();
    assert_eq!(
        key.public_key_raw(),
        parsed.public_key().subject_public_key.data.as_ref(),
        "the key is its own"
    );
    assert_eq!(key.algorithm(), &rcgen::PKCS_ECDSA_P256_SHA256);

    // The line that was shown opens the data key, and is nowhere on disk.
    let line = stdout.lines().next().unwrap();
    let recovery: RecoveryKey = line.parse().unwrap();
    use sqlx::{ConnectOptions as _, Row as _};
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(fleet.path("state/certwell.db"));
    let mut connection = options.connect().await.unwrap();
    let row = sqlx::query("SELECT sealed FROM wrapped_data_key WHERE under = 'recovery-key'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    DataKey::recover(row.get("sealed"), &recovery).unwrap();
    for (path, _, content) in fleet.tree() {
        let content = text_of(content);
        assert!(!content.contains(&line[20..]), "{}", path.display());
    }
}

#[test]
fn init_gives_a_script_the_recovery_key_in_its_document_and_nowhere_else() {
    let fleet = Fleet::new();
    let output = fleet.init_with(&["--json"]);
    assert_eq!(ended(&output, Exit::Done), "");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = told["recovery_key"].as_str().unwrap();
    let ca = told["ca"].as_str().unwrap();
    assert!(ca.parse::<certwell_proto::Fingerprint>().is_ok(), "{ca}");
    let wanted = serde_json::json!({
        "version": 1,
        "fleet": "hachyderm",
        "recovery_key": key,
        "config": fleet.path("etc/issuer.toml"),
        "key_file": fleet.path("etc/issuer.kek"),
        "load_credential": format!("certwell-kek:{}", fleet.path("etc/issuer.kek").display()),
        "state_directory": fleet.path("state"),
        "ca": ca,
    });
    assert_eq!(told, wanted);
    assert_eq!(text(&output.stdout).matches(key).count(), 1);
    for (path, _, content) in fleet.tree() {
        assert!(!text_of(content).contains(&key[20..]), "{}", path.display());
    }

    // It is the one that opens a backup.
    let backup = fleet.path("backup").display().to_string();
    ended(&fleet.run(&["backup", "--output", &backup]), Exit::Done);
    for gone in ["state", "etc"] {
        fs::remove_dir_all(fleet.path(gone)).unwrap();
    }
    fs::write(fleet.path("key"), key).unwrap();
    let file = fleet.path("key").display().to_string();
    let restore = ["restore", "--from", &backup, "--recovery-key-file", &file];
    ended(&fleet.run(&restore), Exit::Done);

    // What is refused tells a script nothing but its code.
    let again = fleet.init_with(&["--json"]);
    assert!(ended(&again, Exit::Conflict).contains("issuer.toml"));
    assert_eq!(text(&again.stdout), "");
}

fn text_of(content: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&content.unwrap_or_default()).into_owned()
}

#[test]
fn a_second_init_is_refused_by_name_and_changes_nothing() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    let before = fleet.tree();
    let stderr = ended(&fleet.init_with(&[]), Exit::Conflict);
    assert!(
        stderr.contains(&fleet.path("etc/issuer.toml").display().to_string()),
        "{stderr}"
    );
    assert_eq!(fleet.tree(), before);
}

#[test]
fn anything_that_exists_is_named_left_alone_and_nothing_else_is_made() {
    for existing in [
        "etc/issuer.toml",
        "etc/issuer.kek",
        "state/certwell.db",
        "state/other",
    ] {
        let fleet = Fleet::new();
        fs::create_dir_all(fleet.path(existing).parent().unwrap()).unwrap();
        fs::write(fleet.path(existing), "precious").unwrap();
        let before = fleet.tree();
        let output = fleet.init_with(&[]);
        let stderr = ended(&output, Exit::Conflict);
        let named = if existing == "state/other" {
            "state"
        } else {
            existing
        };
        assert!(
            stderr.contains(&fleet.path(named).display().to_string()),
            "{stderr}"
        );
        assert_eq!(fleet.tree(), before, "{existing}");
        assert!(
            !text(&output.stdout).contains("certwell-recovery"),
            "no key of a fleet that isn't"
        );
    }
}

#[test]
fn a_key_inside_the_state_directory_is_refused_and_all_is_undone() {
    let fleet = Fleet::new();
    let key = fleet.path("state/issuer.kek").display().to_string();
    let stderr = fleet.init_with(&["--key-file", &key]);
    assert_ne!(stderr.status.code(), Some(0));
    assert!(
        text(&stderr.stderr).contains("state directory"),
        "{}",
        text(&stderr.stderr)
    );
    assert_eq!(fleet.tree(), []);
}

#[test]
fn what_can_not_be_made_is_named_with_what_to_check() {
    let fleet = Fleet::new();
    fs::write(fleet.path("etc"), "").unwrap();
    let output = fleet.init_with(&[]);
    assert_ne!(output.status.code(), Some(0));
    let told = text(&output.stderr);
    assert!(
        told.contains(&format!("can't make {}", fleet.path("etc").display()))
            && told.contains("check that the directory above it is there"),
        "{told}"
    );
    assert_eq!(fleet.tree().len(), 1);
}

#[test]
fn when_the_recovery_key_can_not_be_shown_all_is_undone() {
    let fleet = Fleet::new();
    let arguments = fleet.init_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = fleet
        .command(&arguments)
        .stdout(Stdio::from(full))
        .output()
        .unwrap();
    let stderr = ended(&output, Exit::Internal);
    assert!(
        stderr.contains("the recovery key can't be shown, so nothing was set up"),
        "{stderr}"
    );
    assert_eq!(fleet.tree(), []);
    ended(&fleet.init_with(&[]), Exit::Done);
}

#[test]
fn an_empty_state_directory_that_a_package_made_is_taken() {
    let fleet = Fleet::new();
    fs::create_dir(fleet.path("state")).unwrap();
    fs::set_permissions(fleet.path("state"), fs::Permissions::from_mode(0o755)).unwrap();
    ended(&fleet.init_with(&[]), Exit::Done);
    assert_eq!(mode(&fleet.path("state")), 0o700);
}

#[test]
fn what_root_makes_for_the_services_user_belongs_to_that_user() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: whom the store belongs to; only root sets it up for another user\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_998;
    let fleet = Fleet::new();
    fs::create_dir(fleet.path("state")).unwrap();
    chown(fleet.path("state"), Some(SERVICE), Some(SERVICE)).unwrap();
    ended(&fleet.init_with(&[]), Exit::Done);
    for made in ["state", "state/certwell.db", "state/lock"] {
        let of = fs::metadata(fleet.path(made)).unwrap();
        assert_eq!((of.uid(), of.gid()), (SERVICE, SERVICE), "{made}");
    }
    for roots in ["etc/issuer.toml", "etc/issuer.kek"] {
        assert_eq!(fs::metadata(fleet.path(roots)).unwrap().uid(), 0, "{roots}");
    }
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let fleet = Fleet::new();
    for wrong in [
        &["init", "--fleet", "A B", "--endpoint", "a:1"][..],
        &["init", "--fleet", "a", "--endpoint", "nowhere"],
        &["init", "--fleet", "a", "--endpoint", "a:0"],
        &["init", "--fleet", "a"],
        &[
            "init",
            "--fleet",
            "a",
            "--endpoint",
            "a:1",
            "--listen",
            "127.0.0.1:0",
        ],
        &["frobnicate"],
        &[],
    ] {
        ended(&fleet.run(wrong), Exit::Usage);
    }
    assert_eq!(fleet.tree(), []);
}
