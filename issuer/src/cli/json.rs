//! The JSON that scripts rely on: version 1, described in docs/cli.md. Fields are added, never changed or taken.

use certwell_proto::{fingerprint::hex, v1};
use serde::Serialize;

use super::screen::state_word;
use crate::plan::words::{from_millis, from_seconds, kind_word};

/// The version of every document below.
const VERSION: u32 = 1;

/// A document: its version, then what it holds.
#[derive(Debug, Serialize)]
pub(super) struct Document<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

impl<T> Document<T> {
    pub(super) fn new(content: T) -> Self {
        Self {
            version: VERSION,
            content,
        }
    }
}

/// `certwell status --json`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    certificates: Vec<Certificate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<Recovery>,
}

/// After a restore, until hosts have reported.
#[derive(Debug, Serialize)]
pub(super) struct Recovery {
    since: String,
    hosts: u32,
    reported: u32,
}

/// A certificate with its hosts.
#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    name: String,
    identifiers: Vec<String>,
    generation: u64,
    not_after: Option<String>,
    hosts: Vec<Host>,
    probe_dns: bool,
    elsewhere: Vec<Sighting>,
    findings: Vec<Finding>,
}

/// A host of a certificate.
#[derive(Debug, Serialize)]
pub(super) struct Host {
    host: String,
    state: &'static str,
    facts: Facts,
    problem: Option<String>,
    sightings: Vec<Sighting>,
}

/// What one look from outside brought.
#[derive(Debug, Serialize)]
pub(super) struct Sighting {
    name: String,
    host: Option<String>,
    by_dns: bool,
    address: Option<String>,
    key: &'static str,
    state: &'static str,
    fingerprint: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    tls_version: Option<String>,
    chain_problem: Option<String>,
    detail: Option<String>,
    at: String,
    url: Option<Url>,
}

#[derive(Debug, Serialize)]
pub(super) struct Url {
    url: String,
    status: Option<u32>,
    content_type: Option<String>,
    problem: Option<String>,
}

/// Something that is wrong when looked at from outside.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    kind: &'static str,
    host: Option<String>,
    address: Option<String>,
    name: String,
    text: String,
    since: String,
    not_after: Option<String>,
}

/// The seven facts; null for what hasn't happened.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    desired: Option<Fact>,
    fetched: Option<Fact>,
    installed: Option<Fact>,
    tested: Option<Fact>,
    reloaded: Option<Fact>,
    served: Option<Served>,
    seen: Option<Served>,
}

