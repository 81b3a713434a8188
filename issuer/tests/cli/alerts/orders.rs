//! Nothing younger comes about.

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::{Failing, FleetFacts, OrderStage},
    renew::stable_jitter,
};
use jiff::{SignedDuration, Timestamp};

use super::{Change, keys, of, told};
use crate::fleet::{
    HOSTS, MEDIA, certificate, configure, days, declare, fleet, host, issue, media, minutes, noon,
    observe,
};

/// Its order has failed so often, last a minute ago, and is tried again after so many minutes.
pub(super) fn failed(
    facts: &mut FleetFacts,
    name: &str,
    failures: u32,
    again: i64,
    now: Timestamp,
) {
    let order = &mut media(facts, name).order;
    order.stage = OrderStage::Waiting;
    order.failures = failures;
    order.problem = Some("letsencrypt can't be reached: connection refused".into());
    order.next_at = Some(now + minutes(again - 1));
    order.failing = Some(Failing {
        since: now - minutes(60),
        last: now - minutes(1),
        again: order.next_at,
        problem: "letsencrypt can't be reached: connection refused".into(),
        validation: false,
    });
}

type Case = (&'static str, Change, &'static [(Class, Severity)]);

#[test]
fn what_will_be_well_in_a_moment_is_no_news() {
    use {
        Class::{Expiry, OrderFailing},
        Severity::{Page, Warning},
    };
    let now = noon();
    let cases: &[Case] = &[
        (
            "one failure, tried again soon",
            |f, now| failed(f, MEDIA, 1, 2, now),
            &[],
        ),
        (
            "two failures, tried again soon",
            |f, now| failed(f, MEDIA, 2, 4, now),
            &[],
        ),
        (
            "three in a row",
            |f, now| failed(f, MEDIA, 3, 4, now),
            &[(OrderFailing, Warning)],
        ),
        (
            "one, and the CA makes wait",
            |f, now| failed(f, MEDIA, 1, 60, now),
            &[(OrderFailing, Warning)],
        ),
        (
            "one, and the CA could not validate",
            |f, now| {
                failed(f, MEDIA, 1, 5, now);
                media(f, MEDIA).order.failing.as_mut().unwrap().validation = true;
            },
            &[(OrderFailing, Warning)],
        ),
        (
            "tried once more just now",
            |f, now| {
                failed(f, MEDIA, 3, 4, now);
                let order = &mut media(f, MEDIA).order;
                (order.stage, order.next_at, order.problem) =
                    (OrderStage::Ordered(3.into()), None, None);
            },
            &[(OrderFailing, Warning)],
        ),
        (
            "the first one, with little life left",
            |f, now| {
                let end = now + days(11);
                issue(f, MEDIA, 2, end - days(90), end);
                failed(f, MEDIA, 1, 2, now);
            },
            &[(Expiry, Page), (OrderFailing, Warning)],
        ),
        (
            "paused meanwhile",
            |f, now| {
                failed(f, MEDIA, 9, 60, now);
                media(f, MEDIA).paused = true;
            },
            &[],
        ),
        (
            "of 3 minutes, tried again within seconds",
            |f, now| {
                short(f, now);
                failed(f, MEDIA, 1, 2, now);
                let order = &mut media(f, MEDIA).order;
                order.failing.as_mut().unwrap().again =
                    Some(now - minutes(1) + SignedDuration::from_secs(4));
            },
            &[],
        ),
        (
            "of 3 minutes, tried again in half a minute",
            |f, now| {
                short(f, now);
                failed(f, MEDIA, 1, 2, now);
                let order = &mut media(f, MEDIA).order;
                order.failing.as_mut().unwrap().again =
                    Some(now - minutes(1) + SignedDuration::from_secs(30));
            },
            &[(OrderFailing, Warning)],
        ),
    ];
    for (case, change, expected) in cases {
        let mut facts = fleet(now);
        change(&mut facts, now);
        let told = told(&facts, now);
        let found: Vec<_> = keys(&told)
            .into_iter()
            .map(|(class, _, severity)| (class, severity))
            .collect();
        assert_eq!(found, *expected, "{case}: {told:#?}");
    }
}

/// Certificates of three minutes, of which one is left.
fn short(facts: &mut FleetFacts, now: Timestamp) {
    let at = now - minutes(2);
    issue(facts, MEDIA, 2, at, at + minutes(3));
    for name in HOSTS {
        observe(facts, MEDIA, name, 2, at);
    }
}

