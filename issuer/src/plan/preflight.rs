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
mod tests;
