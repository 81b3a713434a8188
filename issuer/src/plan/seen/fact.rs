//! The seventh fact of a certificate on a host, and the sightings that it is made of.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, Generation, HostName, v1};

use super::{
    sighting::Shown,
    trust::{Look, Looks},
    verdict::{Known, Whose, covers, desired},
};
use crate::plan::facts::FleetFacts;
use v1::ListenerState;

/// Everything that `status` says of what is seen from outside, worked out once for the whole fleet.
pub struct Outside<'a> {
    facts: &'a FleetFacts,
    known: Known<'a>,
    by_certificate: BTreeMap<&'a CertificateName, Vec<(Option<HostName>, Look<'a>)>>,
}

impl<'a> Outside<'a> {
    /// From the sightings that count.
    pub fn of(facts: &'a FleetFacts, looks: &Looks<'a>) -> Self {
        let known = Known::of(facts);
        let mut by_certificate: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for look in looks.trusted() {
            let host = known.host(look.spot);
            by_certificate
                .entry(&look.spot.certificate)
                .or_default()
                .push((host, look));
        }
        Self {
            facts,
            known,
            by_certificate,
        }
    }

    fn looks(
        &self,
        certificate: &CertificateName,
    ) -> impl Iterator<Item = &(Option<HostName>, Look<'a>)> {
        self.by_certificate.get(certificate).into_iter().flatten()
    }

    /// Each look at a host's addresses, of every probe.
    pub fn sightings(&self, certificate: &CertificateName, host: &HostName) -> Vec<v1::Sighting> {
        self.looks(certificate)
            .filter(|(of, _)| of.as_ref() == Some(host))
            .map(|(of, look)| super::wire::sighting(look.spot, look.sighting, of.as_ref()))
            .collect()
    }

    /// What DNS led to that is no host's of the certificate.
    pub fn elsewhere(&self, certificate: &CertificateName) -> Vec<v1::Sighting> {
        let declared = self.facts.config.certificates.get(certificate);
        self.looks(certificate)
            .filter(|(of, _)| {
                of.as_ref()
                    .is_none_or(|host| declared.is_none_or(|d| !d.hosts.contains(host)))
            })
            .map(|(of, look)| super::wire::sighting(look.spot, look.sighting, of.as_ref()))
            .collect()
    }

    /// The lowest generation over the looks at a host's addresses; none when any of them brought a stranger, another
    /// server block or no handshake. `None` when nobody looked, or nothing is issued.
    pub fn seen(&self, certificate: &CertificateName, host: &HostName) -> Option<v1::StatusServed> {
        let desired = desired(self.facts.certificates.get(certificate))?;
        let mut listeners: Vec<v1::Listener> = Vec::new();
        let mut lowest: Option<Generation> = None;
        let mut spoilt = false;
        let (mut at_ms, mut looked_ms) = (i64::MIN, i64::MIN);
        let mut leaves: Vec<&[u8]> = Vec::new();
        for (_, look) in self
            .looks(certificate)
            .filter(|(of, _)| of.as_ref() == Some(host))
        {
            at_ms = at_ms.max(look.sighting.same_since.as_millisecond());
            looked_ms = looked_ms.max(look.sighting.looked_at.as_millisecond());
            let Some((state, detail)) = self.state(certificate, look, desired, &mut lowest) else {
                continue;
            };
            let fingerprint: &[u8] = match &look.sighting.shown {
                Shown::Leaf(leaf) => &leaf.fingerprint.0,
                _ => &[],
            };
            let counts = state != ListenerState::Unprobed;
            spoilt |= counts && !matches!(state, ListenerState::Current | ListenerState::Old);
            if counts && !fingerprint.is_empty() && !leaves.contains(&fingerprint) {
                leaves.push(fingerprint);
            }
            let listener = v1::Listener {
                address: look
                    .spot
                    .address
                    .map(|address| address.to_string())
                    .unwrap_or_default(),
                name: look.spot.name.clone(),
                state: state.into(),
                fingerprint: fingerprint.to_vec(),
                detail,
                proxy_protocol: false,
            };
            if !listeners.contains(&listener) {
                listeners.push(listener);
            }
        }
        if listeners.is_empty() {
            return None;
        }
        Some(v1::StatusServed {
            generation: lowest.filter(|_| !spoilt).map(|generation| generation.0),
            at_ms,
            agent_at_ms: looked_ms,
            fingerprint: match leaves.as_slice() {
                [only] => only.to_vec(),
                _ => Vec::new(),
            },
            listeners,
        })
    }

    /// How a look counts, as a listener; `None`: not at all.
    fn state(
        &self,
        certificate: &CertificateName,
        look: &Look<'_>,
        desired: Generation,
        lowest: &mut Option<Generation>,
    ) -> Option<(ListenerState, String)> {
        let leaf = match &look.sighting.shown {
            Shown::NoSuchKey | Shown::Unresolved(_) | Shown::NoAnswer(_) => return None,
            Shown::Down(why) | Shown::NoRoute(why) => {
                return Some((ListenerState::Down, why.clone()));
            }
            Shown::Rejects => return Some((ListenerState::Rejects, String::new())),
            Shown::Leaf(leaf) => leaf,
        };
        Some(match self.known.whose(certificate, leaf) {
            Whose::Its(generation) => {
                *lowest = Some(lowest.map_or(generation, |lowest| lowest.min(generation)));
                if generation == desired {
                    (ListenerState::Current, String::new())
                } else {
                    (ListenerState::Old, format!("generation {generation}"))
                }
            }
            // A twin with another kind of key, or a certificate that shares the name: right for whoever comes there.
            Whose::Another(other) if covers(&leaf.covers, &look.spot.name) => (
                ListenerState::Unprobed,
                format!("the certificate {other}, which covers the name too"),
            ),
            Whose::Another(other) => (
                ListenerState::Stranger,
                format!("the certificate {other}, of another server block"),
            ),
            Whose::Strangers => (ListenerState::Stranger, String::new()),
        })
    }
}
