//! `certwell inventory`: what had sprawled, and what of it is to be destroyed.

use certwell_issuer::{clock, plan::inventory::HostInventory};
use certwell_proto::v1::{self, ManagedBy, ServedState};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    fleet::{days, fleet, host},
    server::Issuer,
};

fn hours_more(ends_in: i64) -> SignedDuration {
    SignedDuration::from_hours(i64::from(ends_in > 0))
}

fn row(number: u8, names: &[&str], now: Timestamp, ends_in: i64) -> v1::InventoryRow {
    v1::InventoryRow {
        source: format!("/etc/nginx/{}.pem", names[0]),
        covers: names.iter().map(ToString::to_string).collect(),
        issuer: "CN=R3".into(),
        not_before: (now - days(100 - ends_in)).as_second(),
        // The command looks at the time later than the test: so many days are left then, and not one less.
        not_after: (now + days(ends_in) + hours_more(ends_in)).as_second(),
        fingerprint: vec![number; 32],
        managed: ManagedBy::Nobody.into(),
        served: ServedState::Yes.into(),
        listeners: vec!["0.0.0.0:443".into()],
        server_names: vec![names[0].into()],
        used_at: vec!["/etc/nginx/nginx.conf:7".into()],
        ..Default::default()
    }
}

fn by(managed: ManagedBy, name: &str, mut row: v1::InventoryRow) -> v1::InventoryRow {
    row.managed = managed.into();
    row.managed_name = name.into();
    row.renews = true;
    row
}

fn dead(mut row: v1::InventoryRow) -> v1::InventoryRow {
    row.served = ServedState::Unused.into();
    row.listeners.clear();
    row.used_at.clear();
    row
}

/// As it was: renewed by certbot on one box, copied by hand to another, forgotten on a third.
fn sprawled(now: Timestamp) -> Issuer {
    let mut facts = fleet(now);
    let mut unreadable = v1::InventoryRow {
        source: "/etc/nginx/gone\u{1b}[2J.pem".into(),
        used_at: vec!["/etc/nginx/nginx.conf:9".into()],
        listeners: vec!["0.0.0.0:443".into()],
        ..Default::default()
    };
    unreadable.problems = vec!["no such file".into()];
    for (name, problem, rows) in [
        (
            "cdn-frankfurt-1",
            "",
            vec![
                by(
                    ManagedBy::Certwell,
                    "media.hachyderm.io",
                    row(1, &["media.hachyderm.io"], now, 80),
                ),
                dead(row(2, &["old.example", "media.hachyderm.io"], now, -3)),
            ],
        ),
        (
            "esme",
            "",
            vec![
                row(3, &["copied.example"], now, 5),
                row(3, &["copied.example"], now, 5),
                unreadable,
            ],
        ),
        (
            "sally",
            "nginx refuses its configuration",
            vec![by(
                ManagedBy::Certbot,
                "copied.example",
                row(3, &["copied.example"], now, 5),
            )],
        ),
    ] {
        let told = v1::Inventory {
            rows,
            problem: problem.into(),
            left_out: if name == "esme" { 3 } else { 0 },
            ..Default::default()
        };
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let told = HostInventory::told(&told, at).unwrap();
        facts.inventories.insert(host(name), told);
    }
    Issuer::at(facts, Some(now))
}