#[test]
fn a_ca_that_is_away_is_one_alert_for_all_its_certificates() {
    let now = noon();
    let mut facts = fleet(now);
    declare(&mut facts, "new.example.org", &["sally"]);
    declare(&mut facts, "other.example.org", &["sally"]);
    issue(
        &mut facts,
        "other.example.org",
        1,
        now - days(50),
        now + days(40),
    );
    observe(&mut facts, "other.example.org", "sally", 1, now - days(50));
    for name in [MEDIA, "new.example.org", "other.example.org"] {
        failed(&mut facts, name, 4, 10, now);
    }
    let told = told(&facts, now);
    assert_eq!(
        keys(&told),
        [(Class::OrderFailing, "letsencrypt", Severity::Warning)]
    );
    let alert = &told[0];
    let members: Vec<_> = alert
        .members
        .iter()
        .map(|m| m.certificate.clone().unwrap())
        .collect();
    assert_eq!(
        members,
        ["other.example.org", MEDIA, "new.example.org"].map(certificate)
    );
    assert!(
        alert.cause.contains(
            "It failed 4 times in a row, first on 2026-11-24 11:00:00 UTC (60 minutes ago). Meanwhile sally serves \
             generation 1 until 2027-01-03 12:00:00 UTC (in 40 days)."
        ),
        "{}",
        alert.cause
    );
    assert!(
        alert
            .next
            .contains("other.example.org is tried again on 2026-11-24 12:09:00 UTC"),
        "{}",
        alert.next
    );
    assert_eq!(
        alert.command,
        "certwell certificates renew other.example.org --wait"
    );
    assert_eq!(alert.since, Some(now - minutes(60)));
}

pub(super) fn preflight(facts: &mut FleetFacts, problem: &str) {
    let order = &mut media(facts, MEDIA).order;
    (order.stage, order.next_at) = (OrderStage::Preflight, None);
    order.problem = Some(problem.into());
}

#[test]
fn a_preflight_is_told_with_whom_it_names_and_until_when_it_counts() {
    let now = noon();
    let mut facts = fleet(now);
    preflight(
        &mut facts,
        "preflight: sally: 301 in the place of the answer: the include comes too late in /etc/nginx/sites-enabled/media:12",
    );
    let told = told(&facts, now);
    assert_eq!(
        keys(&told),
        [(Class::PreflightFailing, MEDIA, Severity::Warning)]
    );
    let alert = &told[0];
    assert_eq!(
        alert.title,
        "sally would not answer the CA for media.hachyderm.io"
    );
    assert_eq!(super::on(alert), ["sally"]);
    assert!(
        alert.cause.contains("/etc/nginx/sites-enabled/media:12."),
        "{}",
        alert.cause
    );
    assert!(
        alert
            .next
            .ends_with("whatever they answer on 2027-01-28 12:04:10 UTC (in 65 days)."),
        "{}",
        alert.next
    );
    assert_eq!(alert.command, "ssh sally certwell-agent doctor");
}

#[test]
fn challenge_hosts_that_are_all_away_are_told_as_that_alone() {
    let now = noon();
    let mut facts = fleet(now);
    preflight(
        &mut facts,
        "preflight: no challenge host has answered (sally); is certwell-agent running and enrolled there?",
    );
    configure(&mut facts, |config| {
        let declared = config.certificates.values_mut().next().unwrap();
        declared.challenge_hosts = vec![host("sally")];
    });
    crate::judge::away(&mut facts, Some(now - minutes(30)));
    assert_eq!(
        keys(&told(&facts, now)),
        [(Class::HostSilent, "", Severity::Warning)]
    );
    // One that never joined is told by nobody else.
    crate::fleet::sally_host(&mut facts).record = None;
    assert_eq!(
        keys(&told(&facts, now)),
        [(Class::PreflightFailing, MEDIA, Severity::Warning)]
    );
}

#[test]
fn a_renewal_that_just_doesn_t_come_is_told_after_a_tenth_of_what_was_left() {
    let now = noon();
    for (life, patience) in [
        (days(90), SignedDuration::from_hours(24)),
        (days(6), days(6) / 30),
        (minutes(3), minutes(3) / 30),
    ] {
        for (quarters, expected) in [(-4, 0), (3, 0), (6, 1)] {
            let mut facts = fleet(now);
            let jitter = stable_jitter(MEDIA, 2);
            let until_due = life.as_secs_f64() * (0.667 - 0.05 * jitter);
            let late = patience.as_secs_f64() * f64::from(quarters) / 4.0;
            let at = now - SignedDuration::from_secs_f64(until_due + late);
            issue(&mut facts, MEDIA, 2, at, at + life);
            for name in HOSTS {
                observe(&mut facts, MEDIA, name, 2, at);
            }
            media(&mut facts, MEDIA).order.next_at = Some(now);
            let told = told(&facts, now);
            let overdue = told.iter();
            let overdue: Vec<_> = overdue
                .filter(|alert| alert.key.class == Class::RenewalOverdue)
                .collect();
            assert_eq!(overdue.len(), expected, "{life} {quarters}: {told:#?}");
            if let Some(alert) = overdue.first() {
                assert!(
                    alert.cause.contains("nothing is under way"),
                    "{}",
                    alert.cause
                );
                assert!(alert.since.unwrap() < now);
            }
        }
    }
}

#[test]
fn a_renewal_that_is_paused_is_not_overdue_and_ages() {
    let now = noon();
    let mut facts = fleet(now);
    issue(&mut facts, MEDIA, 2, now - days(70), now + days(20));
    media(&mut facts, MEDIA).paused = true;
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::Expiry, MEDIA, Severity::Warning)]);
    assert_eq!(
        of(&told, Class::Expiry).command,
        "certwell resume media.hachyderm.io"
    );
}
