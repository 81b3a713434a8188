//! `certwell status --json` and `certwell events --json`, read as a script would: the documented form, and nothing else.

use serde::Deserialize;

/// The whole document.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// 1.
    pub version: u32,
    /// Every declared certificate.
    pub certificates: Vec<CertificateStatus>,
}

/// One certificate.
#[derive(Debug, Clone, Deserialize)]
pub struct CertificateStatus {
    /// Its name.
    pub name: String,
    /// What it covers.
    pub identifiers: Vec<String>,
    /// Of the newest issued bundle; 0 for none.
    pub generation: u64,
    /// RFC 3339.
    pub not_after: Option<String>,
    /// Every host that needs it.
    pub hosts: Vec<HostStatus>,
    /// What is wrong from outside.
    pub findings: Vec<Finding>,
}

/// One certificate on one host.
#[derive(Debug, Clone, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// converged, pending, held, failed, silent.
    pub state: String,
    /// The seven facts.
    pub facts: Facts,
    /// One sentence.
    pub problem: Option<String>,
    /// Each look from outside.
    pub sightings: Vec<Sighting>,
}

/// Something that is wrong from outside.
#[derive(Debug, Clone, Deserialize)]
pub struct Finding {
    /// In one word.
    pub kind: String,
    /// Where, if that is known.
    pub host: Option<String>,
    /// One sentence.
    pub text: String,
}

/// One look from outside.
#[derive(Debug, Clone, Deserialize)]
pub struct Sighting {
    /// Whether DNS led there.
    pub by_dns: bool,
    /// `address:port`.
    pub address: Option<String>,
    /// In one word.
    pub state: String,
    /// What is wrong with the chain.
    pub chain_problem: Option<String>,
    /// What the URL answered.
    pub url: Option<UrlAnswer>,
}

/// What a URL answered.
#[derive(Debug, Clone, Deserialize)]
pub struct UrlAnswer {
    /// Its status.
    pub status: Option<u16>,
    /// Why it isn't right.
    pub problem: Option<String>,
}

/// Null until it has happened.
#[derive(Debug, Clone, Deserialize)]
pub struct Facts {
    /// What the host should have.
    pub desired: Option<Fact>,
    /// Drawn from the issuer.
    pub fetched: Option<Fact>,
    /// Linked at its place.
    pub installed: Option<Fact>,
    /// `nginx -t` passed.
    pub tested: Option<Fact>,
    /// New workers run.
    pub reloaded: Option<Fact>,
    /// By the agent's handshakes.
    pub served: Option<ServedFact>,
    /// By the issuer's handshake.
    pub seen: Option<ServedFact>,
}

/// A generation and when.
#[derive(Debug, Clone, Deserialize)]
pub struct Fact {
    /// Of the certificate.
    pub generation: u64,
    /// RFC 3339.
    pub at: String,
}

/// What the listeners serve.
#[derive(Debug, Clone, Deserialize)]
pub struct ServedFact {
    /// The lowest over the listeners; null when one serves a stranger.
    pub generation: Option<u64>,
    /// RFC 3339.
    pub at: String,
    /// Hex; null when the listeners differ.
    pub fingerprint: Option<String>,
    /// Each of them.
    pub listeners: Vec<ListenerStatus>,
}

/// One listener and name.
#[derive(Debug, Clone, Deserialize)]
pub struct ListenerStatus {
    /// `address:port`.
    pub address: String,
    /// SNI.
    pub name: String,
    /// In words.
    pub state: String,
    /// Hex, or null.
    pub fingerprint: Option<String>,
}

/// One line of `certwell events --json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// Rises.
    pub id: u64,
    /// RFC 3339.
    pub at: String,
    /// In one word.
    pub kind: String,
    /// What it is about.
    pub certificate: Option<String>,
    /// What it is about.
    pub host: Option<String>,
    /// What it is about.
    pub generation: Option<u64>,
    /// One sentence.
    pub text: String,
}

impl Status {
    /// The certificate of this name.
    pub fn certificate(&self, name: &str) -> Option<&CertificateStatus> {
        self.certificates
            .iter()
            .find(|certificate| certificate.name == name)
    }
}

impl CertificateStatus {
    /// This host's line.
    pub fn host(&self, name: &str) -> Option<&HostStatus> {
        self.hosts.iter().find(|host| host.host == name)
    }

    /// `host: state` of every host, for messages.
    pub fn states(&self) -> String {
        let each: Vec<String> = self
            .hosts
            .iter()
            .map(|host| {
                format!(
                    "{}: {} {}",
                    host.host,
                    host.state,
                    host.problem.as_deref().unwrap_or_default()
                )
            })
            .collect();
        format!("generation {}; {}", self.generation, each.join("; "))
    }
}
