//! Sentences that several classes share: who, what comes next and when, what to type.

use certwell_proto::{CertificateName, HostName};
use jiff::Timestamp;

use super::{
    Member,
    scene::{Certificate, Scene},
};
use crate::plan::{explain, words};

/// Characters of a title, at most.
pub(super) const TITLE: usize = 160;
/// Of a cause.
pub(super) const CAUSE: usize = 480;
/// Of what comes next.
pub(super) const NEXT: usize = 320;
/// Of what is in the way of one member.
pub(super) const MEMBER: usize = 320;
/// Names in one sentence.
const NAMES: usize = 4;

/// No more than `most` characters, cut between two of them; on one line.
pub(super) fn cut(text: &str, most: usize) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    let line = line.trim_end_matches(',');
    if line.chars().count() <= most {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// "sally", "esme and sally", "cdn-1, cdn-2, esme, sally and 7 more".
pub(super) fn names<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let mut all: Vec<String> = all.into_iter().map(|name| name.to_string()).collect();
    all.dedup();
    let more = all.len().saturating_sub(NAMES);
    if more > 1 {
        all.truncate(NAMES);
        all.push(format!("{} more", more));
    }
    words::list(all)
}

/// Names of the members' hosts.
pub(super) fn hosts(members: &[Member]) -> String {
    let mut hosts: Vec<&HostName> = members.iter().filter_map(|m| m.host.as_ref()).collect();
    hosts.sort();
    hosts.dedup();
    names(hosts)
}

/// What certwell does next about a certificate by itself, and when.
pub(super) fn next(scene: &Scene<'_>, certificate: &Certificate<'_>) -> String {
    let told = explain::next(
        scene.facts,
        certificate.name,
        certificate.declared,
        certificate.known,
        scene.now,
    );
    let name = certificate.name;
    let (now, told) = match told.strip_prefix("Next: ") {
        Some(told) => ("", told),
        None => {
            let told = told.strip_prefix("Now").unwrap_or(&told);
            ("now ", told.trim_start_matches([',', ':', ' ']))
        }
    };
    let sentence = match told.strip_prefix("it ") {
        Some(rest) => format!("{name} {rest}"),
        None => format!("{name}: {now}{told}"),
    };
    full_stop(cut(&sentence, NEXT))
}

/// Ends with one full stop, question mark or ellipsis.
pub(super) fn full_stop(sentence: String) -> String {
    let stem = sentence.trim_end_matches(['.', ',', ' ']);
    if stem.ends_with(['?', '!', '…']) {
        stem.to_owned()
    } else {
        format!("{stem}.")
    }
}

/// The first letter a capital one; names stay as they are written.
pub(super) fn sentence(text: &str) -> String {
    full_stop(text.to_owned())
}

/// "2026-11-24 13:14:09 UTC (in 3 hours)".
pub(super) fn at(at: Timestamp, now: Timestamp) -> String {
    words::dated(at, now)
}

/// What is in an agent's way on its host, and how to mend it.
pub(super) fn doctor(host: &HostName) -> String {
    format!("ssh {host} certwell-agent doctor")
}

/// Tries at once, and shows each step.
pub(super) fn renew(name: &CertificateName) -> String {
    format!("certwell certificates renew {name} --wait")
}