#[test]
fn the_report_has_each_certificate_once_and_the_worst_first() {
    let ran = sprawled(clock::now()).run(&["inventory"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let shown = ran.shown();
    assert!(
        shown.starts_with(
            "4 certificates on 3 hosts: 3 aren't renewed by themselves, 1 is dead; of those that nobody renews and that \
             are used copied.example ends first, in 5 days"
        ),
        "{shown}"
    );
    for words in [
        "! cdn-fremont-1 has told no inventory yet",
        "! esme: 3 certificates more didn't fit into its report",
        "! sally: what its server uses isn't known: nginx refuses its configuration",
        "esme: /etc/nginx/copied.example.pem; nobody renews it; served at 0.0.0.0:443",
        "sally: /etc/nginx/copied.example.pem; certbot's lineage copied.example; served",
        "cdn-frankfurt-1: /etc/nginx/old.example.pem; nobody renews it; dead: no server block uses it",
        "! no such file",
    ] {
        assert!(shown.contains(words), "{words}: {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}') && ran.out.contains("gone\\u{1b}"));
    assert!(
        ran.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        ran.out
    );
    let table: Vec<&str> = ran
        .out
        .lines()
        .skip_while(|line| !line.starts_with("NAMES"))
        .collect();
    let at = |what: &str| table.iter().position(|line| line.starts_with(what));
    let (copied, media, old) = (at("copied.example"), at("media."), at("old.example"));
    assert!(copied < media && media < old, "{table:#?}");
    let line = table[copied.unwrap()];
    assert!(
        line.contains("4%") || line.contains("5%"),
        "{line}: of a hundred days five are left"
    );
}

#[test]
fn the_domains_are_those_of_leftovers_and_nothing_else_is_printed() {
    let issuer = sprawled(clock::now());
    let ran = issuer.run(&["inventory", "--domains"]);
    // copied.example is certbot's on sally, and used there as far as is known; media is alive on another host.
    assert_eq!((ran.code, ran.out.as_str()), (0, "old.example\n"));
    for words in [
        "left out, since a certificate that is managed and used covers them: copied.example and media.hachyderm.io",
        "cdn-fremont-1 has told no inventory yet",
    ] {
        assert!(ran.said().contains(words), "{}", ran.err);
    }
    let of = |host: &str| issuer.run(&["inventory", "--domains", "--host", host]).out;
    assert_eq!(of("cdn-frankfurt-1"), "old.example\n");
    assert_eq!(of("esme"), "");
    let both = issuer.run(&["inventory", "--domains", "--json"]);
    assert_eq!(
        both.json(),
        json!({
            "version": 1,
            "domains": ["old.example"],
            "kept": ["copied.example", "media.hachyderm.io"],
        })
    );
}

#[test]
fn hosts_and_unmanaged_ones_can_be_asked_for() {
    let issuer = sprawled(clock::now());
    let sources = |arguments: &[&str]| -> Vec<String> {
        let all = [&["inventory", "--json"], arguments].concat();
        let found = issuer.run(&all).json();
        let certificates = found["certificates"].as_array().unwrap();
        certificates
            .iter()
            .flat_map(|one| one["places"].as_array().unwrap())
            .map(|place| format!("{} {}", place["host"].as_str().unwrap(), place["served"]))
            .collect()
    };
    assert_eq!(sources(&["--host", "sally"]), ["sally \"yes\""]);
    assert_eq!(
        sources(&["--unmanaged", "--host", "cdn-frankfurt-1"]),
        ["cdn-frankfurt-1 \"unused\""]
    );
    assert_eq!(sources(&[]).len(), 6);
    let ran = issuer.run(&["inventory", "--host", "fritz"]);
    assert_eq!(ran.code, 7);
    assert!(
        ran.said().contains("no host fritz is declared"),
        "{}",
        ran.err
    );
}

#[test]
fn the_report_is_sent_through_a_notifier() {
    let issuer = sprawled(clock::now());
    let ran = issuer.run(&["inventory", "--send", "discord", "--host", "sally"]);
    let sent = "sent through discord: discord answered\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, sent), "{ran:?}");
    let calls = issuer.known.calls();
    assert_eq!(calls, ["send-inventory sally discord"]);
    let ran = issuer.run(&["inventory", "--send", "deaf"]);
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
    assert!(ran.said().contains("deaf did not take it: deaf answered"));
    let ran = issuer.run(&["inventory", "--send", "deaf", "--json"]);
    assert_eq!(ran.code, 5);
    assert_eq!(ran.json()["accepted"], false);
    let ran = issuer.run(&["inventory", "--send", "discord", "--domains"]);
    assert_eq!(ran.code, 2);
}

#[test]
fn the_json_is_what_it_was() {
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let ran = sprawled(now).run(&["inventory", "--json"]);
    assert_eq!(ran.code, 0);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/inventory.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &ran.out).unwrap();
    }
    assert_eq!(ran.out, std::fs::read_to_string(path).unwrap());
    // And by meaning.
    let json = ran.json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["domains"], json!(["old.example"]));
    assert_eq!(json["hosts"].as_array().unwrap().len(), 3);
    let copied = json["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["names"] == json!(["copied.example"]))
        .unwrap();
    assert_eq!(copied["places"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&copied["unmanaged"], &copied["dead"], &copied["life_left"]),
        (&json!(true), &json!(false), &json!(0.0))
    );
}

#[test]
fn where_all_is_well_it_says_so() {
    let now = clock::now();
    let mut facts = fleet(now);
    facts.config = {
        let mut config = (*facts.config).clone();
        config.hosts.retain(|name, _| *name == host("sally"));
        config.into()
    };
    let told = v1::Inventory {
        rows: vec![by(
            ManagedBy::Certwell,
            "media.hachyderm.io",
            row(1, &["media.hachyderm.io"], now, 80),
        )],
        ..Default::default()
    };
    let told = HostInventory::told(&told, now).unwrap();
    facts.inventories.insert(host("sally"), told);
    let issuer = Issuer::of(facts);
    let ran = issuer.run(&["inventory"]);
    assert!(
        ran.out
            .starts_with("1 certificate on 1 host: each is used, and renewed by itself\n"),
        "{}",
        ran.out
    );
    let ran = issuer.run(&["inventory", "--domains"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
}
