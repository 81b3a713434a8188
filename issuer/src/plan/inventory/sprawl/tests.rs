use std::sync::Arc;

use super::*;

const NOW: i64 = 1_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn row(number: u8, names: &[&str], ends: i64, managed: Managed, served: Served) -> Row {
    Row {
        source: format!("/{number}.pem"),
        leaf: Some(Leaf {
            covers: names.iter().map(|name| name.parse().unwrap()).collect(),
            issuer: "CN=R3".into(),
            not_before: at(0),
            not_after: at(ends),
            fingerprint: Fingerprint([number; 32]),
        }),
        managed,
        served,
        listeners: Vec::new(),
        server_names: Vec::new(),
        used_at: Vec::new(),
        problems: Vec::new(),
    }
}

fn certwell() -> Managed {
    Managed::Certwell("media".parse().unwrap())
}

fn certbot(renews: bool) -> Managed {
    Managed::Certbot {
        lineage: "a".into(),
        renews,
    }
}

fn hosts(all: Vec<(&str, Vec<Row>)>) -> BTreeMap<HostName, HostInventory> {
    all.into_iter()
        .map(|(host, rows)| {
            let inventory = HostInventory {
                at: at(NOW),
                told_at: None,
                rows: Arc::new(rows),
                left_out: 0,
                problem: None,
            };
            (host.parse().unwrap(), inventory)
        })
        .collect()
}

fn names(of: &BTreeSet<Identifier>) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

fn leftover(hosts: &BTreeMap<HostName, HostInventory>) -> Vec<String> {
    let all = certificates(hosts, at(NOW));
    names(&domains(&all, |_| true).leftover)
}

#[test]
fn one_certificate_on_several_hosts_is_one() {
    let copied = || row(1, &["a.example"], 2_000, Managed::Nobody, Served::Yes);
    let hosts = hosts(vec![
        (
            "fritz",
            vec![row(1, &["a.example"], 2_000, certbot(true), Served::Unused)],
        ),
        ("sally", vec![copied(), copied()]),
    ]);
    let all = certificates(&hosts, at(NOW));
    assert_eq!(all.len(), 1);
    let on: Vec<&str> = all[0].places.iter().map(|p| p.host.as_str()).collect();
    assert_eq!(on, ["fritz", "sally", "sally"]);
    assert!(all[0].is_unmanaged() && !all[0].is_dead());
    assert_eq!(all[0].life_left(at(NOW)), Some(0.5));
    assert_eq!(all[0].life_left(at(3_000)), Some(0.0));
    assert_eq!(all[0].life_left(at(-5)), Some(1.0));
}

#[test]
fn a_headline_names_the_first_to_end_that_is_used_and_life_is_never_rounded_up() {
    use crate::plan::inventory::report::{headline, left};
    let hosts = hosts(vec![(
        "sally",
        vec![
            row(1, &["dead.example"], 1_100, Managed::Nobody, Served::Unused),
            row(2, &["used.example"], 1_991, Managed::Nobody, Served::Yes),
            row(3, &["ours.example"], 1_050, certwell(), Served::Yes),
        ],
    )]);
    let all = certificates(&hosts, at(NOW));
    let (head, is_well) = headline(&all, at(NOW));
    assert!(!is_well);
    assert!(head.contains("are used used.example ends first"), "{head}");
    let of = |name: &str| {
        let mut all = all.iter();
        let one = all.find(|one| one.leaf.unwrap().covers == [name.parse().unwrap()]);
        left(one.unwrap(), at(NOW))
    };
    // 991 of 1991 seconds are 49.8 %.
    assert_eq!(of("used.example"), "49%");
}

#[test]
fn the_worst_come_first_and_dead_ones_last() {
    let mut unreadable = row(9, &[], 0, Managed::Nobody, Served::Unprobed);
    unreadable.leaf = None;
    let hosts = hosts(vec![(
        "sally",
        vec![
            row(1, &["long.example"], 90_000, certwell(), Served::Yes),
            row(2, &["dead.example"], 500, Managed::Nobody, Served::Unused),
            row(3, &["soon.example"], 1_100, Managed::Nobody, Served::Yes),
            row(4, &["over.example"], 900, certbot(true), Served::Yes),
            unreadable,
        ],
    )]);
    let order: Vec<&str> = certificates(&hosts, at(NOW))
        .iter()
        .map(|one| one.places[0].row.source.as_str())
        .collect();
    assert_eq!(order, ["/9.pem", "/4.pem", "/3.pem", "/1.pem", "/2.pem"]);
}

#[test]
fn names_of_unmanaged_and_dead_certificates_are_leftovers() {
    let one = |managed, served| {
        hosts(vec![(
            "sally",
            vec![row(1, &["a.example"], 2_000, managed, served)],
        )])
    };
    for (managed, served, is_leftover) in [
        (Managed::Nobody, Served::Yes, true),
        (Managed::Nobody, Served::Unused, true),
        (Managed::Nobody, Served::Upstream, true),
        (certbot(false), Served::Yes, true),
        (certbot(true), Served::Unused, true),
        (certwell(), Served::Unused, true),
        (certbot(true), Served::Yes, false),
        (certbot(true), Served::Unprobed, false),
        (certwell(), Served::Yes, false),
        (certwell(), Served::No, false),
        (certwell(), Served::Upstream, false),
    ] {
        let found = leftover(&one(managed.clone(), served));
        assert_eq!(!found.is_empty(), is_leftover, "{managed:?} {served:?}");
    }
}

#[test]
fn a_name_that_a_managed_and_used_certificate_covers_is_kept() {
    let hosts = hosts(vec![
        (
            "fritz",
            vec![row(
                1,
                &["media.example", "old.example", "*.example.org"],
                2_000,
                Managed::Nobody,
                Served::Unused,
            )],
        ),
        (
            "sally",
            vec![
                row(2, &["media.example"], 2_000, certwell(), Served::Yes),
                row(3, &["*.example.net"], 2_000, certwell(), Served::Yes),
                row(
                    4,
                    &["a.example.net", "b.a.example.net"],
                    2_000,
                    Managed::Nobody,
                    Served::Yes,
                ),
            ],
        ),
    ]);
    assert_eq!(
        leftover(&hosts),
        ["*.example.org", "b.a.example.net", "old.example"]
    );
    let all = certificates(&hosts, at(NOW));
    let kept = domains(&all, |_| true).kept;
    assert_eq!(names(&kept), ["a.example.net", "media.example"]);
    // Of one host alone: what is alive elsewhere is kept all the same.
    let fritz = domains(&all, |place| place.host.as_str() == "fritz");
    assert_eq!(names(&fritz.leftover), ["*.example.org", "old.example"]);
    assert_eq!(names(&fritz.kept), ["media.example"]);
}