#[derive(Debug, Serialize)]
pub(super) struct Fact {
    generation: u64,
    at: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Served {
    generation: Option<u64>,
    at: String,
    fingerprint: Option<String>,
    listeners: Vec<Listener>,
}

#[derive(Debug, Serialize)]
pub(super) struct Listener {
    address: String,
    name: String,
    state: &'static str,
    fingerprint: Option<String>,
}

/// `certwell certificates list|show --json`: as in the status, and what is known of its next issuance.
#[derive(Debug, Serialize)]
pub(super) struct CertificateDetail {
    #[serde(flatten)]
    certificate: Certificate,
    authority: Option<String>,
    renew_at: Option<String>,
    paused: bool,
    problem: Option<String>,
}

/// `certwell hosts list|show --json`.
#[derive(Debug, Serialize)]
pub(super) struct HostDetail {
    name: String,
    labels: Vec<String>,
    life: &'static str,
    connected: bool,
    last_seen: Option<String>,
    identity_not_after: Option<String>,
    info: Option<Info>,
    certificates: Vec<String>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Info {
    hostname: String,
    os: String,
    agent_version: String,
    nginx_version: Option<String>,
}

/// One line of `certwell events --json`.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    id: u64,
    at: String,
    kind: &'static str,
    certificate: Option<String>,
    host: Option<String>,
    generation: Option<u64>,
    text: String,
}

impl From<v1::StatusResponse> for Status {
    fn from(status: v1::StatusResponse) -> Self {
        Self {
            certificates: status
                .certificates
                .into_iter()
                .map(Certificate::from)
                .collect(),
            recovery: status.recovery.map(|recovery| Recovery {
                since: millis(recovery.since_ms),
                hosts: recovery.hosts,
                reported: recovery.reported,
            }),
        }
    }
}

impl From<v1::CertificateStatus> for Certificate {
    fn from(status: v1::CertificateStatus) -> Self {
        Self {
            name: status.name,
            identifiers: status.identifiers,
            generation: status.generation,
            not_after: status.not_after.map(seconds),
            hosts: status.hosts.into_iter().map(Host::from).collect(),
            probe_dns: !status.ignores_dns,
            elsewhere: status.elsewhere.into_iter().map(Sighting::from).collect(),
            findings: status.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl From<v1::HostCertificateStatus> for Host {
    fn from(status: v1::HostCertificateStatus) -> Self {
        let state = state_word(status.state());
        Self {
            host: status.host,
            state,
            facts: Facts {
                desired: status.desired.map(Fact::from),
                fetched: status.fetched.map(Fact::from),
                installed: status.installed.map(Fact::from),
                tested: status.tested.map(Fact::from),
                reloaded: status.reloaded.map(Fact::from),
                served: status.served.map(Served::from),
                seen: status.seen.map(Served::from),
            },
            problem: text(status.problem),
            sightings: status.sightings.into_iter().map(Sighting::from).collect(),
        }
    }
}

impl From<v1::Sighting> for Sighting {
    fn from(sighting: v1::Sighting) -> Self {
        let (key, state) = (key_word(sighting.key()), sighting_word(sighting.state()));
        let is_leaf = sighting.state() == v1::SightingState::Leaf;
        Self {
            name: sighting.name,
            host: text(sighting.host),
            by_dns: sighting.by_dns,
            address: text(sighting.address),
            key,
            state,
            fingerprint: fingerprint(&sighting.fingerprint),
            not_before: is_leaf.then(|| seconds(sighting.not_before)),
            not_after: is_leaf.then(|| seconds(sighting.not_after)),
            tls_version: text(sighting.tls_version),
            chain_problem: text(sighting.chain_problem),
            detail: text(sighting.detail),
            at: millis(sighting.at_ms),
            url: sighting.url.map(|url| Url {
                url: url.url,
                status: Some(url.status).filter(|status| *status > 0),
                content_type: text(url.content_type),
                problem: text(url.problem),
            }),
        }
    }
}

impl From<v1::Finding> for Finding {
    fn from(finding: v1::Finding) -> Self {
        Self {
            kind: finding_word(finding.kind()),
            host: text(finding.host),
            address: text(finding.address),
            name: finding.name,
            text: finding.text,
            since: millis(finding.since_ms),
            not_after: finding.not_after.map(seconds),
        }
    }
}

impl From<v1::StatusFact> for Fact {
    fn from(fact: v1::StatusFact) -> Self {
        Self {
            generation: fact.generation,
            at: millis(fact.at_ms),
        }
    }
}

impl From<v1::StatusServed> for Served {
    fn from(served: v1::StatusServed) -> Self {
        Self {
            generation: served.generation,
            at: millis(served.at_ms),
            fingerprint: fingerprint(&served.fingerprint),
            listeners: served.listeners.into_iter().map(Listener::from).collect(),
        }
    }
}

impl From<v1::Listener> for Listener {
    fn from(listener: v1::Listener) -> Self {
        let state = listener_word(listener.state());
        Self {
            state,
            fingerprint: fingerprint(&listener.fingerprint),
            address: listener.address,
            name: listener.name,
        }
    }
}

impl From<v1::CertificateStatus> for CertificateDetail {
    fn from(mut status: v1::CertificateStatus) -> Self {
        Self {
            authority: text(std::mem::take(&mut status.authority)),
            renew_at: status.renew_at_ms.map(millis),
            paused: status.paused,
            problem: text(std::mem::take(&mut status.problem)),
            certificate: status.into(),
        }
    }
}

impl From<v1::HostStatus> for HostDetail {
    fn from(host: v1::HostStatus) -> Self {
        let life = life_word(host.life());
        Self {
            name: host.name,
            labels: host.labels,
            life,
            connected: host.connected,
            last_seen: host.last_seen_ms.map(millis),
            identity_not_after: host.identity_not_after.map(seconds),
            info: host.info.map(|info| Info {
                hostname: info.hostname,
                os: info.os,
                agent_version: info.agent_version,
                nginx_version: text(info.nginx_version),
            }),
            certificates: host.certificates,
            problem: text(host.problem),
        }
    }
}

impl From<v1::Event> for Event {
    fn from(event: v1::Event) -> Self {
        let kind = kind_word(event.kind());
        Self {
            id: event.id,
            at: millis(event.at_ms),
            kind,
            certificate: text(event.certificate),
            host: text(event.host),
            generation: Some(event.generation).filter(|generation| *generation > 0),
            text: event.text,
        }
    }
}

/// RFC 3339, in UTC, of seconds since the Unix epoch.
pub(super) fn seconds(seconds: i64) -> String {
    from_seconds(seconds).to_string()
}

/// RFC 3339, in UTC, of milliseconds since the Unix epoch.
pub(super) fn millis(milliseconds: i64) -> String {
    from_millis(milliseconds).to_string()
}

/// An empty text is none.
pub(super) fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn fingerprint(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| hex(bytes))
}

/// The word for a listener's state.
pub(super) fn listener_word(state: v1::ListenerState) -> &'static str {
    use v1::ListenerState as State;
    match state {
        State::Current => "current",
        State::Old => "old",
        State::Stranger => "stranger",
        State::Down => "down",
        State::Rejects => "rejects",
        State::Elsewhere => "elsewhere",
        State::Unprobed | State::Unspecified => "unprobed",
    }
}

/// The word for a kind of key.
pub(super) fn key_word(key: v1::KeyAlgorithm) -> &'static str {
    match key {
        v1::KeyAlgorithm::Rsa => "rsa",
        v1::KeyAlgorithm::Ecdsa | v1::KeyAlgorithm::Unspecified => "ecdsa",
    }
}

fn sighting_word(state: v1::SightingState) -> &'static str {
    use v1::SightingState as State;
    match state {
        State::Leaf => "leaf",
        State::Down | State::Unspecified => "down",
        State::Rejects => "rejects",
        State::NoSuchKey => "no-such-key",
        State::Unresolved => "unresolved",
    }
}

fn finding_word(kind: v1::FindingKind) -> &'static str {
    use v1::FindingKind as Kind;
    match kind {
        Kind::OtherGeneration => "other-generation",
        Kind::Stranger => "stranger",
        Kind::LeadsElsewhere => "leads-elsewhere",
        Kind::OtherVhost => "other-vhost",
        Kind::Chain => "chain",
        Kind::Down | Kind::Unspecified => "down",
        Kind::Unresolved => "unresolved",
        Kind::Url => "url",
    }
}

/// The word for the part that a host plays.
pub(super) fn life_word(life: v1::HostLife) -> &'static str {
    match life {
        v1::HostLife::Enrolled => "enrolled",
        v1::HostLife::Revoked => "revoked",
        v1::HostLife::Retired => "retired",
        v1::HostLife::Declared | v1::HostLife::Unspecified => "declared",
    }
}
