//! A clock that was two hours ahead, and is set right: patience is as long as ever, not two hours longer.

use std::time::Duration;

use certwell_issuer::plan::{
    ahead::heed,
    alert::{Class, alerts},
    facts::FleetFacts,
    judge::judge,
    seen::{Key, Kind, Shown, Spot, findings, merge::merge, wire::Told},
};
use certwell_proto::v1::HostState;
use jiff::Timestamp;

use crate::{
    fleet::{
        MEDIA, certificate, days, fleet, host, issue, media, minutes, noon, older, sally_host,
    },
    judge::away,
};

/// What the clock said just before it was set right.
fn wrong() -> Timestamp {
    noon() + minutes(120)
}

/// Minutes after the clock was set right. The facts are asked for time and again, as when alerts are looked for.
fn told_at(facts: &mut FleetFacts, class: Class, all: &[i64]) -> Vec<bool> {
    let mut told = Vec::new();
    for minute in all {
        let now = noon() + minutes(*minute);
        heed(facts, now);
        let found = alerts(facts, now);
        let one = found.iter().find(|alert| alert.key.class == class);
        assert!(one.is_none_or(|alert| alert.since <= Some(now)), "{one:?}");
        told.push(one.is_some());
    }
    told
}

/// Also when the clock comes by the same instants once more.
const MINUTES: [i64; 6] = [0, 1, 3, 60, 121, 180];
const AS_USUAL: [bool; 6] = [false, false, true, true, true, true];

#[test]
fn a_silent_host_is_told_as_soon_as_ever() {
    let mut facts = fleet(wrong());
    facts.sightings.since = wrong() - minutes(1);
    away(&mut facts, Some(wrong()));
    assert_eq!(told_at(&mut facts, Class::HostSilent, &MINUTES), AS_USUAL);
    // What it says now is newer than what it said then.
    sally_host(&mut facts).last_seen = Some(noon() + minutes(179));
    assert_eq!(told_at(&mut facts, Class::HostSilent, &[180]), [false]);
}

#[test]
fn a_host_that_lags_is_told_as_soon_as_ever() {
    let mut facts = fleet(noon());
    issue(&mut facts, MEDIA, 3, wrong(), noon() + days(90));
    older(&mut facts, MEDIA, 2, noon() + days(80));
    for known in facts.hosts.values_mut() {
        known.last_seen = Some(noon());
        known.record.as_mut().unwrap().last_seen = None;
    }
    assert_eq!(told_at(&mut facts, Class::NotServed, &MINUTES), AS_USUAL);
    let now = noon() + minutes(3);
    let known = media(&mut facts, MEDIA).clone();
    let judged = judge(&facts, &certificate(MEDIA), &known, &host("sally"), now);
    assert_eq!(judged.state, HostState::Pending);
    let problem = judged.problem.unwrap_or_default();
    assert!(problem.contains("still serves an older"), "{problem}");
}

#[test]
fn what_was_seen_to_be_down_stands_with_the_next_look_and_old_looks_count_no_longer() {
    let mut facts = fleet(noon());
    let told = |shown: Shown, looked_at: Timestamp| Told {
        spot: Spot {
            certificate: certificate(MEDIA),
            name: MEDIA.into(),
            host: Some(host("sally")),
            address: Some("192.0.2.13:443".parse().unwrap()),
            key: Key::Ecdsa,
        },
        shown,
        url: None,
        looked_at,
    };
    let look = |facts: &mut FleetFacts, at: Timestamp| {
        heed(facts, at);
        let down = told(Shown::Down("refused".into()), at);
        merge(facts, None, vec![down], true, at);
    };
    look(&mut facts, wrong());
    look(&mut facts, noon());
    let later = noon() + minutes(1);
    look(&mut facts, later);
    let found = findings(&facts, later);
    let down = found.iter().find(|finding| finding.kind == Kind::Down);
    assert!(
        down.is_some_and(|down| down.stands && down.since <= noon()),
        "{found:?}"
    );
    // Nobody looks any more.
    let every = facts.sightings.probes[&None].every;
    let over = later + every * 3 + Duration::from_secs(60);
    assert_eq!(findings(&facts, over), []);

    let mut facts = fleet(noon());
    look(&mut facts, wrong());
    heed(&mut facts, noon());
    assert_eq!(
        findings(&facts, noon() + every * 3 + Duration::from_secs(60)),
        []
    );
}
