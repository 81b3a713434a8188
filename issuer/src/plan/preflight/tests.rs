use super::*;
use crate::store::HostRecord;
use proptest::prelude::*;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn judged(verdicts: &[(&str, Verdict)], waited: u64, pressing: bool) -> Judgement {
    let hosts = [host("a"), host("b")];
    let verdicts = verdicts
        .iter()
        .map(|(name, v)| (host(name), v.clone()))
        .collect();
    judge(&PreflightFacts {
        hosts: &hosts,
        verdicts: &verdicts,
        known: &BTreeMap::new(),
        waited: Duration::from_secs(waited),
        patience: Duration::from_secs(30),
        pressing,
    })
}

#[test]
fn verdicts_lead_where_the_design_says() {
    let wrong = || Verdict::Wrong("404 came back".into());
    let wait = |problem: &str| Judgement::Wait {
        problem: Some(problem.into()),
    };
    let go = |silent: &[&str]| Judgement::Go {
        silent: silent.iter().map(|n| host(n)).collect(),
        erred: Vec::new(),
    };
    let erred = || Verdict::Erred("nginx isn't running".into());
    let go_erred = |silent: &[&str], erred: &[&str]| Judgement::Go {
        silent: silent.iter().map(|n| host(n)).collect(),
        erred: erred
            .iter()
            .map(|n| format!("{n}: nginx isn't running"))
            .collect(),
    };
    let not_yet = |who: &str| {
        wait(&format!(
            "preflight: no host could ask its own nginx yet ({who}); the order follows all the same if this stays so"
        ))
    };
    for (verdicts, waited, pressing, expected) in [
        (
            vec![("a", Verdict::Pass), ("b", Verdict::Pass)],
            0,
            false,
            go(&[]),
        ),
        (
            vec![("a", Verdict::Pass)],
            0,
            false,
            Judgement::Wait { problem: None },
        ),
        (vec![("a", Verdict::Pass)], 31, false, go(&["b"])),
        (
            vec![("a", Verdict::Pass), ("b", wrong())],
            99,
            false,
            wait("preflight: b: 404 came back"),
        ),
        (
            vec![("a", Verdict::Pass), ("b", wrong())],
            1,
            true,
            wait("preflight: b: 404 came back"),
        ),
        (
            vec![("a", Verdict::Pass), ("b", wrong())],
            31,
            true,
            go(&[]),
        ),
        (vec![], 0, false, Judgement::Wait { problem: None }),
        (
            vec![],
            31,
            false,
            wait(
                "preflight: no challenge host has answered (a, b); is certwell-agent running and enrolled there?",
            ),
        ),
        (vec![], 31, true, go(&["a", "b"])),
        // One that errs stands in nobody's way, and is named.
        (
            vec![("a", Verdict::Pass), ("b", erred())],
            0,
            false,
            go_erred(&[], &["b"]),
        ),
        // Where nobody passes the patience is waited out: it may yet be able to ask.
        (
            vec![("a", erred()), ("b", erred())],
            1,
            false,
            not_yet("a: nginx isn't running; b: nginx isn't running"),
        ),
        (
            vec![("a", erred()), ("b", erred())],
            31,
            false,
            go_erred(&[], &["a", "b"]),
        ),
        (
            vec![("a", erred())],
            1,
            false,
            not_yet("a: nginx isn't running"),
        ),
        (vec![("a", erred())], 31, false, go_erred(&["b"], &["a"])),
        (
            vec![("a", erred()), ("b", wrong())],
            99,
            false,
            wait("preflight: b: 404 came back"),
        ),
    ] {
        assert_eq!(
            judged(&verdicts, waited, pressing),
            expected,
            "{verdicts:?} {waited} {pressing}"
        );
    }
}

