//! `certwell explain NAME`: plain sentences about one certificate, in reading order.
//!
//! What is desired, what is issued, what each host has, what is in the way, what happens next and when.

use certwell_proto::{CertificateName, HostName, v1};
use jiff::Timestamp;

use super::{
    facts::{CertificateFacts, FleetFacts, OrderStage},
    judge::{self, Judged, judge},
    recover,
    seen::{self, addresses::is_behind_others, fact::Outside, trust::Looks},
    words,
};
use crate::config;
use v1::{HostState, ListenerState};

/// The sentences about `name`; `None` when no file declares it.
pub fn explain(facts: &FleetFacts, name: &CertificateName, now: Timestamp) -> Option<Vec<String>> {
    let declared = facts.config.certificates.get(name)?;
    let nothing = CertificateFacts::default();
    let known = facts.certificates.get(name).unwrap_or(&nothing);
    let judged: Vec<(&HostName, Judged)> = declared
        .hosts
        .iter()
        .map(|host| (host, judge(facts, name, known, host, now)))
        .collect();
    let mut sentences = vec![desired(name, declared), issued(name, declared, known, now)];
    sentences.extend(whole(known, &judged));
    let looks = Looks::fresh(facts, now);
    let outside = Outside::of(facts, &looks);
    for (host, judged) in &judged {
        sentences.push(about_host(host, judged, known, now));
        sentences.extend(seen::sentence(&outside, name, host, now));
    }
    if !declared.probe_dns {
        sentences.push(
            "Where public DNS leads isn't looked at: probe-dns = false in its table".to_owned(),
        );
        let hosts = declared.hosts.iter();
        sentences.extend(hosts.filter(|host| is_behind_others(facts, host)).map(|host| {
            format!(
                "Nobody looks at {host} from outside: all that it reports stands behind something else; write its \
                 addresses in [host.{host}]"
            )
        }));
    }
    let found = seen::findings(facts, now).into_iter();
    sentences.extend(
        found
            .filter(|finding| finding.certificate == *name)
            .map(|finding| {
                let since = words::relative(finding.since, now);
                format!("Wrong from outside since {since}: {}", finding.text)
            }),
    );
    if let Some(problem) = &known.order.problem {
        sentences.push(format!("In the way of the next issuance: {problem}."));
    }
    if let Some(problem) = &facts.config_problem {
        sentences.push(format!(
            "A newer edit of the configuration is refused, so all this is by the last good one: {problem}."
        ));
    }
    if let Some(reason) = recover::reason(facts, name, known) {
        sentences.push(format!("After a restore: {reason}."));
    }
    sentences.push(next(facts, name, declared, known, now));
    Some(sentences.into_iter().map(one_full_stop).collect())
}

/// Sentences are put together from problems that may bring their own full stop, or a question mark.
fn one_full_stop(sentence: String) -> String {
    let stem = sentence.trim_end_matches('.');
    if stem.ends_with(['?', '!']) {
        stem.to_owned()
    } else {
        format!("{stem}.")
    }
}

fn desired(name: &CertificateName, declared: &config::Certificate) -> String {
    let identifiers: Vec<String> = declared
        .identifiers
        .iter()
        .map(ToString::to_string)
        .collect();
    let covers = if identifiers == [name.as_str()] {
        format!("{name} is wanted on")
    } else {
        format!(
            "{name} covers {}; it is wanted on",
            words::list(identifiers)
        )
    };
    match declared.hosts.len() {
        0 => format!("{covers} no host"),
        1 => format!("{covers} {}", words::list(&declared.hosts)),
        n => format!("{covers} {n} hosts: {}", words::list(&declared.hosts)),
    }
}

fn issued(
    name: &CertificateName,
    declared: &config::Certificate,
    known: &CertificateFacts,
    now: Timestamp,
) -> String {
    let Some(issued) = &known.issued else {
        return format!(
            "Nothing is issued yet; {} is asked for it",
            authorities(declared)
        );
    };
    let ends = if issued.not_after <= now {
        format!("expired {}", words::dated(issued.not_after, now))
    } else {
        format!(
            "is valid until {}, for another {}",
            words::instant(issued.not_after),
            words::span(issued.not_after.as_second() - now.as_second())
        )
    };
    let mut text = format!(
        "Generation {} was issued by {} on {} and {ends}",
        issued.generation,
        issued.authority,
        words::dated(issued.at, now)
    );
    let sorted = |identifiers: &[certwell_proto::Identifier]| {
        let mut sorted = identifiers.to_vec();
        sorted.sort();
        sorted
    };
    if sorted(&issued.identifiers) != sorted(&declared.identifiers) {
        text.push_str(&format!(
            "; it covers {}, so the next generation of {name} will differ",
            words::list(&issued.identifiers)
        ));
    }
    text
}

fn authorities(declared: &config::Certificate) -> String {
    match declared.authorities.as_slice() {
        [] => "no authority".to_owned(),
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} (or else {})", words::list(rest)),
    }
}

/// How many hosts are there already; nothing for one host or none, whose own sentence says it.
fn whole(known: &CertificateFacts, judged: &[(&HostName, Judged)]) -> Option<String> {
    let issued = known.issued.as_ref()?;
    let converged = judged
        .iter()
        .filter(|(_, j)| j.state == HostState::Converged)
        .count();
    (judged.len() > 1).then(|| {
        if converged == judged.len() {
            format!(
                "All {converged} hosts serve generation {}",
                issued.generation
            )
        } else {
            format!(
                "{converged} of {} hosts serve generation {} on all their listeners",
                judged.len(),
                issued.generation
            )
        }
    })
}

