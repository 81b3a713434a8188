//! Messages as the services take them, byte by byte against golden files, and never larger than they take.
//!
//! `UPDATE=1 cargo test -p certwell-notice --test forms` writes the golden files anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod alertmanager;
mod discord;
mod email;
mod slack;
mod webhook;

use std::path::Path;

use certwell_notice::{Member, Message, Severity, State};
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// One cause on two hosts, with characters that each form has its own trouble with.
fn message() -> Message {
    Message {
        key: "certwell/hachyderm/expiry/media.hachyderm.io".into(),
        id: 7,
        fleet: "hachyderm".into(),
        state: State::Firing,
        severity: Severity::Page,
        class: "expiry".into(),
        subject: "media.hachyderm.io".into(),
        title: "media.hachyderm.io ends in 2 days on sally and esme".into(),
        cause: "Two hosts serve generation 6, which has less than an eighth of its life left. <@everyone> & \"nobody\" renews *it* — not_even `certbot`.".into(),
        next: "The order is tried again at 2023-02-26 09:15:00 UTC.".into(),
        command: "certwell explain media.hachyderm.io".into(),
        section: "expiry".into(),
        since: Some(at("2023-02-16T21:00:00Z")),
        opened: at("2023-02-16T21:00:12Z"),
        number: 3,
        members: vec![
            Member {
                host: Some("sally".into()),
                address: None,
                certificate: Some("media.hachyderm.io".into()),
                text: "nginx -t fails: unknown directive \"sssl\" in /etc/nginx/sites-enabled/media:12".into(),
                served: "generation 6".into(),
                served_not_after: Some(at("2023-02-28T11:36:00Z")),
            },
            Member {
                host: Some("esme".into()),
                address: None,
                certificate: Some("media.hachyderm.io".into()),
                text: "no word since 2023-02-25 08:00:00 UTC".into(),
                served: String::new(),
                served_not_after: None,
            },
        ],
        acknowledge: Some("certwell alerts ack 7 --for 4h".into()),
        link: Some("https://certwell.example.org/alerts#7".into()),
    }
}

/// On more hosts than any service has room for, each with more to say than most.
fn crowd(count: usize, length: usize) -> Message {
    let members = (0..count)
        .map(|number| Member {
            host: Some(format!("host-{number}")),
            text: format!("<&>* {}", "wörd ".repeat(length)),
            ..Member::default()
        })
        .collect();
    Message {
        title: "<t> ".repeat(200),
        cause: "c & d ".repeat(1_000),
        next: "n".repeat(5_000),
        members,
        ..message()
    }
}

/// Compares with a golden file, or writes it.
fn golden(name: &str, found: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/forms/golden")
        .join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert!(
        expected == found,
        "{name} differs:\n{}\n--- from the golden file\n{}",
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(&expected)
    );
}

/// The same for JSON, laid out so that people can read it.
fn golden_json(name: &str, found: &[u8]) -> serde_json::Value {
    let value: serde_json::Value = serde_json::from_slice(found).unwrap();
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    golden(name, text.as_bytes());
    value
}

/// As the services count.
fn len(text: &str) -> usize {
    text.encode_utf16().count()
}
