//! Whether an order may be placed, by what the challenge hosts found out about themselves: pure.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{HostName, v1};

use super::{facts::HostFacts, presence};

/// What a host found when it asked its own nginx for a made-up token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every identifier was answered on every address.
    Pass,
    /// Something else came back; one sentence.
    Wrong(String),
    /// It couldn't ask, so that nothing is known; one sentence.
    Erred(String),
}

/// The facts of one preflight.
#[derive(Debug, Clone, Copy)]
pub struct PreflightFacts<'a> {
    /// Who answers challenges; those without a verdict are silent so far.
    pub hosts: &'a [HostName],
    /// The verdicts that have come in.
    pub verdicts: &'a BTreeMap<HostName, Verdict>,
    /// What else is known of them.
    pub known: &'a BTreeMap<HostName, HostFacts>,
    /// How long it has been asked.
    pub waited: Duration,
    /// How long silent hosts are waited for.
    pub patience: Duration,
    /// Less than a sixth of the served certificate's life is left.
    pub pressing: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Place the order.
    Go {
        /// Hosts that said nothing, to be named.
        silent: Vec<HostName>,
        /// Hosts that couldn't ask their nginx, each with why.
        erred: Vec<String>,
    },
    /// Go on asking.
    Wait {
        /// In the way, one sentence; `None` while it is too early to complain.
        problem: Option<String>,
    },
}

/// An order is placed when at least one host passes and none is wrong; silent ones are waited for, then named. Those
/// that may not call aren't waited for.
/// A preflight that errs holds no order up: where nobody passes but some couldn't ask, one is placed once the patience
/// is over, since they may yet be able to. When it presses, one is placed all the same, once everybody had his time.
pub fn judge(facts: &PreflightFacts<'_>) -> Judgement {
    let silent: Vec<HostName> = facts
        .hosts
        .iter()
        .filter(|host| !facts.verdicts.contains_key(host))
        .cloned()
        .collect();
    let (mut wrong, mut erred, mut passes) = (Vec::new(), Vec::new(), 0_usize);
    for host in facts.hosts {
        match facts.verdicts.get(host) {
            Some(Verdict::Wrong(words)) => wrong.push(format!("{host}: {words}")),
            Some(Verdict::Erred(words)) => erred.push(format!("{host}: {words}")),
            Some(Verdict::Pass) => passes += 1,
            None => {}
        }
    }
    let patient = facts.waited < facts.patience;

    let awaited = silent.iter().any(|host| may_answer(facts.known.get(host)));
    let enough = passes > 0 && (!awaited || !patient);
    let nothing_better = !erred.is_empty() && !patient;
    let pressed = facts.pressing && !patient;
    if (wrong.is_empty() && (enough || nothing_better)) || pressed {
        return Judgement::Go { silent, erred };
    }
    let problem = if !wrong.is_empty() {
        Some(format!("preflight: {}", wrong.join("; ")))
    } else if facts.hosts.is_empty() {
        Some(
            "no host answers its challenges: name hosts or challenge-hosts in its configuration"
                .into(),
        )
    } else if !erred.is_empty() && passes == 0 {
        Some(format!(
            "preflight: no host could ask its own nginx yet ({}); the order follows all the same if this stays so",
            erred.join("; ")
        ))
    } else if patient {
        None
    } else {
        Some(format!(
            "preflight: no challenge host has answered {}",
            words_of_silence(&silent, facts.known)
        ))
    };
    Judgement::Wait { problem }
}

/// Whether a host that is silent may speak yet.
fn may_answer(host: Option<&HostFacts>) -> bool {
    !matches!(
        presence::life(host),
        v1::HostLife::Revoked | v1::HostLife::Retired
    )
}

/// Why nobody has answered: a host that is connected knows best what is in its way.
fn words_of_silence(silent: &[HostName], known: &BTreeMap<HostName, HostFacts>) -> String {
    const AWAY: &str = "is certwell-agent running and enrolled there?";
    let (here, away): (Vec<HostName>, Vec<HostName>) = silent
        .iter()
        .cloned()
        .partition(|host| known.get(host).is_some_and(|host| host.connected));
    if here.is_empty() {
        return format!("({}); {AWAY}", join(&away));
    }
    let mut parts: Vec<String> = here
        .iter()
        .map(|host| {
            let problem = known.get(host).and_then(|host| host.problem.as_deref());
            let problem = problem.unwrap_or("it is connected, but has no verdict yet");
            format!("{host}: {problem}")
        })
        .collect();
    if !away.is_empty() {
        parts.push(format!("not connected: {}; {AWAY}", join(&away)));
    }
    format!("({})", parts.join("; "))
}

/// What is told when the order is placed.
pub fn words_of_going(silent: &[HostName], erred: &[String]) -> String {
    let mut parts = Vec::new();
    if !silent.is_empty() {
        parts.push(format!("going on without {}", join(silent)));
    }
    if !erred.is_empty() {
        parts.push(format!(
            "going on although the preflight erred: {}",
            erred.join("; ")
        ));
    }
    if parts.is_empty() {
        "passed on every challenge host".to_owned()
    } else {
        parts.join("; ")
    }
}

/// Who may be in the way, where the CA couldn't validate: challenge hosts that aren't connected now, and those that did
/// not pass before the order was placed. `None` where nobody is suspected.
pub fn words_of_suspicion(
    hosts: &[HostName],
    unproven: &[HostName],
    known: &BTreeMap<HostName, HostFacts>,
) -> Option<String> {
    let is_away = |host: &&HostName| !known.get(*host).is_some_and(|facts| facts.connected);
    let away: Vec<HostName> = hosts.iter().filter(is_away).cloned().collect();
    let here: Vec<HostName> = unproven
        .iter()
        .filter(|host| !is_away(host))
        .cloned()
        .collect();
    let mut parts = Vec::new();
    for (suspects, one, many) in [
        (away, "is not connected", "are not connected"),
        (
            here,
            "has not passed the preflight",
            "have not passed the preflight",
        ),
    ] {
        match suspects.len() {
            0 => {}
            1 => parts.push(format!("{} {one}", join(&suspects))),
            _ => parts.push(format!("{} {many}", join(&suspects))),
        }
    }
    (!parts.is_empty()).then(|| format!("{}, and the CA may have come there", parts.join(", ")))
}

/// Names in a row, for sentences.
pub fn join(hosts: &[HostName]) -> String {
    hosts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
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
}