fn about_host(
    host: &HostName,
    judged: &Judged,
    known: &CertificateFacts,
    now: Timestamp,
) -> String {
    let state = match judged.state {
        HostState::Converged => "converged",
        HostState::Held => "held",
        HostState::Failed => "failed",
        HostState::Silent => "silent",
        HostState::Pending | HostState::Unspecified => "pending",
    };
    let facts = known.observations.get(host).map(|o| &o.facts);
    let mut parts = vec![serves(judged, now)];
    if judged.state != HostState::Converged
        && let Some(last) = facts.and_then(furthest)
    {
        parts.push(last);
    }
    parts.extend(judged.problem.clone());
    format!("{host} is {state}: {}", parts.join("; "))
}

fn serves(judged: &Judged, now: Timestamp) -> String {
    let Some(served) = &judged.served else {
        return "what it serves is not known".to_owned();
    };
    let since = words::relative(words::from_millis(served.at_ms), now);
    let number = served.listeners.len();
    let current = served
        .listeners
        .iter()
        .filter(|l| l.state() == ListenerState::Current)
        .count();
    match served.generation {
        Some(generation) if current == number && number > 0 => {
            let listeners = match number {
                1 => "its only listener".to_owned(),
                n => format!("all {n} listeners"),
            };
            format!("it serves generation {generation} on {listeners} (first proven {since})")
        }
        Some(generation) => format!(
            "it serves generation {generation}, {current} of its {} up to date (first proven {since})",
            words::count(number, "listener")
        ),
        None if number == 0 => {
            format!("no nginx listener there was seen to use it (first said {since})")
        }
        None => format!(
            "it serves no generation on all of its {} (first seen {since})",
            words::count(number, "listener")
        ),
    }
}

/// The last fact that its newest generation has reached.
fn furthest(facts: &v1::HostCertificateStatus) -> Option<String> {
    let stages = [
        ("fetched", facts.fetched.as_ref()),
        ("installed", facts.installed.as_ref()),
        ("tested", facts.tested.as_ref()),
        ("reloaded", facts.reloaded.as_ref()),
    ];
    let newest = stages
        .iter()
        .filter_map(|(_, fact)| fact.map(|f| f.generation))
        .max()?;
    let (stage, _) = stages
        .iter()
        .rfind(|(_, fact)| fact.is_some_and(|f| f.generation == newest))?;
    (newest > 0).then(|| format!("it has {stage} generation {newest}"))
}

/// What happens next of itself and when, as "Next: …" or "Now: …".
pub(super) fn next(
    facts: &FleetFacts,
    name: &CertificateName,
    declared: &config::Certificate,
    known: &CertificateFacts,
    now: Timestamp,
) -> String {
    let authority = authorities(declared);
    let forgotten = recover::reason(facts, name, known).is_some();
    if let Some(paused) = judge::paused(facts, name, known).filter(|_| !forgotten) {
        return format!("Next: nothing by itself, {paused}");
    }
    match known.order.stage {
        OrderStage::Idle => match (known.order.next_at, &known.issued) {
            (Some(at), Some(issued)) if at > now => {
                let on = words::dated(at, now);
                // Who reads it after an edit sees that it was taken up.
                match declared.authorities.contains(&issued.authority) {
                    true => format!("Next: it is renewed on {on}"),
                    false => format!("Next: it is renewed on {on}, by {authority}"),
                }
            }
            (Some(at), None) if at > now => {
                format!("Next: it is ordered on {}", words::dated(at, now))
            }
            (Some(_), _) => "Next: it is due, and is ordered at once".to_owned(),
            (None, _) => "Next: no issuance is planned".to_owned(),
        },
        OrderStage::Preflight => preflight(facts, declared),
        OrderStage::Ordered(generation) => {
            format!("Now: generation {generation} is ordered from {authority}")
        }
        OrderStage::Challenge(generation) => format!(
            "Now: {authority} validates generation {generation}, asking {} for the challenge",
            words::list(&declared.identifiers)
        ),
        OrderStage::Finalizing(generation) => {
            format!("Now: {authority} has validated, and signs generation {generation}")
        }
        OrderStage::Waiting => {
            let after = match known.order.failures {
                0 => String::new(),
                1 => ", after one failure".to_owned(),
                n => format!(", after {n} failures in a row"),
            };
            match known.order.next_at {
                Some(at) if at > now => {
                    format!(
                        "Next: it is tried again on {}{after}",
                        words::dated(at, now)
                    )
                }
                Some(_) => format!("Next: it is tried again at once{after}"),
                None => format!("Next: it is tried again when what is in the way changes{after}"),
            }
        }
    }
}

fn preflight(facts: &FleetFacts, declared: &config::Certificate) -> String {
    let silent: Vec<&HostName> = declared
        .challenge_hosts
        .iter()
        .filter(|host| !facts.hosts.get(*host).is_some_and(|h| h.connected))
        .collect();
    let asked = format!(
        "Now, before an order: {} must show that their nginx would answer the CA",
        words::list(&declared.challenge_hosts)
    );
    if silent.is_empty() {
        asked
    } else {
        format!(
            "{asked}; not connected, so not heard: {}",
            words::list(silent)
        )
    }
}
