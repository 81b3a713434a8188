//! The verbs that start nothing.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{host::Host, issuer::TestIssuer};

fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn check_says_ok_or_shows_every_mistake_with_a_caret() {
    let host = Host::new();
    let output = host.verb(&["check"]);
    assert_eq!(
        (output.status.code(), said(&output).trim()),
        (Some(0), "ok")
    );
    fs::write(
        host.path("agent.toml"),
        "state-dir = \"x\"\n[nginx]\nedit-hold = \"soon\"\n",
    )
    .unwrap();
    let output = host.verb(&["check"]);
    assert_eq!(output.status.code(), Some(4));
    let text = said(&output);
    assert!(
        text.contains("agent.toml:1:1: unknown key state-dir") && text.contains("agent.toml:3:13:"),
        "{text}"
    );
    assert!(text.contains("^^^^^^"), "{text}");
    fs::remove_file(host.path("agent.toml")).unwrap();
    assert_eq!(host.verb(&["check"]).status.code(), Some(4));
}

#[test]
fn a_host_that_is_not_enrolled_says_what_to_do() {
    let host = Host::new();
    for verb in [&["run"][..], &["status"], &["status", "--json"]] {
        let output = host.verb(verb);
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        assert!(
            said(&output).contains("certwell token create"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn usage_mistakes_end_with_2_and_help_with_0() {
    let host = Host::new();
    assert_eq!(host.verb(&["fly"]).status.code(), Some(2));
    let help = host.verb(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = said(&help);
    assert!(
        text.contains("Exit codes: 0 done") && text.contains("CERTWELL_LOG"),
        "{text}"
    );
    assert!(!text.contains("nginx-listeners"), "{text}");
    assert!(said(&host.verb(&["man"])).contains(".TH"));
    assert!(said(&host.verb(&["completions", "bash"])).contains("complete"));
}

#[test]
fn status_makes_and_changes_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::new();
    let identity = host.path("state/identity");
    fs::create_dir_all(&identity).unwrap();
    for name in ["identity.pem", "fleet.json", "identity.key"] {
        fs::write(identity.join(name), "{}").unwrap();
    }
    let state = host.path("state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let output = host.verb(&["status"]);
    assert!(
        said(&output).contains("has not run here yet"),
        "{}",
        said(&output)
    );
    let mode = fs::metadata(&state).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755);
    let names: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["identity"]);
}

#[test]
fn a_damaged_identity_is_named_with_its_remedy() {
    let host = Host::new();
    let identity = host.path("state/identity");
    fs::create_dir_all(&identity).unwrap();
    for name in ["identity.pem", "fleet.json", "identity.key"] {
        fs::write(identity.join(name), "{}").unwrap();
    }
    let output = host.verb(&["run"]);
    assert_eq!(output.status.code(), Some(1));
    let told = said(&output);
    assert!(told.contains("fleet.json can't be used"), "{told}");
    assert!(told.contains("enroll --again TOKEN"), "{told}");
}

#[tokio::test]
async fn keys_that_others_could_read_are_refused() {
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    host.enroll(&issuer).await;
    let key = host.path("state/identity/identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let output = host.verb(&["run"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let told = said(&output);
    assert!(
        told.contains("identity.key") && told.contains("chmod"),
        "{told}"
    );
}
