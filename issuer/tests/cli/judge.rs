//! How sally stands with media.hachyderm.io, case by case.

use certwell_issuer::plan::{facts::FleetFacts, judge::judge};
use certwell_proto::{Generation, v1};
use jiff::Timestamp;
use v1::{HostState, ListenerState, Outcome};

use crate::fleet::{
    MEDIA, certificate, days, fleet, host, issue, media, minutes, noon, observe, older, sally,
    sally_host, served,
};

/// Name, change, state, and the problem: none, or all of these parts in it.
type Case = (
    &'static str,
    fn(&mut FleetFacts, Timestamp),
    HostState,
    &'static [&'static str],
);

/// Generation 3 is issued this many minutes before `now`; the hosts are left with 2.
fn renewed(facts: &mut FleetFacts, now: Timestamp, ago: i64) {
    issue(facts, MEDIA, 3, now - minutes(ago), now + days(90));
    older(facts, MEDIA, 2, now + days(80));
}

fn outcome(facts: &mut FleetFacts, outcome: Outcome, generation: u64, words: &str) {
    let sally = sally(facts);
    sally.outcome = outcome;
    sally.outcome_generation = Generation(generation);
    sally.facts.problem = words.into();
}

fn listener(facts: &mut FleetFacts, index: usize, state: ListenerState) -> &mut v1::Listener {
    let listener = &mut served(facts).listeners[index];
    listener.state = state.into();
    if !matches!(state, ListenerState::Current | ListenerState::Old) {
        listener.fingerprint.clear();
    }
    listener
}

pub(crate) fn away(facts: &mut FleetFacts, seen: Option<Timestamp>) {
    let sally = sally_host(facts);
    sally.connected = false;
    sally.last_seen = seen;
    sally.record.as_mut().unwrap().last_seen = seen;
}

