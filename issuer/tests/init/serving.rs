//! `check` and `serve`: what they refuse, and how they say so.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
};

use certwell_issuer::store::{keys::Kek, sqlite::SqliteStore};
use certwell_proto::Exit;
use serde_json::json;

use super::fleet::*;

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

/// What `check --json` says, which is all that is said.
fn checked(fleet: &Fleet, exit: Exit) -> serde_json::Value {
    let output = fleet.run(&["check", "--json"]);
    assert_eq!(ended(&output, exit), "");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_tells_a_script_every_mistake_on_standard_output_alone() {
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    let more = fleet.path("etc/conf.d/a.toml");
    fs::write(
        &more,
        "[authority.ca]\ndirectory = \"https://ca.example/\"\n[host.sally]\n",
    )
    .unwrap();
    let right =
        json!({"version": 1, "mistakes": [], "certificates": 0, "hosts": 1, "authorities": 1});
    assert_eq!(checked(&fleet, Exit::Done), right);

    fs::write(&more, "[host.sally]\ncolour = 1\n").unwrap();
    let told = checked(&fleet, Exit::Configuration);
    let mistake = &told["mistakes"][0];
    assert!(
        mistake["problem"].as_str().unwrap().contains("colour"),
        "{told}"
    );
    assert!(!told.to_string().contains('^'), "{told}");
    let wanted = json!({
        "version": 1,
        "mistakes": [{
            "what": "configuration-mistake",
            "file": more,
            "line": 2,
            "column": 1,
            "problem": mistake["problem"],
            "remedy": mistake["remedy"],
        }],
        "certificates": null,
        "hosts": null,
        "authorities": null,
    });
    assert_eq!(told, wanted);
    fs::remove_file(&more).unwrap();

    fleet.set(
        "#admin-group = \"certwell\"",
        "admin-group = \"no-such-group-here\"",
    );
    let (file, key) = (fleet.path("etc/issuer.toml"), fleet.path("etc/issuer.kek"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let lacking = |what: &str, file: &std::path::Path, problem: String| json!({"what": what, "file": file, "line": null, "column": null, "problem": problem, "remedy": null});
    let group = lacking(
        "admin-group-unknown",
        &file,
        "there is no group \"no-such-group-here\" (admin-group); create it, or remove the setting"
            .to_owned(),
    );
    let shown = key.display();
    let open = lacking(
        "key-unusable",
        &key,
        format!(
            "the key-encryption key {shown} is open to others (mode 0644); run: chmod 600 {shown}"
        ),
    );
    let told = checked(&fleet, Exit::Configuration);
    assert_eq!(told["mistakes"], json!([group, open]));
    // People are told of both as well.
    let stderr = ended(&fleet.run(&["check"]), Exit::Configuration);
    assert!(
        stderr.contains("no-such-group-here") && stderr.contains("chmod 600"),
        "{stderr}"
    );

    fs::remove_file(&file).unwrap();
    let told = checked(&fleet, Exit::Configuration);
    assert_eq!(
        told["mistakes"][0]["what"], "configuration-unreadable",
        "{told}"
    );
    assert!(
        told["mistakes"][0]["remedy"]
            .as_str()
            .unwrap()
            .contains("certwell-issuer init"),
        "{told}"
    );
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
fn a_reader_that_closes_the_pipe_is_no_failure() {
    let fleet = Fleet::new();
    for words in [&["completions", "bash"][..], &["man"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = fleet.command(words).stdout(writer).output().unwrap();
        assert_eq!(ended(&output, Exit::Done), "", "{words:?}");
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

#[test]
fn what_root_checks_is_judged_as_the_service_will_judge_it() {
    if !nix::unistd::geteuid().is_root() {
        let loud = b"\nSKIPPED: a check by root for a service of another user\n";
        std::io::Write::write_all(&mut std::io::stderr(), loud).unwrap();
        return;
    }
    const SERVICE: u32 = 4_997;
    let fleet = Fleet::new();
    ended(&fleet.init_with(&[]), Exit::Done);
    for of_service in ["", "etc", "state"] {
        chown(fleet.path(of_service), Some(SERVICE), Some(SERVICE)).unwrap();
    }
    let secret = fleet.path("etc/discord.url");
    let notifier = "[notifier.discord]\ntype = \"discord\"\nurl-file = \"discord.url\"\n";
    fs::create_dir_all(fleet.path("etc/conf.d")).unwrap();
    fs::write(fleet.path("etc/conf.d/notifiers.toml"), notifier).unwrap();
    fs::write(&secret, "https://discord.com/api/webhooks/1/secret\n").unwrap();
    let set = |user, group, mode| {
        chown(&secret, Some(user), Some(group)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        fleet.run(&["check"])
    };
    let unreadable = ended(&set(0, 0, 0o600), Exit::Configuration);
    assert!(
        unreadable.contains("can't read") && unreadable.contains("Permission denied"),
        "{unreadable}"
    );
    ended(&set(0, SERVICE, 0o640), Exit::Done);
    ended(&set(SERVICE, SERVICE, 0o600), Exit::Done);
    let stranger = ended(&set(SERVICE + 1, SERVICE, 0o640), Exit::Configuration);
    assert!(stranger.contains("belongs to user 4998"), "{stranger}");
}
