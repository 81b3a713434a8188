//! Hosts without a word.

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::FleetFacts,
};

use super::{Change, keys, of, on, told};
use crate::{
    fleet::{MEDIA, configure, days, fleet, host, media, minutes, noon, sally_host},
    judge::away,
};

#[test]
fn a_host_that_is_away_is_told_with_what_it_serves_and_when_it_ends() {
    let now = noon();
    let mut facts = fleet(now);
    away(&mut facts, Some(now - minutes(1)));
    assert_eq!(told(&facts, now), []);
    away(&mut facts, Some(now - minutes(7)));
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::HostSilent, "", Severity::Warning)]);
    let alert = of(&told, Class::HostSilent);
    assert_eq!(alert.title, "no word from sally since 7 minutes ago");
    assert_eq!(
        alert.cause,
        "sally was last heard from 7 minutes ago; is certwell-agent running there? It goes on serving what it had: \
         generation 2 of media.hachyderm.io, valid until 2027-02-12 12:05:00 UTC (in 80 days), ends first."
    );
    assert!(
        alert
            .next
            .contains("media.hachyderm.io is renewed on 2027-01-"),
        "{}",
        alert.next
    );
    assert_eq!(alert.command, "ssh sally certwell-agent doctor");
    assert_eq!(alert.since, Some(now - minutes(7)));
    assert_eq!(alert.members[0].served, "generation 2");
}

#[test]
fn an_issuer_that_has_just_started_waits_for_its_hosts() {
    let now = noon();
    let mut facts = fleet(now);
    away(&mut facts, Some(now - days(3)));
    facts.sightings.since = now - minutes(1);
    assert_eq!(told(&facts, now), []);
    assert_eq!(told(&facts, now + minutes(2)).len(), 1);
}

#[test]
fn a_host_whose_certificate_has_expired_is_not_silent_with_every_connection_made_anew() {
    let now = noon();
    let mut facts = fleet(now);
    media(&mut facts, MEDIA).issued.as_mut().unwrap().not_after = now - minutes(10);
    let silent = |facts: &FleetFacts| {
        let told = told(facts, now);
        told.iter()
            .any(|alert| alert.key.class == Class::HostSilent)
    };
    away(&mut facts, Some(now - minutes(1)));
    assert!(!silent(&facts));
    away(&mut facts, Some(now - minutes(3)));
    assert!(silent(&facts));
}

#[test]
fn several_hosts_are_one_alert() {
    let now = noon();
    let mut facts = fleet(now);
    for known in facts.hosts.values_mut() {
        known.connected = false;
        known.last_seen = Some(now - minutes(10));
        known.record.as_mut().unwrap().last_seen = None;
    }
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::HostSilent, "", Severity::Warning)]);
    assert_eq!(on(&told[0]), crate::fleet::HOSTS);
    assert!(
        told[0].cause.contains("And so 3 hosts more"),
        "{}",
        told[0].cause
    );
    assert_eq!(told[0].command, "certwell hosts list");
}

#[test]
fn an_identity_that_is_over_needs_a_token() {
    let now = noon();
    let mut facts = fleet(now);
    away(&mut facts, Some(now + days(6)));
    let later = now + days(6) + minutes(10);
    for (name, known) in &mut facts.hosts {
        if *name != host("sally") {
            known.record.as_mut().unwrap().identity = vec![];
        }
    }
    let told = told(&facts, later);
    let alert = of(&told, Class::HostSilent);
    assert!(
        alert
            .cause
            .contains("the identity of sally expired on 2026-11-30 12:00:00 UTC (10 minutes ago)"),
        "{}",
        alert.cause
    );
    assert_eq!(alert.command, "certwell token create --host sally");
}

#[test]
fn who_was_sent_away_or_never_came_is_no_news() {
    let now = noon();
    let changes: &[Change] = &[
        |f, now| sally_host(f).record.as_mut().unwrap().revoked = Some(now),
        |f, _| sally_host(f).record.as_mut().unwrap().retired = true,
        |f, _| sally_host(f).record = None,
        |f, _| {
            configure(f, |config| {
                config.hosts.remove(&host("sally"));
                let declared = config.certificates.values_mut().next().unwrap();
                declared.hosts.retain(|name| *name != host("sally"));
            });
        },
    ];
    for change in changes {
        let mut facts = fleet(now);
        away(&mut facts, Some(now - days(1)));
        change(&mut facts, now);
        assert_eq!(told(&facts, now), []);
    }
}
