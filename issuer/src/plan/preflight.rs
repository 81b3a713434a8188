//! Whether an order may be placed, by what the challenge hosts found out about themselves: pure.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::HostName;

/// What a host found when it asked its own nginx for a made-up token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every identifier was answered on every address.
    Pass,
    /// Something else came back; one sentence.
    Wrong(String),
}

/// The facts of one preflight.
#[derive(Debug, Clone, Copy)]
pub struct PreflightFacts<'a> {
    /// Who answers challenges; those without a verdict are silent so far.
    pub hosts: &'a [HostName],
    /// The verdicts that have come in.
    pub verdicts: &'a BTreeMap<HostName, Verdict>,
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
    },
    /// Go on asking.
    Wait {
        /// In the way, one sentence; `None` while it is too early to complain.
        problem: Option<String>,
    },
}

/// An order is placed when at least one host passes and none is wrong; silent ones are waited for, then named.
/// When it presses, one is placed all the same, once everybody had his time.
pub fn judge(facts: &PreflightFacts<'_>) -> Judgement {
    let silent: Vec<HostName> = facts
        .hosts
        .iter()
        .filter(|host| !facts.verdicts.contains_key(host))
        .cloned()
        .collect();
    let wrong: Vec<String> = facts
        .hosts
        .iter()
        .filter_map(|host| match facts.verdicts.get(host) {
            Some(Verdict::Wrong(words)) => Some(format!("{host}: {words}")),
            _ => None,
        })
        .collect();
    let passes = facts.hosts.len() - silent.len() - wrong.len();
    let patient = facts.waited < facts.patience;

    if wrong.is_empty() && passes > 0 && (silent.is_empty() || !patient) {
        return Judgement::Go { silent };
    }
    if facts.pressing && !patient {
        return Judgement::Go { silent };
    }
    let problem = if !wrong.is_empty() {
        Some(format!("preflight: {}", wrong.join("; ")))
    } else if facts.hosts.is_empty() {
        Some(
            "no host answers its challenges: name hosts or challenge-hosts in its configuration"
                .into(),
        )
    } else if patient {
        None
    } else {
        Some(format!(
            "preflight: no challenge host has answered ({}); is certwell-agent running and enrolled there?",
            join(&silent)
        ))
    };
    Judgement::Wait { problem }
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
        ] {
            assert_eq!(
                judged(&verdicts, waited, pressing),
                expected,
                "{verdicts:?} {waited} {pressing}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_go_with_a_wrong_host_unless_it_presses(a in 0_u8..3, b in 0_u8..3, waited in 0_u64..100) {
            let verdict = |kind| match kind {
                0 => None,
                1 => Some(Verdict::Pass),
                _ => Some(Verdict::Wrong("x".into())),
            };
            let verdicts: Vec<_> =
                [("a", verdict(a)), ("b", verdict(b))].into_iter().filter_map(|(n, v)| v.map(|v| (n, v))).collect();
            let go = matches!(judged(&verdicts, waited, false), Judgement::Go { .. });
            if a == 2 || b == 2 { prop_assert!(!go); }
            if a != 1 && b != 1 { prop_assert!(!go); }
        }
    }
}
