//! `certwell-issuer init` and `check`, as a person or a script runs them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
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

struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certwell-issuer"));
        command
            .arg("--config")
            .arg(self.path("etc/issuer.toml"))
            .args(arguments)
            .env_remove("CREDENTIALS_DIRECTORY");
        command
    }

    fn init_arguments(&self) -> Vec<String> {
        let state = self.path("state").display().to_string();
        let words = "init --fleet hachyderm --endpoint issuer.example.org:7443 --endpoint 127.0.0.1:7443 \
                     --listen 127.0.0.1:7443 --state-directory";
        words
            .split_whitespace()
            .map(str::to_owned)
            .chain([state])
            .collect()
    }

    fn init_with(&self, more: &[&str]) -> Output {
        let arguments = self.init_arguments();
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        self.run(&arguments)
    }

    /// Every file below, with its mode, and its content unless it is a directory.
    fn tree(&self) -> Vec<(PathBuf, u32, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut open = vec![self.0.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = path.symlink_metadata().unwrap();
                let content = metadata.is_file().then(|| fs::read(&path).unwrap());
                if metadata.is_dir() {
                    open.push(path.clone());
                }
                found.push((path, metadata.mode() & 0o7777, content));
            }
        }
        found.sort();
        found
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn ended(output: &Output, exit: Exit) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit as i32), "{stderr}");
    stderr
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

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

#[test]
fn check_counts_what_is_declared() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    fs::write(
        fleet.path("etc/conf.d/a.toml"),
        "[authority.ca]\ndirectory = \"https://ca.example/\"\n[host.sally]\n[host.esme]\n\
         [certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n",
    )
    .unwrap();
    let output = fleet.run(&["check"]);
    ended(&output, Exit::Done);
    assert_eq!(
        text(&output.stdout),
        "ok: 1 certificate, 2 hosts, 1 authority\n"
    );
}

#[test]
fn check_and_serve_tell_every_mistake_and_end_with_the_configuration_code() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    fs::write(
        fleet.path("etc/conf.d/a.toml"),
        "[host.A]\n[certificate.\"a.example.org\"]\nhosts = [\"sally\"]\n",
    )
    .unwrap();
    for verb in ["check", "serve"] {
        let stderr = ended(&fleet.run(&[verb]), Exit::Configuration);
        for part in [
            "a.toml:1:7: ",
            "a.toml:3:10: ",
            "^^^^^^^",
            "certwell-issuer: there are 3 mistakes in the configuration",
        ] {
            assert!(
                stderr.contains(part),
                "{verb}: {part:?} is missing in\n{stderr}"
            );
        }
    }
}

#[test]
fn check_and_serve_refuse_a_key_that_others_can_read() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    fs::set_permissions(
        fleet.path("etc/issuer.kek"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    for verb in ["check", "serve"] {
        let stderr = ended(&fleet.run(&[verb]), Exit::Configuration);
        assert!(
            stderr.contains("chmod 600") && stderr.contains("mode 0644"),
            "{stderr}"
        );
    }
    fs::remove_file(fleet.path("etc/issuer.kek")).unwrap();
    let stderr = ended(&fleet.run(&["check"]), Exit::Configuration);
    assert!(stderr.contains("issuer.kek doesn't exist"), "{stderr}");
}

#[test]
fn serve_refuses_another_key_a_damaged_store_and_a_missing_one() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    let key = fs::read(fleet.path("etc/issuer.kek")).unwrap();
    fs::write(
        fleet.path("etc/issuer.kek"),
        Kek::generate().unwrap().to_text().as_bytes(),
    )
    .unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::Configuration);
    assert!(stderr.contains("can't unseal the data key"), "{stderr}");

    fs::write(fleet.path("etc/issuer.kek"), key).unwrap();
    let database = fs::read(fleet.path("state/certwell.db")).unwrap();
    fs::write(fleet.path("state/certwell.db"), &database[..5_000]).unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::Internal);
    assert!(
        stderr.contains("certwell.db can't be used") && stderr.contains("restore it from a backup"),
        "{stderr}"
    );

    fs::remove_file(fleet.path("state/certwell.db")).unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::NotFound);
    assert!(
        stderr.contains("run `certwell-issuer init` first"),
        "{stderr}"
    );
}

#[tokio::test]
async fn serve_refuses_a_state_directory_in_use() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    let kek = Kek::load(&fleet.path("etc/issuer.kek"), None, &fleet.path("state")).unwrap();
    let _held = SqliteStore::open(&fleet.path("state"), &kek).await.unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::Conflict);
    assert!(
        stderr.contains("another certwell-issuer is using the state directory"),
        "{stderr}"
    );
}

#[test]
fn serve_names_the_address_or_socket_that_is_in_use() {
    let fleet = Fleet::new();
    ended(
        &fleet.init_with(&[
            "--admin-socket",
            &fleet.path("admin.sock").display().to_string(),
        ]),
        Exit::Done,
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = fleet.path("etc/issuer.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace(
            "listen = [\"127.0.0.1:7443\"]",
            &format!("listen = [\"{address}\"]"),
        ),
    )
    .unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::Conflict);
    assert!(
        stderr.contains(&format!(
            "can't listen on {address}: Address already in use"
        )),
        "{stderr}"
    );
    assert_eq!(stderr.matches("in use").count(), 1, "said once: {stderr}");

    drop(taken);
    let _taken = std::os::unix::net::UnixListener::bind(fleet.path("admin.sock")).unwrap();
    let stderr = ended(&fleet.run(&["serve"]), Exit::Conflict);
    assert!(
        stderr.contains("another process listens on") && stderr.contains("admin.sock"),
        "{stderr}"
    );
}

#[test]
fn a_mistyped_log_filter_or_format_is_told() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    for (variable, value) in [
        ("CERTWELL_LOG", "certwell_issuer=loud"),
        ("CERTWELL_LOG_FORMAT", "xml"),
    ] {
        let output = fleet
            .command(&["serve"])
            .env(variable, value)
            .output()
            .unwrap();
        let stderr = ended(&output, Exit::Configuration);
        assert!(
            stderr.contains(variable) && stderr.contains(value),
            "{stderr}"
        );
    }
}

#[test]
fn help_names_every_verb_and_exit_code_and_completions_and_pages_are_made() {
    let fleet = Fleet::new();
    let help = fleet.run(&["--help"]);
    ended(&help, Exit::Done);
    let help = text(&help.stdout);
    for word in [
        "init",
        "serve",
        "check",
        "completions",
        "man",
        "Exit codes: 0 done",
        "/etc/certwell/issuer.toml",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
    let script = fleet.run(&["completions", "bash"]);
    ended(&script, Exit::Done);
    assert!(text(&script.stdout).contains("--state-directory"));
    let page = fleet.run(&["man"]);
    ended(&page, Exit::Done);
    assert!(text(&page.stdout).contains(".TH certwell-issuer 1"));

    let pages = fleet.path("pages");
    fs::create_dir(&pages).unwrap();
    ended(
        &fleet.run(&["man", &pages.display().to_string()]),
        Exit::Done,
    );
    assert!(pages.join("certwell-issuer-init.1").is_file());
    let nowhere = fleet.path("nowhere").display().to_string();
    let stderr = ended(&fleet.run(&["man", &nowhere]), Exit::NotFound);
    assert!(stderr.contains(&nowhere), "{stderr}");
}
