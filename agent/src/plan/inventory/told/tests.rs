//! What is told stays within its bounds, and says no more than is known.

use certwell_proto::{Fingerprint, Leaf};

use super::{super::Use, *};
use crate::{nginx::Place, plan::inventory::Role};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn row(source: &str, names: usize) -> Row {
    Row {
        source: source.into(),
        leaf: Some(Leaf {
            fingerprint: Fingerprint([4; 32]),
            serial: "1".into(),
            not_before: at(10),
            not_after: at(20),
            identifiers: (0..names)
                .map(|n| format!("n{n}.example").parse().unwrap())
                .collect(),
            issuer: "CN=x".into(),
            self_issued: false,
        }),
        twins: Vec::new(),
        managed: Managed::Certbot {
            lineage: "a.example".into(),
            renews: false,
        },
        used_by: Vec::new(),
        problems: vec!["it expired".into()],
    }
}

fn named(path: &str, line: u32) -> Use {
    Use {
        role: Role::Listener,
        source: CertificateSource::File(path.into()),
        through: Vec::new(),
        listeners: vec!["0.0.0.0:443".into()],
        names: vec!["a.example".into()],
        at: Place {
            file: "/n.conf".into(),
            line,
        },
        seen: Vec::new(),
    }
}

#[test]
fn a_row_is_told_as_it_is() {
    let mut told_of = row("/a/fullchain.pem", 2);
    told_of.used_by = vec![named("/a/fullchain.pem", 3), named("/b/cert.pem", 9)];
    let inventory = told(&[told_of], true, "", at(5));
    assert_eq!(
        inventory,
        v1::Inventory {
            at_ms: 5_000,
            rows: vec![v1::InventoryRow {
                source: "/a/fullchain.pem".into(),
                covers: vec!["n0.example".into(), "n1.example".into()],
                issuer: "CN=x".into(),
                not_before: 10,
                not_after: 20,
                fingerprint: vec![4; 32],
                managed: v1::ManagedBy::Certbot.into(),
                managed_name: "a.example".into(),
                renews: false,
                served: v1::ServedState::Unprobed.into(),
                listeners: vec!["0.0.0.0:443".into()],
                server_names: vec!["a.example".into()],
                used_at: vec!["/n.conf:3".into(), "/n.conf:9 (/b/cert.pem)".into()],
                problems: vec!["it expired".into()],
            }],
            left_out: 0,
            problem: String::new(),
        }
    );
}

#[test]
fn nothing_is_dead_where_nobody_knows_what_nginx_uses() {
    let rows = [row("/a", 1)];
    let served = |is_known| told(&rows, is_known, "refused", at(5)).rows[0].served();
    assert_eq!(served(true), v1::ServedState::Unused);
    assert_eq!(served(false), v1::ServedState::Unprobed);
}

#[test]
fn rows_beyond_one_message_are_counted() {
    let rows: Vec<Row> = (0..3_000).map(|n| row(&format!("/a/{n}"), 60)).collect();
    let inventory = told(&rows, true, "", at(5));
    assert!(inventory.encoded_len() < limits::MESSAGE - 64 * 1024);
    assert!(inventory.rows.len() > 500);
    assert_eq!(
        inventory.rows.len() + inventory.left_out as usize,
        rows.len()
    );
    assert_eq!(inventory.rows[0].source, "/a/0", "the first to end");
    let small: Vec<Row> = (0..ROWS + 7).map(|n| row(&n.to_string(), 0)).collect();
    assert_eq!(told(&small, true, "", at(5)).left_out, 7);
}

#[test]
fn lists_and_texts_have_bounds() {
    let mut big = row("/a", ENTRIES + 1);
    big.problems = vec!["é".repeat(TEXT)];
    big.used_by = (0..2_000).map(|line| named("/a", line)).collect();
    let row = told(&[big], true, &"x".repeat(TEXT + 1), at(5));
    assert!(row.problem.len() <= TEXT);
    let row = &row.rows[0];
    assert_eq!(row.covers.len(), ENTRIES);
    assert_eq!(row.used_at.len(), ENTRIES);
    assert_eq!(row.listeners, ["0.0.0.0:443"]);
    assert!(row.problems[0].len() <= TEXT && row.problems[0].ends_with('…'));
}

#[test]
fn it_is_gathered_slowly_and_soon_again_where_nginx_does_not_serve_what_it_names() {
    let seconds = Duration::from_secs;
    let long = Some(seconds(90 * 86_400));
    assert_eq!(wait(0, long, 0.5), seconds(3_600));
    assert_eq!(wait(0, None, 0.5), seconds(3_600));
    assert_eq!(wait(0, Some(seconds(600)), 0.5), seconds(60));
    assert_eq!(wait(0, Some(seconds(20)), 0.5), seconds(15));
    assert_eq!(wait(0, Some(Duration::ZERO), 0.5), seconds(3_600));
    for (times, expected) in [(1, 15), (2, 30), (3, 60), (9, 3_600), (u32::MAX, 3_600)] {
        assert_eq!(wait(times, long, 0.5), seconds(expected), "{times}");
    }
    assert!(wait(0, long, 0.0) < wait(0, long, 1.0));
}

#[test]
fn of_a_server_that_is_not_nginx_the_handshakes_of_installs_say_what_is_served() {
    let of = |managed: Managed| Row {
        managed,
        ..row("/a.pem", 1)
    };
    let own = |name: &str| {
        of(Managed::Certwell {
            name: name.into(),
            generation: certwell_proto::Generation(3),
            adopted: Vec::new(),
        })
    };
    let by_certbot = of(Managed::Certbot {
        lineage: "well".into(),
        renews: true,
    });
    let rows = [own("well"), own("old"), own("new"), by_certbot];
    let mut inventory = told(&rows, false, "it isn't nginx", at(1));
    assert!(!is_unsettled(&inventory));
    own_served(&mut inventory, |name| match name {
        "well" => Some(true),
        "old" => Some(false),
        _ => None,
    });
    let served: Vec<v1::ServedState> = inventory.rows.iter().map(|row| row.served()).collect();
    use v1::ServedState::{No, Unprobed, Yes};
    assert_eq!(served, [Yes, No, Unprobed, Unprobed]);
    assert!(is_unsettled(&inventory), "one isn't what is served");
}