const CASES: &[Case] = &[
    ("all as it should be", |_, _| {}, HostState::Converged, &[]),
    (
        "listeners that refuse, are elsewhere or can't be probed stand in nobody's way",
        |f, _| {
            listener(f, 1, ListenerState::Rejects);
            let more =
                [ListenerState::Elsewhere, ListenerState::Unprobed].map(|state| v1::Listener {
                    state: state.into(),
                    ..Default::default()
                });
            served(f).listeners.extend(more);
        },
        HostState::Converged,
        &[],
    ),
    (
        "a new generation that nobody drew yet",
        |f, now| renewed(f, now, 1),
        HostState::Pending,
        &[],
    ),
    (
        "a new generation that nobody drew for long",
        |f, now| renewed(f, now, 10),
        HostState::Pending,
        // The listeners still say "current" of what they had: held against what is desired now, they are old.
        &[
            "sally",
            "127.0.0.1:443",
            "still serves an older generation",
            "1 listener",
        ],
    ),
    (
        "the number is right, but the leaf is another",
        |f, _| served(f).listeners[0].fingerprint = vec![7; 32],
        HostState::Pending,
        &["127.0.0.1:443", "older generation"],
    ),
    (
        "installed, and stuck before the reload",
        |f, now| {
            renewed(f, now, 10);
            let facts = &mut sally(f).facts;
            for fact in [&mut facts.fetched, &mut facts.installed, &mut facts.tested] {
                fact.as_mut().unwrap().generation = 3;
            }
            facts.served = None;
        },
        HostState::Pending,
        &["sally has not reloaded generation 3, issued 10 minutes ago"],
    ),
    (
        "paused before it was drawn",
        |f, now| {
            renewed(f, now, 1);
            media(f, MEDIA).paused = true;
        },
        HostState::Pending,
        &[
            "not offered generation 3",
            "`certwell resume media.hachyderm.io`",
        ],
    ),
    (
        "nothing observed and nothing issued",
        |f, _| *media(f, MEDIA) = Default::default(),
        HostState::Pending,
        &[],
    ),
    (
        "the placeholder is never served",
        |f, _| {
            *served(f) = v1::StatusServed {
                generation: Some(0),
                ..Default::default()
            };
            media(f, MEDIA).issued = None;
        },
        HostState::Pending,
        &[],
    ),
    (
        "no listener uses it",
        |f, _| {
            *served(f) = v1::StatusServed {
                at_ms: 1,
                ..Default::default()
            };
        },
        HostState::Pending,
        &["no nginx listener on sally uses this certificate"],
    ),
    (
        "only listeners that can't be probed",
        |f, _| {
            listener(f, 0, ListenerState::Elsewhere);
            listener(f, 1, ListenerState::Unprobed);
            served(f).generation = None;
        },
        HostState::Pending,
        &["none of the 2 listeners on sally"],
    ),
    (
        "a stranger on one listener",
        |f, _| {
            listener(f, 1, ListenerState::Stranger).detail = "CN=expired.example".into();
            served(f).generation = None;
        },
        HostState::Pending,
        &[
            "sally: 127.0.0.1:8443 for media.hachyderm.io",
            "not of certwell",
            "CN=expired.example",
        ],
    ),
    (
        "a listener that went down after the install",
        |f, _| {
            listener(f, 0, ListenerState::Down);
        },
        HostState::Pending,
        &["127.0.0.1:443", "does not answer"],
    ),
    (
        "rejected",
        |f, now| {
            renewed(f, now, 1);
            outcome(
                f,
                Outcome::Rejected,
                3,
                "the leaf doesn't cover media.hachyderm.io",
            );
        },
        HostState::Failed,
        &["sally: the leaf doesn't cover media.hachyderm.io"],
    ),
    (
        "regressed, without a word",
        |f, now| {
            renewed(f, now, 1);
            served(f).listeners.clear();
            outcome(f, Outcome::Regressed, 3, "");
        },
        HostState::Failed,
        &["sally could not install generation 3"],
    ),
    (
        "held by the host's own config",
        |f, now| {
            renewed(f, now, 1);
            outcome(
                f,
                Outcome::Held,
                3,
                "sally: nginx -t failed: unknown directive \"sssl\"",
            );
        },
        HostState::Held,
        &["sally: nginx -t failed: unknown directive \"sssl\""],
    ),
    (
        "not applied",
        |f, now| {
            renewed(f, now, 1);
            outcome(f, Outcome::NotApplied, 3, "old workers stay");
        },
        HostState::Held,
        &["sally: old workers stay"],
    ),
    (
        "an older generation's failure is no news of the new one",
        |f, now| {
            renewed(f, now, 1);
            outcome(f, Outcome::Rejected, 2, "");
        },
        HostState::Pending,
        &[],
    ),
    (
        "what is served goes before what was reported: an operator restarted nginx",
        |f, _| outcome(f, Outcome::NotApplied, 2, ""),
        HostState::Converged,
        &[],
    ),
    (
        "ahead of a restored issuer",
        |f, now| observe(f, MEDIA, "sally", 9, now),
        HostState::Pending,
        &["sally serves generation 9, newer than the issuer's 2"],
    ),
    (
        "never joined",
        |f, _| *sally_host(f) = Default::default(),
        HostState::Silent,
        &[
            "sally has never joined",
            "`certwell token create --host sally`",
        ],
    ),
    (
        "joined, never connected",
        |f, _| away(f, None),
        HostState::Silent,
        &["sally joined, but never connected"],
    ),
    (
        "away for a minute",
        |f, now| away(f, Some(now - minutes(1))),
        HostState::Converged,
        &[],
    ),
    (
        "away for hours, and it had something to say",
        |f, now| {
            away(f, Some(now - minutes(180)));
            outcome(f, Outcome::Held, 2, "disk full");
        },
        HostState::Silent,
        &[
            "sally was last heard from 3 hours ago",
            "certwell-agent",
            "sally: disk full",
        ],
    ),
    (
        "revoked",
        |f, now| sally_host(f).record.as_mut().unwrap().revoked = Some(now),
        HostState::Silent,
        &["the identity of sally is revoked"],
    ),
    (
        "revoked, and back with a new identity",
        |f, now| sally_host(f).record.as_mut().unwrap().revoked = Some(now - days(3)),
        HostState::Converged,
        &[],
    ),
    (
        "retired",
        |f, _| sally_host(f).record.as_mut().unwrap().retired = true,
        HostState::Silent,
        &["sally is retired", "configuration"],
    ),
    (
        "converged, with something else wrong on the host",
        |f, _| sally_host(f).problem = Some("disk nearly full".into()),
        HostState::Converged,
        &["sally: disk nearly full"],
    ),
    (
        "serves an expired older generation, because the new one is held: expiry is said first",
        |f, now| {
            renewed(f, now, 10);
            older(f, MEDIA, 2, now - days(2));
            outcome(f, Outcome::Held, 3, "nginx is stopped");
        },
        HostState::Held,
        &["sally serves generation 2, which expired 2 days ago; sally: nginx is stopped"],
    ),
    (
        "serves what is desired, and that has expired",
        |f, now| media(f, MEDIA).issued.as_mut().unwrap().not_after = now - minutes(10),
        HostState::Converged,
        &["sally serves generation 2, which expired 10 minutes ago"],
    ),
];

#[test]
fn every_case_has_its_state_and_its_most_pressing_sentence() {
    let now = noon();
    for (name, change, state, problem) in CASES {
        let mut facts = fleet(now);
        change(&mut facts, now);
        let media = certificate(MEDIA);
        let judged = judge(
            &facts,
            &media,
            &facts.certificates[&media],
            &host("sally"),
            now,
        );
        assert_eq!(judged.state, *state, "{name}: {judged:?}");
        match &judged.problem {
            None => assert!(problem.is_empty(), "{name}: no problem is said"),
            Some(said) => {
                assert!(!problem.is_empty(), "{name}: {said}");
                for part in *problem {
                    assert!(
                        said.contains(part),
                        "{name}: {said:?} does not say {part:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_short_lived_certificate_is_waited_for_less() {
    let now = noon();
    for (life, state) in [
        (days(90), HostState::Converged),
        (minutes(3), HostState::Silent),
    ] {
        let mut facts = fleet(now);
        issue(&mut facts, MEDIA, 2, now, now + life);
        away(&mut facts, Some(now - jiff::SignedDuration::from_secs(30)));
        let media = certificate(MEDIA);
        let judged = judge(
            &facts,
            &media,
            &facts.certificates[&media],
            &host("sally"),
            now,
        );
        assert_eq!(judged.state, state, "{life}");
    }
}
