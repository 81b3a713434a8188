//! The one thing that matters, from a status: the worst problem, or that all is well.

use certwell_proto::v1;
use jiff::Timestamp;

use super::words;
use v1::HostState;

/// The first line of `certwell status`, and what its exit code says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// One sentence without a full stop.
    pub text: String,
    /// Every host of every certificate converged, on a certificate that is valid now.
    pub converged: bool,
}

/// How bad something is; the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Expired,
    Failed,
    Unissued,
    Silent,
    Held,
    Pending,
    /// Seen from outside, and not by the host itself.
    Seen,
    /// In the way of something to come; all is served well now.
    Ahead,
}

/// The headline of a whole status.
pub fn headline(status: &v1::StatusResponse, now: Timestamp) -> Headline {
    let certificates: Vec<&v1::CertificateStatus> = status.certificates.iter().collect();
    summary(&certificates, &status.problems, now)
}

/// The headline of one certificate.
pub fn of_certificate(certificate: &v1::CertificateStatus, now: Timestamp) -> Headline {
    summary(&[certificate], &[], now)
}

fn summary(
    certificates: &[&v1::CertificateStatus],
    problems: &[String],
    now: Timestamp,
) -> Headline {
    let mut faults: Vec<(Weight, String)> = certificates
        .iter()
        .flat_map(|certificate| faults(certificate, now))
        .collect();
    // What a host serves is judged by itself: a name may lead elsewhere while every host does what it should.
    let converged = faults.iter().all(|(weight, _)| *weight >= Weight::Seen);
    faults.extend(
        problems
            .iter()
            .map(|problem| (Weight::Ahead, problem.clone())),
    );
    // Stable: of equal weight the first certificate and host go first.
    faults.sort_by_key(|(weight, _)| *weight);
    let text = match faults.first() {
        Some((_, worst)) if faults.len() > 1 => {
            format!(
                "{} (and {})",
                worst,
                words::count(faults.len() - 1, "more problem")
            )
        }
        Some((_, worst)) => worst.clone(),
        None => well(certificates, now),
    };
    Headline { text, converged }
}

fn faults(certificate: &v1::CertificateStatus, now: Timestamp) -> Vec<(Weight, String)> {
    let name = &certificate.name;
    let mut faults = Vec::new();
    let expired = |seconds: Option<i64>| seconds.is_some_and(|s| s <= now.as_second());
    if certificate.generation == 0 {
        let why = if certificate.problem.is_empty() {
            format!("{name}: nothing is issued yet")
        } else {
            format!("{name}: nothing is issued yet: {}", certificate.problem)
        };
        faults.push((Weight::Unissued, why));
    } else if !certificate.problem.is_empty() {
        let weight = if expired(certificate.not_after) {
            Weight::Expired
        } else {
            Weight::Ahead
        };
        faults.push((weight, about(name, &certificate.problem)));
    } else if expired(certificate.not_after) {
        faults.push((
            Weight::Expired,
            format!("{name}: generation {} expired", certificate.generation),
        ));
    }
    for host in &certificate.hosts {
        let weight = if expired(host.served_not_after) {
            Weight::Expired
        } else {
            match host.state() {
                HostState::Converged if host.problem.is_empty() => continue,
                HostState::Converged => Weight::Ahead,
                HostState::Failed => Weight::Failed,
                HostState::Silent => Weight::Silent,
                HostState::Held => Weight::Held,
                // That nothing is issued is said once, not for each host.
                _ if certificate.generation == 0 && host.problem.is_empty() => continue,
                HostState::Pending | HostState::Unspecified => Weight::Pending,
            }
        };
        let why = if host.problem.is_empty() {
            format!(
                "{} does not serve generation {} yet",
                host.host, certificate.generation
            )
        } else {
            host.problem.clone()
        };
        faults.push((weight, about(name, &why)));
    }
    // The worst kind first.
    let found = certificate.findings.iter();
    faults.extend(found.map(|finding| (Weight::Seen, about(name, &finding.text))));
    faults
}

fn about(name: &str, problem: &str) -> String {
    if problem.contains(name) {
        problem.to_owned()
    } else {
        format!("{name}: {problem}")
    }
}

fn well(certificates: &[&v1::CertificateStatus], now: Timestamp) -> String {
    let left = |certificate: &v1::CertificateStatus| {
        let seconds = certificate.not_after.unwrap_or_default() - now.as_second();
        words::span(seconds)
    };
    match certificates {
        [] => "no certificate is declared; add a [certificate.\"NAME\"] table to the configuration"
            .to_owned(),
        [one] if one.hosts.is_empty() => {
            format!(
                "no host is to serve {} generation {}",
                one.name, one.generation
            )
        }
        [one] => {
            let who = match one.hosts.as_slice() {
                [host] => format!("{} serves", host.host),
                hosts => format!("all {} hosts serve", hosts.len()),
            };
            format!(
                "{who} {} generation {}, valid for {}",
                one.name,
                one.generation,
                left(one)
            )
        }
        many => {
            let mut hosts: Vec<&str> = many
                .iter()
                .flat_map(|c| &c.hosts)
                .map(|h| h.host.as_str())
                .collect();
            hosts.sort_unstable();
            hosts.dedup();
            let first = many.iter().min_by_key(|c| c.not_after);
            let ends = first.map_or(String::new(), |c| {
                format!("; the first to end is {}, valid for {}", c.name, left(c))
            });
            let who = match hosts.as_slice() {
                [host] => format!("{host} serves"),
                hosts => format!("all {} hosts serve", hosts.len()),
            };
            format!(
                "{who} what they should of {}{ends}",
                words::count(many.len(), "certificate")
            )
        }
    }
}
