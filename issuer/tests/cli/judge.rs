//! How sally stands with media.hachyderm.io, case by case.

use certwell_issuer::plan::{
    facts::FleetFacts,
    judge::judge,
    status::{hosts, status},
};
use certwell_proto::{Generation, v1};
use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*};
use v1::{HostState, ListenerState, Outcome};

use crate::fleet::{
    MEDIA, certificate, configure, days, fleet, host, issue, media, minutes, noon, observe, sally,
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
    media(facts, MEDIA)
        .ends
        .insert(Generation(2), now + days(80));
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

fn away(facts: &mut FleetFacts, seen: Option<Timestamp>) {
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
            media(f, MEDIA).ends.insert(Generation(2), now - days(2));
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

#[test]
fn facts_that_have_not_happened_are_absent() {
    let now = noon();
    let mut facts = fleet(now);
    let on_sally = |facts: &FleetFacts| {
        let status = status(facts, now);
        status.certificates[0]
            .hosts
            .iter()
            .find(|h| h.host == "sally")
            .unwrap()
            .clone()
    };
    let whole = on_sally(&facts);
    assert_eq!(whole.desired.unwrap().generation, 2);
    assert_eq!(whole.served.unwrap().generation, Some(2));
    assert_eq!(whole.seen, None);
    assert_eq!(
        whole.served_not_after,
        Some((now + days(80) + minutes(5)).as_second())
    );

    *media(&mut facts, MEDIA) = Default::default();
    let bare = on_sally(&facts);
    let absent = [
        bare.desired,
        bare.fetched,
        bare.installed,
        bare.tested,
        bare.reloaded,
    ];
    assert_eq!(absent, [None; 5]);
    assert_eq!((bare.served, bare.seen), (None, None));
    assert_eq!(bare.host, "sally");
}

#[test]
fn a_certificate_says_when_it_is_renewed_and_what_is_in_the_way() {
    let now = noon();
    let mut facts = fleet(now);
    let plain = status(&facts, now).certificates.remove(0);
    assert!(
        plain
            .renew_at_ms
            .is_some_and(|at| at > now.as_millisecond())
    );
    assert_eq!(
        (plain.generation, plain.problem.as_str(), plain.paused),
        (2, "", false)
    );

    media(&mut facts, MEDIA).paused = true;
    let paused = status(&facts, now).certificates.remove(0);
    assert_eq!(paused.renew_at_ms, None);
    assert!(
        paused.paused
            && paused
                .problem
                .contains("certwell resume media.hachyderm.io")
    );

    media(&mut facts, MEDIA).paused = false;
    media(&mut facts, MEDIA).issued.as_mut().unwrap().not_after = now - days(1);
    media(&mut facts, MEDIA).order.problem = Some("letsencrypt can't be reached".into());
    let expired = status(&facts, now).certificates.remove(0);
    assert!(
        expired
            .problem
            .contains("generation 2 of media.hachyderm.io expired 24 hours ago")
    );
    assert!(expired.problem.contains("letsencrypt can't be reached"));
}

#[test]
fn the_issuer_says_what_is_in_its_own_way() {
    let now = noon();
    let mut facts = fleet(now);
    assert!(status(&facts, now).problems.is_empty());
    facts.paused = true;
    facts.config_problem = Some("conf.d/media.toml:3:1: unknown key \"hots\"".into());
    let problems = status(&facts, now).problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("conf.d/media.toml:3:1"));
    assert!(problems[1].contains("`certwell resume`"));
}

#[test]
fn hosts_are_told_with_their_life_identity_and_certificates() {
    let now = noon();
    let mut facts = fleet(now);
    configure(&mut facts, |config| {
        config.hosts.insert(host("spare"), Default::default());
        config.hosts.get_mut(&host("sally")).unwrap().labels = vec!["cdn".into()];
    });
    sally_host(&mut facts).record.as_mut().unwrap().revoked = Some(now);
    let told = hosts(&facts, now).hosts;
    let find = |name: &str| told.iter().find(|h| h.name == name).unwrap();
    assert_eq!(told.len(), 5);

    let esme = find("esme");
    assert_eq!(
        (esme.life(), esme.connected),
        (v1::HostLife::Enrolled, true)
    );
    assert_eq!(esme.identity_not_after, Some((now + days(6)).as_second()));
    assert_eq!(
        (esme.certificates.as_slice(), esme.problem.as_str()),
        (&[MEDIA.to_owned()][..], "")
    );
    assert_eq!(esme.info.as_ref().unwrap().nginx_version, "1.22.1");

    let sally = find("sally");
    assert_eq!(
        (sally.life(), sally.labels.as_slice()),
        (v1::HostLife::Revoked, &["cdn".to_owned()][..])
    );
    assert!(sally.problem.contains("revoked"));

    let spare = find("spare");
    assert_eq!(
        (spare.life(), spare.last_seen_ms),
        (v1::HostLife::Declared, None)
    );
    assert!(spare.certificates.is_empty() && spare.problem.contains("never joined"));

    let later = hosts(&facts, now + days(7)).hosts;
    let esme = later.iter().find(|h| h.name == "esme").unwrap();
    assert!(
        esme.problem
            .contains("the identity of esme expired 24 hours ago"),
        "{}",
        esme.problem
    );
}

/// Everything that the verdict hangs on, at random.
#[derive(Debug, Clone)]
struct Chance {
    issued: Option<u64>,
    served: Option<u64>,
    listeners: Vec<i32>,
    outcome: i32,
    outcome_generation: u64,
    connected: bool,
    quiet_minutes: i64,
    ends_in_days: i64,
    paused: bool,
    words: bool,
}

fn chance() -> impl Strategy<Value = Chance> {
    (
        (
            option::of(1_u64..4),
            option::of(0_u64..5),
            vec(0_i32..9, 0..4),
        ),
        (
            0_i32..7,
            0_u64..5,
            any::<bool>(),
            0_i64..10,
            -5_i64..5,
            any::<bool>(),
            any::<bool>(),
        ),
    )
        .prop_map(|((issued, served, listeners), rest)| {
            let (
                outcome,
                outcome_generation,
                connected,
                quiet_minutes,
                ends_in_days,
                paused,
                words,
            ) = rest;
            Chance {
                issued,
                served,
                listeners,
                outcome,
                outcome_generation,
                connected,
                quiet_minutes,
                ends_in_days,
                paused,
                words,
            }
        })
}

fn at_random(chance: &Chance, now: Timestamp) -> FleetFacts {
    let mut facts = fleet(now);
    let known = media(&mut facts, MEDIA);
    known.issued = None;
    known.paused = chance.paused;
    for generation in 0..5 {
        known
            .ends
            .insert(Generation(generation), now + days(chance.ends_in_days));
    }
    if let Some(generation) = chance.issued {
        issue(
            &mut facts,
            MEDIA,
            generation,
            now - minutes(5),
            now + days(chance.ends_in_days),
        );
    }
    let served = served(&mut facts);
    served.generation = chance.served;
    served.listeners = chance
        .listeners
        .iter()
        .map(|state| v1::Listener {
            state: *state,
            ..Default::default()
        })
        .collect();
    let on_sally = sally(&mut facts);
    on_sally.outcome = Outcome::try_from(chance.outcome).unwrap_or_default();
    on_sally.outcome_generation = Generation(chance.outcome_generation);
    if chance.words {
        on_sally.facts.problem = "nginx is stopped".into();
    }
    away(&mut facts, Some(now - minutes(chance.quiet_minutes)));
    sally_host(&mut facts).connected = chance.connected;
    facts
}

proptest! {
    #[test]
    fn whatever_the_facts_the_verdict_keeps_to_what_is_served(chance in chance()) {
        let now = noon();
        let facts = at_random(&chance, now);
        let media = certificate(MEDIA);
        let judged = judge(&facts, &media, &facts.certificates[&media], &host("sally"), now);
        if judged.state == HostState::Converged {
            let served = judged.served.as_ref().unwrap();
            prop_assert_eq!(served.generation, chance.issued);
            prop_assert!(served.listeners.iter().all(|l| !matches!(
                l.state(),
                ListenerState::Old | ListenerState::Stranger | ListenerState::Down | ListenerState::Unspecified
            )));
        }
        if judged.served_ends.is_some_and(|end| end <= now) {
            prop_assert!(judged.problem.as_ref().is_some_and(|p| p.contains("which expired")));
        }
        if !matches!(judged.state, HostState::Converged | HostState::Pending) {
            prop_assert!(judged.problem.is_some(), "{:?} without a word", judged.state);
        }
        let whole = status(&facts, now);
        let head = certwell_issuer::plan::headline::headline(&whole, now);
        prop_assert!(!head.text.is_empty());
        prop_assert!(!head.converged || judged.state == HostState::Converged);
        let told = certwell_issuer::plan::explain::explain(&facts, &media, now).unwrap();
        prop_assert!(told.iter().all(|sentence| sentence.ends_with(['.', '?'])));
    }
}
