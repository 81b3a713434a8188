//! What somebody should know, as a pure function of what is known: facts and `now` in, a set of alerts out.
//!
//! An alert is one cause, on however many hosts: four hosts that lack the same generation are one alert with four
//! members. What is told, when, and to whom is decided elsewhere, from the difference of two sets.
//!
//! ```text
//! class     the classes, and how much an alert presses
//! scene     each certificate on each of its hosts, as every class looks at it
//! age       fractions of a life
//! text      sentences that classes share
//! unseen    which open ones nobody has looked at since
//! expiry, install, lagging, hosts, orders, seen, dns, issuer, unmanaged   the classes, a group in each
//! ```

mod age;
pub mod class;
mod dns;
mod expiry;
mod hosts;
mod install;
mod issuer;
mod lagging;
mod orders;
mod scene;
mod seen;
mod text;
mod unmanaged;
mod unseen;

use std::net::SocketAddr;

use certwell_proto::{CertificateName, HostName};
use jiff::Timestamp;

use self::scene::Scene;
use super::facts::FleetFacts;

pub use certwell_notice::Severity;
pub use class::Class;
pub use unseen::{is_of_looks, unseen};

/// Which cause: what makes two alerts the same one, seen at two instants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its class.
    pub class: Class,
    /// What it is about within its class: a certificate's or an authority's name; empty where there is only one.
    pub subject: String,
}

/// One cause, whichever and however many hosts it is on. All that a person needs is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which cause.
    pub key: Key,
    /// How much it presses now.
    pub severity: Severity,
    /// Whom it is on, by name; empty where it is on the issuer itself.
    pub members: Vec<Member>,
    /// One line: what, where.
    pub title: String,
    /// Why, in sentences.
    pub cause: String,
    /// What certwell does next and when, one sentence.
    pub next: String,
    /// The one command to run.
    pub command: String,
    /// Since when the cause has been there, where the facts tell; else whoever first sees the alert knows.
    pub since: Option<Timestamp>,
    /// The earliest end of what is served there: the nearer, the more often it is told.
    pub ends: Option<Timestamp>,
}

/// One host, one certificate, or both, that an alert is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The host; `None`: the alert is not about hosts.
    pub host: Option<HostName>,
    /// An address that is no known host's, in the place of a host.
    pub address: Option<SocketAddr>,
    /// The certificate, or `None`.
    pub certificate: Option<CertificateName>,
    /// What is in the way there, one sentence.
    pub text: String,
    /// What is served there now, "generation 6"; empty when that isn't known.
    pub served: String,
    /// When that ends.
    pub served_not_after: Option<Timestamp>,
}

/// All that is wrong at `now`, what presses most first; each cause once.
pub fn alerts(facts: &FleetFacts, now: Timestamp) -> Vec<Alert> {
    let scene = Scene::of(facts, now);
    let groups = [
        expiry::alerts,
        install::alerts,
        hosts::alerts,
        orders::alerts,
        seen::alerts,
        dns::alerts,
        issuer::alerts,
        unmanaged::alerts,
    ];
    let mut alerts: Vec<Alert> = groups.iter().flat_map(|group| group(&scene)).collect();
    alerts.sort_by(|one, other| {
        let by_end = |alert: &Alert| alert.ends.unwrap_or(Timestamp::MAX);
        other
            .severity
            .cmp(&one.severity)
            .then_with(|| by_end(one).cmp(&by_end(other)))
            .then_with(|| one.key.cmp(&other.key))
    });
    alerts
}
