//! Facts at random: the verdict keeps to what is served, and something can be said of anything.

use certwell_issuer::plan::{
    explain::explain, facts::FleetFacts, headline::headline, judge::judge, status::status,
};
use certwell_proto::{Generation, v1};
use jiff::Timestamp;
use proptest::{collection::vec, option, prelude::*};
use v1::{HostState, ListenerState, Outcome};

use crate::{
    fleet::{
        MEDIA, certificate, days, fleet, host, issue, media, minutes, noon, older, sally,
        sally_host, served,
    },
    judge::away,
};

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
        older(
            &mut facts,
            MEDIA,
            generation,
            now + days(chance.ends_in_days),
        );
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
        let head = headline(&whole, now);
        prop_assert!(!head.text.is_empty());
        prop_assert!(!head.converged || judged.state == HostState::Converged);
        let told = explain(&facts, &media, now).unwrap();
        prop_assert!(told.iter().all(|sentence| sentence.ends_with(['.', '?'])));
    }
}
