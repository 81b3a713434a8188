//! Hosts that don't serve what they should.

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::FleetFacts,
};
use certwell_proto::{
    Generation,
    v1::{ListenerState, Outcome},
};
use jiff::Timestamp;

use super::{Change, keys, of, on, told};
use crate::fleet::{
    HOSTS, MEDIA, days, fleet, issue, media, minutes, noon, observe, older, sally, sally_host,
    served,
};

/// Name, minutes since generation 3 was issued, change, and what is told.
type Case = (&'static str, i64, Change, &'static [(Class, Severity)]);

/// Generation 3 was issued so many minutes ago; sally alone serves 2.
pub(super) fn lagging(now: Timestamp, ago: i64) -> FleetFacts {
    let mut facts = fleet(now);
    issue(&mut facts, MEDIA, 3, now - minutes(ago), now + days(90));
    older(&mut facts, MEDIA, 2, now + days(80));
    for name in &HOSTS[..3] {
        observe(&mut facts, MEDIA, name, 3, now - minutes(ago));
    }
    facts
}

pub(super) fn ended(facts: &mut FleetFacts, outcome: Outcome, words: &str) {
    let sally = sally(facts);
    sally.outcome = outcome;
    sally.outcome_generation = Generation(3);
    sally.facts.problem = words.into();
}

const REFUSED: &str = "nginx -t failed on the host's own config (not ours): unknown directive \"sssl\" in \
                       /etc/nginx/sites-enabled/media:12";

#[test]
fn each_way_to_lag_has_its_class() {
    use {
        Class::{InstallFailing, NotServed},
        Severity::{Page, Warning},
    };
    let now = noon();
    let cases: &[Case] = &[
        ("just issued", 1, |_, _| {}, &[]),
        ("not drawn for long", 5, |_, _| {}, &[(NotServed, Warning)]),
        (
            "rejected",
            1,
            |f, _| ended(f, Outcome::Rejected, REFUSED),
            &[(InstallFailing, Warning)],
        ),
        (
            "regressed",
            1,
            |f, _| ended(f, Outcome::Regressed, REFUSED),
            &[(InstallFailing, Warning)],
        ),
        (
            "held for a moment",
            1,
            |f, _| ended(f, Outcome::Held, REFUSED),
            &[],
        ),
        (
            "held",
            5,
            |f, _| ended(f, Outcome::Held, REFUSED),
            &[(InstallFailing, Warning)],
        ),
        (
            "not applied",
            5,
            |f, _| ended(f, Outcome::NotApplied, REFUSED),
            &[(InstallFailing, Warning)],
        ),
        (
            "held, and nobody answers",
            5,
            |f, _| {
                ended(f, Outcome::Held, "nginx is stopped");
                for listener in &mut served(f).listeners {
                    listener.state = ListenerState::Down.into();
                }
            },
            &[(InstallFailing, Page)],
        ),
        (
            "another's certificate is served",
            5,
            |f, _| {
                served(f).generation = None;
                served(f).listeners[0].state = ListenerState::Stranger.into();
                served(f).listeners[0].fingerprint = vec![7; 32];
            },
            &[(NotServed, Page)],
        ),
        (
            "held by hand",
            5,
            |f, _| {
                ended(
                    f,
                    Outcome::Held,
                    "held by hand until 2027-01-01T00:00:00Z: certwell-agent …",
                )
            },
            &[],
        ),
        (
            "nobody can read what is held by hand",
            5,
            |f, _| {
                ended(
                    f,
                    Outcome::Held,
                    "held, since nobody knows what is held by hand: holds.json …",
                )
            },
            &[(InstallFailing, Warning)],
        ),
        ("paused", 5, |f, _| media(f, MEDIA).paused = true, &[]),
        ("all paused", 5, |f, _| f.paused = true, &[]),
        (
            "paused, when it was drawn already and fails",
            5,
            |f, _| {
                f.paused = true;
                ended(f, Outcome::Held, REFUSED);
            },
            &[(InstallFailing, Warning)],
        ),
        (
            "revoked",
            5,
            |f, now| sally_host(f).record.as_mut().unwrap().revoked = Some(now),
            &[],
        ),
        (
            "away",
            5,
            |f, now| crate::judge::away(f, Some(now - minutes(30))),
            &[(Class::HostSilent, Warning)],
        ),
    ];
    for (case, ago, change, expected) in cases {
        let mut facts = lagging(now, *ago);
        change(&mut facts, now);
        let told = told(&facts, now);
        let found: Vec<_> = keys(&told)
            .into_iter()
            .map(|(class, _, severity)| (class, severity))
            .collect();
        assert_eq!(found, *expected, "{case}");
        for alert in &told {
            assert_eq!(on(alert), ["sally"], "{case}");
        }
    }
}

#[test]
fn nginx_s_own_words_are_quoted_with_what_is_served_meanwhile() {
    let now = noon();
    let mut facts = lagging(now, 5);
    ended(&mut facts, Outcome::Held, REFUSED);
    let told = told(&facts, now);
    let alert = of(&told, Class::InstallFailing);
    assert_eq!(
        alert.title,
        "sally can't install generation 3 of media.hachyderm.io"
    );
    assert!(
        alert.members[0]
            .text
            .contains("unknown directive \"sssl\" in /etc/nginx/sites-enabled/media:12")
    );
    assert!(
        alert.cause.contains(
            "Meanwhile sally serves generation 2, valid until 2027-02-12 12:00:00 UTC (in 80 days)."
        ),
        "{}",
        alert.cause
    );
    assert!(
        alert
            .cause
            .contains("Generation 3 was issued on 2026-11-24 11:55:00 UTC (5 minutes ago)."),
        "{}",
        alert.cause
    );
    assert_eq!(alert.command, "ssh sally certwell-agent doctor");
    assert_eq!(alert.since, Some(now - minutes(5)));
}

#[test]
fn what_a_host_refused_waits_for_the_next_generation() {
    let now = noon();
    let mut facts = lagging(now, 5);
    ended(&mut facts, Outcome::Rejected, REFUSED);
    let told = told(&facts, now);
    let next = &of(&told, Class::InstallFailing).next;
    assert!(
        next.starts_with(
            "sally takes generation 3 no more. media.hachyderm.io is renewed on 2027-01-"
        ),
        "{next}"
    );
}

#[test]
fn one_cause_on_four_hosts_is_one_alert() {
    let now = noon();
    let mut facts = fleet(now);
    issue(&mut facts, MEDIA, 3, now - minutes(5), now + days(90));
    older(&mut facts, MEDIA, 2, now + days(80));
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::NotServed, MEDIA, Severity::Warning)]);
    assert_eq!(on(&told[0]), HOSTS);
}

#[test]
fn words_without_end_are_cut() {
    let now = noon();
    let mut facts = lagging(now, 5);
    ended(&mut facts, Outcome::Held, &"nginx says much\n".repeat(130));
    // Looked at by `told` for its length and for line breaks.
    assert_eq!(told(&facts, now).len(), 1);
}
