//! What is served gets old.

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::Failing,
};
use jiff::{SignedDuration, Timestamp};

use super::{Change, keys, of, on, told};
use crate::fleet::{
    HOSTS, MEDIA, configure, days, fleet, host, issue, media, minutes, noon, observe, older,
    sally_host,
};

/// Four hosts serve generation 2, of this life, of which so many eighths are left.
fn aged(
    life: SignedDuration,
    eighths: i32,
    now: Timestamp,
) -> certwell_issuer::plan::facts::FleetFacts {
    let mut facts = fleet(now);
    let end = now + life / 8 * eighths;
    issue(&mut facts, MEDIA, 2, end - life, end);
    for name in HOSTS {
        observe(&mut facts, MEDIA, name, 2, end - life);
    }
    facts
}

#[test]
fn certificates_of_every_life_are_told_at_the_same_fractions() {
    let now = noon();
    for life in [days(90), days(45), days(6), minutes(3)] {
        for (eighths, severity) in [
            (3, None),
            (2, Some(Severity::Warning)),
            (1, Some(Severity::Page)),
            (0, Some(Severity::Page)),
            (-8, Some(Severity::Page)),
        ] {
            let told = told(&aged(life, eighths, now), now);
            let expiry: Vec<_> = keys(&told)
                .into_iter()
                .filter(|(class, ..)| *class == Class::Expiry)
                .collect();
            let expected: Vec<_> = severity
                .into_iter()
                .map(|severity| (Class::Expiry, MEDIA, severity))
                .collect();
            assert_eq!(expiry, expected, "{life} {eighths}");
            if severity.is_some() {
                let alert = of(&told, Class::Expiry);
                assert_eq!(on(alert), HOSTS);
                assert_eq!(alert.ends, Some(now + life / 8 * eighths));
                assert_eq!(alert.since, Some(now + life / 8 * eighths - life / 4));
            }
        }
    }
}

#[test]
fn nothing_hides_an_expiry() {
    let now = noon();
    let changes: &[(&str, Change)] = &[
        ("the fleet is paused", |f, _| f.paused = true),
        ("the certificate is paused", |f, _| {
            media(f, MEDIA).paused = true
        }),
        ("the host is silent, and its last word ages", |f, now| {
            crate::judge::away(f, Some(now - days(40)));
        }),
        ("the host is revoked", |f, now| {
            sally_host(f).record.as_mut().unwrap().revoked = Some(now);
        }),
        ("the certificate is held by hand there", |f, _| {
            crate::fleet::sally(f).facts.problem =
                "held by hand until 2027-01-01T00:00:00Z (moving): certwell-agent hold media --release lets it go on".into();
        }),
        ("the issuer recovers", |f, now| {
            let mut recovery = certwell_issuer::plan::recover::begin(now, now, Default::default());
            recovery.waiting.insert(crate::fleet::certificate(MEDIA));
            f.recovery = Some(recovery);
        }),
        (
            "a younger one is issued, and a host doesn't draw it",
            |f, now| {
                older(f, MEDIA, 2, now + days(5));
                issue(f, MEDIA, 3, now - days(20), now + days(70));
                for name in &HOSTS[..3] {
                    observe(f, MEDIA, name, 3, now - days(20));
                }
            },
        ),
        (
            "so many younger ones are issued that the store let go of it",
            |f, now| {
                older(f, MEDIA, 7, now + days(5));
                issue(f, MEDIA, 8, now - days(20), now + days(70));
                for name in &HOSTS[..3] {
                    observe(f, MEDIA, name, 8, now - days(20));
                }
            },
        ),
    ];
    for (case, change) in changes {
        let mut facts = aged(days(90), 1, now);
        change(&mut facts, now);
        let told = told(&facts, now);
        let alert = of(&told, Class::Expiry);
        assert_eq!(alert.severity, Severity::Page, "{case}");
        assert!(on(alert).contains(&"sally"), "{case}");
    }
}

#[test]
fn it_says_what_is_in_the_way_and_what_to_type() {
    let now = noon();
    let dates = "valid until 2026-12-05 18:00:00 UTC (in 11 days)";
    let cases: &[(Change, &[&str], &str, &str)] = &[
        (
            |f, _| media(f, MEDIA).paused = true,
            &["In the way: it is paused until `certwell resume media.hachyderm.io`."],
            "nothing by itself",
            "certwell resume media.hachyderm.io",
        ),
        (
            |f, _| f.paused = true,
            &["the whole fleet is paused"],
            "nothing by itself",
            "certwell resume",
        ),
        (
            |f, now| {
                let order = &mut media(f, MEDIA).order;
                order.stage = certwell_issuer::plan::facts::OrderStage::Waiting;
                order.next_at = Some(now + minutes(20));
                order.failures = 9;
                order.failing = Some(Failing {
                    since: now - days(3),
                    last: now - minutes(10),
                    again: Some(now + minutes(20)),
                    problem: "letsencrypt can't be reached".into(),
                    validation: false,
                });
            },
            &["In the way: letsencrypt can't be reached."],
            "tried again on 2026-11-24 12:20:00 UTC (in 20 minutes), after 9 failures in a row.",
            "certwell certificates renew media.hachyderm.io --wait",
        ),
        (
            |f, now| {
                older(f, MEDIA, 2, now + days(90) / 8);
                issue(f, MEDIA, 3, now - days(20), now + days(70));
                for name in &HOSTS[..3] {
                    observe(f, MEDIA, name, 3, now - days(20));
                }
                let sally = crate::fleet::sally(f);
                sally.outcome = certwell_proto::v1::Outcome::Held;
                sally.outcome_generation = certwell_proto::Generation(3);
                sally.facts.problem = "nginx is stopped".into();
            },
            &[
                "sally serves generation 2",
                "In the way: sally: nginx is stopped.",
            ],
            "sally tries again by itself, also when its configuration changes, at the latest on 2026-11-24 12:05:00 UTC",
            "ssh sally certwell-agent doctor",
        ),
    ];
    for (change, cause, next, command) in cases {
        let mut facts = aged(days(90), 1, now);
        change(&mut facts, now);
        let told = told(&facts, now);
        let alert = of(&told, Class::Expiry);
        for part in cause.iter().chain([&dates]) {
            assert!(alert.cause.contains(part), "{part}: {}", alert.cause);
        }
        assert!(alert.next.contains(next), "{next}: {}", alert.next);
        assert_eq!(alert.command, *command);
    }
}

#[test]
fn what_is_over_is_told_with_its_end_in_the_title() {
    let now = noon();
    let told = told(&aged(days(90), 0, now + days(2)), now + days(4));
    let alert = of(&told, Class::Expiry);
    assert_eq!(
        alert.title,
        "media.hachyderm.io expired 2 days ago on cdn-frankfurt-1, cdn-fremont-1, esme and sally"
    );
    assert!(alert.cause.contains("users are refused by their browsers"));
}

#[test]
fn a_host_that_isn_t_declared_for_it_any_more_is_not_told() {
    let now = noon();
    let mut facts = aged(days(90), 1, now);
    configure(&mut facts, |config| {
        let declared = config.certificates.values_mut().next().unwrap();
        declared.hosts.retain(|name| *name != host("sally"));
    });
    assert!(!on(of(&told(&facts, now), Class::Expiry)).contains(&"sally"));
}
