//! `[notifier.NAME]`: what is accepted, and its mistakes, of which none shows a secret.

use std::{fs, os::unix::fs::PermissionsExt as _};

use certwell_issuer::config::watch;
use certwell_notice::{Encryption, Roots, Service};

use super::{
    files::{Files, ISSUER, root_pem},
    mistakes::{tells, with},
};

const URL: &str = "https://discord.com/api/webhooks/123456789012/q1W2e3R4t5Y6";

fn put(files: &Files, name: &str, text: &str, mode: u32) {
    files.write(name, text);
    let path = files.directory.path().join(name);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// With `[notifier.it]` in line 9, and what is in it from line 10 on.
fn it(more: &str) -> Files {
    let files = with(&format!("[notifier.it]\n{more}"));
    put(&files, "url", &format!("{URL}\n"), 0o600);
    put(&files, "password", "correct-horse-battery\n", 0o640);
    put(&files, "short", "0123\n", 0o600);
    put(&files, "open", &format!("{URL}\n"), 0o644);
    put(&files, "empty", "\n", 0o600);
    put(&files, "page", "#!/bin/sh\n", 0o755);
    put(&files, "loose", "#!/bin/sh\n", 0o777);
    put(&files, "roots.pem", &root_pem(), 0o644);
    files
}

fn service(more: &str) -> Service {
    let config = it(more).load().unwrap_or_else(|errors| panic!("{errors}"));
    config.notifiers["it"].service.clone()
}

#[test]
fn each_type_is_accepted_with_what_it_needs() {
    for kind in ["discord", "slack"] {
        let found = service(&format!("type = \"{kind}\"\nurl-file = \"url\"\n"));
        assert_eq!(found.word(), kind);
        let (Service::Discord(to) | Service::Slack(to)) = found else {
            panic!("{kind}")
        };
        assert_eq!(
            (to.target.host(), &to.roots),
            ("discord.com", &Roots::System)
        );
    }
    let local = "type = \"discord\"\nurl = \"http://127.0.0.1:9000/token\"\n";
    assert_eq!(service(local).word(), "discord");
    let webhook = "type = \"webhook\"\nurl = \"https://hooks.example.org/\"\nsecret-file = \"password\"\n\
                   roots = \"roots.pem\"\nlimit = \"3s\"\n";
    let Service::Webhook { endpoint, secret } = service(webhook) else {
        panic!()
    };
    assert_eq!(secret.unwrap().expose(), b"correct-horse-battery");
    assert!(matches!(endpoint.roots, Roots::These(list) if list.len() == 1));
    let mail = "type = \"email\"\nserver = \"smtp://mail.example.org:587\"\nusername = \"ops\"\n\
                password-file = \"password\"\nfrom = \"certwell@example.org\"\nto = [\"a@example.org\", \"b@example.org\"]\n";
    let Service::Email(email) = service(mail) else {
        panic!()
    };
    assert_eq!(
        (email.server.port, email.server.encryption),
        (587, Encryption::Required)
    );
    assert_eq!(
        (email.to.len(), email.credentials.unwrap().username.as_str()),
        (2, "ops")
    );
    let plain = mail.replace(
        "username = \"ops\"\npassword-file = \"password\"\n",
        "starttls = \"none\"\n",
    );
    assert_eq!(service(&plain).word(), "email");
    let am = "type = \"alertmanager\"\nurl = \"http://alertmanager:9093\"\n";
    assert_eq!(service(am).word(), "alertmanager");
    assert_eq!(
        service("type = \"exec\"\ncommand = \"page\"\n").word(),
        "exec"
    );
}

#[test]
fn they_may_stand_in_conf_d_and_show_no_secret() {
    let files = Files::new(ISSUER);
    put(&files, "url", URL, 0o600);
    files.write(
        "conf.d/a.toml",
        "[notifier.a]\ntype = \"slack\"\nurl-file = \"url\"\n",
    );
    let config = files.load().unwrap();
    assert!(config.notifiers.contains_key("a"));
    let shown = format!("{config:?}");
    assert!(
        shown.contains("discord.com") && !shown.contains("q1W2e3R4"),
        "{shown}"
    );
}

#[test]
fn a_mistake_within_a_secret_of_several_lines_shows_none_of_it() {
    let files = Files::new(ISSUER);
    files.write(
        "conf.d/a.toml",
        "[notifier.a]\ntype = \"slack\"\nurl = \"\"\"\nhttps://hooks.slack.com/q1W2e3R4\\q\n\"\"\"\n",
    );
    let said = files.load().unwrap_err().to_string();
    assert!(said.contains("a.toml:4:"), "{said}");
    assert!(!said.contains("q1W2e3R4"), "{said}");
}

#[test]
fn every_mistake_stands_where_it_is_with_what_to_do() {
    let mail = "type = \"email\"\nserver = \"smtp://mail.example.org\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]\n";
    let table: &[(&str, &[&str])] = &[
        (
            "url-file = \"url\"\n",
            &[":9:11:", "[notifier.it] is incomplete: type is missing"],
        ),
        (
            "type = \"pigeon\"\nloft = 3\n",
            &[":10:8:", "no notifier of type \"pigeon\"", "discord, slack"],
        ),
        ("type = 3\n", &[":10:8:", "type takes strings"]),
        (
            "type = \"discord\"\n",
            &[":9:11:", "[notifier.it] is incomplete: url-file is missing"],
        ),
        (
            "type = \"discord\"\nurl-file = \"no\"\n",
            &[":11:12:", "can't read", "chmod 0640"],
        ),
        (
            "type = \"discord\"\nurl-file = \"open\"\n",
            &[":11:12:", "is open to everybody (mode 0644)", "chmod o= "],
        ),
        (
            "type = \"discord\"\nurl-file = \"empty\"\n",
            &[":11:12:", "is empty"],
        ),
        (
            "type = \"discord\"\nurl-file = \"short\"\n",
            &[":11:12:", "it can't be sent to"],
        ),
        (
            "type = \"discord\"\nurl = \"http://discord.com/x\"\n",
            &[":11:7:", "over http", "write https://"],
        ),
        (
            "type = \"slack\"\nurl-file = \"url\"\nurl = \"https://x.example/\"\n",
            &[":11:12:", "both url and url-file"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://u:p@x.example/\"\n",
            &[":11:7:", "a user name in the URL"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://x.example/\"\nsecret-file = \"short\"\n",
            &[":12:15:", "shorter than 16", "openssl rand"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://x.example/\"\nroots = \"page\"\n",
            &[":12:9:", "holds no certificate"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://x.example/\"\nlimit = \"5m\"\n",
            &[":12:9:", "between a second and a minute"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://x.example/\"\nsecret = \"hunter2hunter2hunter2\"\n",
            &[":12:1:", "unknown key \"secret\""],
        ),
        (
            "type = \"exec\"\ncommand = \"loose\"\n",
            &[":11:11:", "can be written by everybody", "chmod o-w"],
        ),
        (
            "type = \"exec\"\ncommand = \"page --now\"\n",
            &[":11:11:", "can't be run", "without arguments"],
        ),
        (
            "type = \"exec\"\ncommand = \"page\"\nurl = \"https://x.example/abcdefghij\"\n",
            &[":12:1:", "unknown key \"url\""],
        ),
    ];
    for (text, parts) in table {
        let files = it(text);
        tells(&files, parts);
        for secret in ["q1W2e3R4", "hunter2", "u:p@", "abcdefghij", "0123"] {
            assert!(!files.told().contains(secret), "{}", files.told());
        }
    }
    for (from, to, parts) in [
        (
            "server = \"smtp://mail.example.org\"\n",
            "",
            &["server is missing"][..],
        ),
        ("smtp://", "https://", &[":11:10:", "smtps://HOST:465"]),
        ("smtp://", "smtp://u:p@", &[":11:10:", "password-file"]),
        (
            "from = \"a@example.org\"",
            "from = \"a\"",
            &[":12:8:", "no address of e-mail"],
        ),
        ("\"b@example.org\"", "", &[":13:6:", "to is empty"]),
        (
            "\"b@example.org\"",
            "\"b@example.org\\r\\nBcc: x@y.org\"",
            &[":13:6:", "no address of e-mail"],
        ),
        (
            "from",
            "starttls = \"maybe\"\nfrom",
            &["starttls can't be \"maybe\""],
        ),
        (
            "smtp://mail.example.org\"\n",
            "smtps://mail.example.org\"\nstarttls = \"none\"\n",
            &["leave starttls out"],
        ),
        (
            "from",
            "username = \"ops\"\nfrom",
            &["password-file is missing"],
        ),
        (
            "from",
            "starttls = \"none\"\nusername = \"ops\"\npassword-file = \"password\"\nfrom",
            &["could read the password"],
        ),
    ] {
        tells(&it(&mail.replacen(from, to, 1)), parts);
    }
}

#[test]
fn a_url_that_lets_one_in_may_stand_in_a_file_that_nobody_else_reads() {
    let text = format!("{ISSUER}[notifier.it]\ntype = \"discord\"\nurl = \"{URL}\"\n");
    let files = Files::new(&text);
    tells(
        &files,
        &[":6:7:", "is open to everybody", "url-file", "url = …"],
    );
    assert!(!files.told().contains("q1W2e3R4"), "{}", files.told());
    fs::set_permissions(files.main(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(files.load().is_ok());
}

#[test]
fn no_line_with_a_secret_is_shown_though_it_is_no_toml() {
    let files = Files::new(&format!(
        "{ISSUER}[notifier.it]\ntype = \"discord\"\nurl = \"{URL}\n"
    ));
    let told = files.told();
    assert!(
        told.contains("issuer.toml:6:") && !told.contains("q1W2e3R4"),
        "{told}"
    );
}

#[test]
fn one_name_is_one_notifier() {
    let files = it(
        "type = \"exec\"\ncommand = \"page\"\n[notifier.\"a b\"]\ntype = \"exec\"\ncommand = \"page\"\n",
    );
    tells(&files, &["\"a b\" is no name of a notifier"]);
    let files = it("type = \"exec\"\ncommand = \"page\"\n");
    files.write(
        "conf.d/a.toml",
        "[notifier.it]\ntype = \"exec\"\ncommand = \"page\"\n",
    );
    tells(&files, &["two notifiers of one name, \"it\""]);
}

#[tokio::test]
async fn a_secret_that_changes_is_taken_up() {
    let files = it("type = \"discord\"\nurl-file = \"url\"\n");
    let initial = std::sync::Arc::new(files.load().unwrap());
    let (mut current, task) = watch(files.main(), initial).unwrap();
    let task = tokio::spawn(task);
    let host = |current: &certwell_issuer::config::Current| {
        let Service::Discord(to) = &current.config.notifiers["it"].service else {
            panic!()
        };
        to.target.host().to_owned()
    };
    assert_eq!(host(&current.borrow_and_update()), "discord.com");
    put(&files, ".url", "https://chat.example.org/token\n", 0o600);
    fs::rename(
        files.directory.path().join(".url"),
        files.directory.path().join("url"),
    )
    .unwrap();
    let changed = current.wait_for(|now| host(now) == "chat.example.org");
    tokio::time::timeout(std::time::Duration::from_secs(10), changed)
        .await
        .unwrap()
        .unwrap();
    task.abort();
}
