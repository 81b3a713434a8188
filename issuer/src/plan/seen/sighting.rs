//! What one look brought, and what every probe has seen so far.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use certwell_proto::{CertificateName, Fingerprint, HostName, Identifier};
use jiff::Timestamp;

use super::findings::Kind;

/// Kinds of key, looked at apart: a server may have a leaf of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Only ECDSA signatures were offered.
    Ecdsa,
    /// Only RSA signatures were offered.
    Rsa,
}

impl Key {
    /// As people write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
        }
    }
}

/// Where a look went: what makes two sightings of different rounds the same place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The certificate that should be there.
    pub certificate: CertificateName,
    /// As sent in SNI, or the address of an IP identifier.
    pub name: String,
    /// The host whose address it is; `None`: public DNS led there.
    pub host: Option<HostName>,
    /// `None`: DNS gave none.
    pub address: Option<SocketAddr>,
    /// Of which kind of key a leaf was asked for.
    pub key: Key,
}

/// What one look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What was seen.
    pub shown: Shown,
    /// What the URL answered there, if one was asked for.
    pub url: Option<UrlAnswer>,
    /// The probe's clock.
    pub looked_at: Timestamp,
    /// The issuer's receipt time.
    pub at: Timestamp,
    /// Since when it has shown the same, by the issuer's receipt times.
    pub same_since: Timestamp,
    /// Since when each fault that it shows has been there.
    pub since: BTreeMap<Kind, Timestamp>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A handshake came about.
    Leaf(SeenLeaf),
    /// None came about: why.
    Down(String),
    /// The probe has no route there: why.
    NoRoute(String),
    /// It answers, and refuses this name by intent.
    Rejects,
    /// It answers, and has a leaf of another kind of key only.
    NoSuchKey,
    /// DNS says that there is no address: how.
    Unresolved(String),
    /// None of the probe's resolvers answered: why.
    NoAnswer(String),
}

/// A leaf as it was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLeaf {
    /// Of its DER.
    pub fingerprint: Fingerprint,
    /// First instant of its validity.
    pub not_before: Timestamp,
    /// Last instant of its validity.
    pub not_after: Timestamp,
    /// What it covers.
    pub covers: Vec<Identifier>,
    /// "TLSv1.3".
    pub tls_version: String,
    /// Why its chain isn't right for this name and instant; `None` when it is.
    pub chain_problem: Option<String>,
}

/// What a URL answered at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlAnswer {
    /// The URL.
    pub url: String,
    /// The status; `None` without an answer.
    pub status: Option<u16>,
    /// Its Content-Type, empty when there is none.
    pub content_type: String,
    /// Why this isn't what was expected; `None` when it is.
    pub problem: Option<String>,
}

/// What one probe has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// When its newest round was received.
    pub at: Timestamp,
    /// From one round to the next, at most.
    pub every: Duration,
    /// Rounds since the issuer started.
    pub rounds: u64,
    /// The newest of each place.
    pub seen: BTreeMap<Spot, Sighting>,
}

/// What every probe has seen since the issuer started: the issuer's own under `None`, an agent's under its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sightings {
    /// When the issuer started.
    pub since: Timestamp,
    /// By probe.
    pub probes: BTreeMap<Option<HostName>, Probe>,
}

impl Sightings {
    /// Nothing yet.
    pub fn none(since: Timestamp) -> Self {
        Self {
            since,
            probes: BTreeMap::new(),
        }
    }

    /// Whether the issuer itself has looked at everything once since it started: before that, that something isn't
    /// seen means nothing.
    pub fn first_round_is_over(&self) -> bool {
        self.probes.get(&None).is_some_and(|own| own.rounds > 0)
    }
}