#[test]
fn a_connected_host_that_gives_no_verdict_is_quoted_not_called_away() {
    let connected = |problem: Option<&str>| HostFacts {
        connected: true,
        problem: problem.map(str::to_owned),
        ..HostFacts::default()
    };
    let full = "the challenge map can't be written: No space left on device";
    for (known, said) in [
        (
            vec![("a", connected(Some(full))), ("b", HostFacts::default())],
            "(a: the challenge map can't be written: No space left on device; not connected: b; is certwell-agent \
             running and enrolled there?)",
        ),
        (
            vec![("a", connected(Some(full))), ("b", connected(None))],
            "(a: the challenge map can't be written: No space left on device; b: it is connected, but has no \
             verdict yet)",
        ),
    ] {
        let hosts = [host("a"), host("b")];
        let judgement = judge(&PreflightFacts {
            hosts: &hosts,
            verdicts: &BTreeMap::new(),
            known: &known.into_iter().map(|(name, h)| (host(name), h)).collect(),
            waited: Duration::from_secs(31),
            patience: Duration::from_secs(30),
            pressing: false,
        });
        let problem = Some(format!("preflight: no challenge host has answered {said}"));
        assert_eq!(judgement, Judgement::Wait { problem });
    }
}

#[test]
fn whom_the_ca_may_have_met_is_named() {
    let known: BTreeMap<HostName, HostFacts> = [("a", true), ("b", false), ("c", true)]
        .into_iter()
        .map(|(name, connected)| {
            let facts = HostFacts {
                connected,
                ..HostFacts::default()
            };
            (host(name), facts)
        })
        .collect();
    let hosts = |names: &[&str]| names.iter().map(|name| host(name)).collect::<Vec<_>>();
    for (challenge_hosts, unproven, said) in [
        (vec!["a", "c"], vec![], None),
        (
            vec!["a", "b"],
            vec![],
            Some("b is not connected, and the CA may have come there"),
        ),
        (
            vec!["a", "b"],
            vec!["b"],
            Some("b is not connected, and the CA may have come there"),
        ),
        (
            vec!["a", "b", "c", "d"],
            vec!["a", "b"],
            Some(
                "b, d are not connected, a has not passed the preflight, and the CA may have come there",
            ),
        ),
    ] {
        assert_eq!(
            words_of_suspicion(&hosts(&challenge_hosts), &hosts(&unproven), &known).as_deref(),
            said
        );
    }
}

#[test]
fn a_host_that_may_not_call_is_not_waited_for() {
    let hosts = [host("a"), host("b")];
    let verdicts = BTreeMap::from([(host("a"), Verdict::Pass)]);
    let placed_at_once = |retired| {
        let record = HostRecord {
            name: host("b"),
            bound_key: Vec::new(),
            identity: Vec::new(),
            identity_key: [0; 32],
            revoked: None,
            retired,
            info: v1::HostInfo::default(),
            last_seen: None,
        };
        let facts = HostFacts {
            record: Some(record),
            ..HostFacts::default()
        };
        let known = BTreeMap::from([(host("b"), facts)]);
        let judgement = judge(&PreflightFacts {
            hosts: &hosts,
            verdicts: &verdicts,
            known: &known,
            waited: Duration::ZERO,
            patience: Duration::from_secs(30),
            pressing: false,
        });
        let silent = vec![host("b")];
        let erred = Vec::new();
        judgement == Judgement::Go { silent, erred }
    };
    assert!(placed_at_once(true));
    assert!(!placed_at_once(false), "it may answer yet");
}

proptest! {
    #[test]
    fn wrong_holds_up_unless_it_presses_and_silence_alone_never_goes(a in 0_u8..4, b in 0_u8..4, waited in 0_u64..100) {
        let verdict = |kind| match kind {
            0 => None,
            1 => Some(Verdict::Pass),
            2 => Some(Verdict::Wrong("x".into())),
            _ => Some(Verdict::Erred("x".into())),
        };
        let verdicts: Vec<_> =
            [("a", verdict(a)), ("b", verdict(b))].into_iter().filter_map(|(n, v)| v.map(|v| (n, v))).collect();
        let is = |kind| a == kind || b == kind;
        let go = matches!(judged(&verdicts, waited, false), Judgement::Go { .. });
        if is(2) { prop_assert!(!go); }
        if !is(1) && !is(3) { prop_assert!(!go); }
        if !is(1) && waited < 30 { prop_assert!(!go, "all erred or silent: the patience first"); }
        if !is(2) && (is(1) || is(3)) && waited >= 30 { prop_assert!(go, "erring holds no order up"); }
        if !is(2) && !is(0) && is(1) { prop_assert!(go); }
    }
}
