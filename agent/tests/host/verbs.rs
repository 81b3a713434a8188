//! The verbs that start nothing.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    process::Command,
};

use serde_json::json;

use super::{
    host::Host,
    issuer::{TestIssuer, eventually},
};

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

/// The document, which is all of standard output.
fn told(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

#[test]
fn check_tells_a_script_every_mistake_on_standard_output_alone() {
    let host = Host::new();
    let check = || {
        let output = host.verb(&["check", "--json"]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code(), told(&output))
    };
    let path = host.path("agent.toml");
    let right = fs::read_to_string(&path).unwrap();
    assert_eq!(check(), (Some(0), json!({"version": 1, "mistakes": []})));

    let mistake = |what: &str, at: [Option<u32>; 2], problem: &str| {
        json!({
            "what": what,
            "file": path.display().to_string(),
            "line": at[0],
            "column": at[1],
            "problem": problem,
            "remedy": null,
        })
    };
    fs::write(&path, "state-dir = \"x\"\n[nginx]\nedit-hold = \"soon\"\n").unwrap();
    let (code, document) = check();
    let problem = |index: usize| document["mistakes"][index]["problem"].as_str().unwrap();
    assert!(
        problem(0).contains("unknown key state-dir"),
        "{}",
        problem(0)
    );
    assert!(!document.to_string().contains('^'), "{document}");
    let what = "configuration-mistake";
    let wanted = json!({"version": 1, "mistakes": [
        mistake(what, [Some(1), Some(1)], problem(0)),
        mistake(what, [Some(3), Some(13)], problem(1)),
    ]});
    assert_eq!((code, &document), (Some(4), &wanted));

    fs::write(&path, format!("file-group = \"nobody-has-it\"\n{right}")).unwrap();
    let (code, document) = check();
    let words = "file-group \"nobody-has-it\" is no group of this machine; make it (groupadd --system nobody-has-it) or leave the setting out";
    let wanted = mistake("file-group-unknown", [None, None], words);
    assert_eq!(
        (code, document),
        (Some(4), json!({"version": 1, "mistakes": [wanted]}))
    );

    fs::remove_file(&path).unwrap();
    let (code, document) = check();
    assert_eq!(code, Some(4));
    assert_eq!(
        document["mistakes"][0]["what"], "configuration-unreadable",
        "{document}"
    );
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
    let pages = host.path("pages");
    let into = pages.display().to_string();
    let nowhere = host.verb(&["man", &into]);
    assert_eq!(nowhere.status.code(), Some(7), "{}", said(&nowhere));
    fs::create_dir(&pages).unwrap();
    let written = host.verb(&["man", &into]);
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    assert!(pages.join("certwell-agent-enroll.1").is_file());
    assert!(!pages.join("certwell-agent-nginx-listeners.1").exists());
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

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let host = Host::new();
    for verb in [["completions", "bash"].as_slice(), &["man"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = host.agent_command(verb).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{verb:?}: {}", said(&output));
        assert_eq!(said(&output), "", "{verb:?}");
    }
}

#[test]
fn what_the_configuration_names_and_the_machine_lacks_is_found_by_check() {
    let host = Host::new();
    let path = host.path("agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("file-group = \"nobody-has-it\"\n{text}")).unwrap();
    let output = host.verb(&["check"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("groupadd"), "{}", said(&output));
}

#[test]
fn a_mistyped_log_setting_is_refused() {
    let host = Host::new();
    for (name, value) in [
        ("CERTWELL_LOG", "certwell_agent=loudly"),
        ("CERTWELL_LOG_FORMAT", "xml"),
    ] {
        let output = host
            .agent_command(&["run"])
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        assert!(said(&output).contains(value), "{}", said(&output));
    }
}

#[tokio::test]
async fn verbs_without_the_right_to_look_say_so_and_nothing_else() {
    if !nix::unistd::geteuid().is_root() {
        crate::world::skipped("only root can run a command as somebody else");
        return;
    }
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    host.enroll(&issuer).await;
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the built one lies may be out of others' reach.
    let agent = host.path("certwell-agent");
    // By another process: one that is forked here meanwhile would hold the copy open for writing, and then it can't be run.
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_certwell-agent"))
        .arg(&agent)
        .status();
    assert!(copied.unwrap().success());
    let verbs = [
        (&["status"][..], "identity"),
        (&["hold"], "holds.json"),
        (&["hold", "media.example.org", "--for", "4h"], "holds.json"),
    ];
    for (verb, word) in verbs {
        let output = Command::new(&agent)
            .arg("--config")
            .arg(host.path("agent.toml"))
            .args(verb)
            .uid(65_534)
            .gid(65_534)
            .current_dir("/")
            .output()
            .unwrap();
        let told = said(&output);
        assert_eq!(output.status.code(), Some(6), "{verb:?}: {told}");
        assert!(told.contains(word) && told.contains("as root"), "{told}");
        assert!(!told.contains("remove it"), "{told}");
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_by_a_fault_leaves_no_core_file() {
    let dumps = |command: &mut Command| {
        let script = "ulimit -c unlimited && exec \"$@\"";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "sh"]).arg(command.get_program());
        shell.args(command.get_args());
        shell
    };
    let issuer = TestIssuer::start().await;
    let host = Host::new();
    host.enroll(&issuer).await;
    let abort = |child: &std::process::Child| {
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).unwrap();
    };
    let mut sleep = Command::new("/bin/sleep");
    let mut control = dumps(sleep.arg("60"))
        .current_dir(host.root())
        .spawn()
        .unwrap();
    let command = format!("/proc/{}/cmdline", control.id());
    eventually("it sleeps", || async {
        fs::read(&command)
            .unwrap()
            .starts_with(b"/bin/sleep")
            .then_some(())
    })
    .await;
    abort(&control);
    if !control.wait().unwrap().core_dumped() {
        crate::world::skipped("nothing leaves a core file on this machine");
        return;
    }
    let mut agent = dumps(&mut host.agent_command(&["run"]))
        .current_dir(host.root())
        .spawn()
        .unwrap();
    eventually("the agent runs", || async {
        host.path("state/state.json").exists().then_some(())
    })
    .await;
    abort(&agent);
    let ended = agent.wait().unwrap();
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}
