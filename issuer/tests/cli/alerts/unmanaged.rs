//! Certificates that somebody else renews, or nobody.

use std::sync::Arc;

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::FleetFacts,
    inventory::{HostInventory, Leaf, Managed, Row, Served},
};
use certwell_proto::Fingerprint;
use jiff::{SignedDuration, Timestamp};

use super::{keys, on, told};
use crate::fleet::{MEDIA, certificate, configure, days, fleet, host, minutes, noon};

pub(crate) fn row(
    managed: Managed,
    served: Served,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Row {
    Row {
        source: "/etc/ssl/shop/fullchain.pem".into(),
        leaf: Some(Leaf {
            covers: vec!["shop.example.org".parse().unwrap()],
            issuer: "R3".into(),
            not_before,
            not_after,
            fingerprint: Fingerprint([3; 32]),
        }),
        managed,
        served,
        listeners: vec!["192.0.2.13:443".into()],
        server_names: vec!["shop.example.org".into()],
        used_at: vec!["/etc/nginx/sites-enabled/shop:7".into()],
        problems: vec![],
    }
}

pub(crate) fn has(facts: &mut FleetFacts, on: &str, rows: Vec<Row>, now: Timestamp) {
    let inventory = HostInventory {
        at: now,
        told_at: Some(now),
        rows: Arc::new(rows),
        left_out: 0,
        problem: None,
    };
    facts.inventories.insert(host(on), inventory);
}

fn certbot(renews: bool) -> Managed {
    Managed::Certbot {
        lineage: "shop".into(),
        renews,
    }
}

#[test]
fn they_are_told_at_the_same_fractions_and_certbot_s_when_it_has_failed() {
    use Severity::{Page, Warning};
    let now = noon();
    for life in [days(90), days(45), days(6), minutes(3)] {
        for (eighths, nobody, renewed) in [
            (3, None, None),
            (2, Some(Warning), None),
            (1, Some(Page), Some(Page)),
            (0, Some(Page), Some(Page)),
            // Nobody has missed it for long.
            (-2, Some(Warning), Some(Warning)),
        ] {
            for (managed, expected) in [
                (Managed::Nobody, nobody),
                (certbot(false), nobody),
                (certbot(true), renewed),
                (Managed::Certwell(certificate("gone.example.org")), nobody),
            ] {
                let end = now + life / 8 * eighths;
                let mut facts = fleet(now);
                let rows = vec![row(managed.clone(), Served::Yes, end - life, end)];
                has(&mut facts, "sally", rows, now);
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|severity| (Class::UnmanagedExpiring, "shop.example.org", severity))
                    .collect();
                assert_eq!(
                    keys(&told(&facts, now)),
                    expected,
                    "{life} {eighths} {managed:?}"
                );
            }
        }
    }
}

#[test]
fn only_what_is_served_by_a_host_of_ours_and_isn_t_its_own_is_told() {
    let now = noon();
    let end = now + days(5);
    let told_of = |managed: Managed, served: Served| {
        let mut facts = fleet(now);
        has(
            &mut facts,
            "sally",
            vec![row(managed, served, end - days(90), end)],
            now,
        );
        keys(&told(&facts, now)).len()
    };
    assert_eq!(told_of(Managed::Nobody, Served::Unprobed), 1);
    assert_eq!(told_of(Managed::Nobody, Served::Upstream), 1);
    assert_eq!(told_of(Managed::Nobody, Served::No), 0);
    assert_eq!(told_of(Managed::Nobody, Served::Unused), 0);
    assert_eq!(
        told_of(Managed::Certwell(certificate(MEDIA)), Served::Yes),
        0
    );

    let mut facts = fleet(now);
    has(
        &mut facts,
        "sally",
        vec![row(Managed::Nobody, Served::Yes, end - days(90), end)],
        now,
    );
    configure(&mut facts, |config| {
        config.hosts.remove(&host("sally"));
    });
    assert!(
        told(&facts, now)
            .iter()
            .all(|alert| alert.key.class != Class::UnmanagedExpiring)
    );
}

#[test]
fn one_leaf_on_two_hosts_is_one_alert_that_says_where_nginx_names_it() {
    let now = noon();
    let mut facts = fleet(now);
    let end = now + days(20);
    for name in ["esme", "sally"] {
        let rows = vec![row(Managed::Nobody, Served::Yes, end - days(90), end)];
        has(&mut facts, name, rows, now);
    }
    let told = told(&facts, now);
    assert_eq!(
        keys(&told),
        [(
            Class::UnmanagedExpiring,
            "shop.example.org",
            Severity::Warning
        )]
    );
    let alert = &told[0];
    assert_eq!(on(alert), ["esme", "sally"]);
    assert_eq!(
        alert.title,
        "a certificate of shop.example.org, which certwell doesn't renew, expires in 20 days on esme and sally"
    );
    assert_eq!(
        alert.cause,
        "nobody renews /etc/ssl/shop/fullchain.pem on esme, as far as is known. It was issued by R3, and expires on \
         2026-12-14 12:00:00 UTC (in 20 days). nginx names it in /etc/nginx/sites-enabled/shop:7."
    );
    assert!(
        alert
            .next
            .contains("as a page from 2026-12-03 06:00:00 UTC"),
        "{}",
        alert.next
    );
    assert_eq!(alert.command, "ssh esme certwell-agent inventory");
    assert_eq!(alert.since, Some(end - SignedDuration::from_hours(540)));
}
