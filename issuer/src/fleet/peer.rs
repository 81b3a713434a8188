//! Who is on the other end of a connection, and whether he still may.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{
    HostName, Leaf,
    identity::{Identity, Role, bound_key_of, issued_at},
};
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::registry::Registry;
use crate::{clock, plan::facts::FleetFacts};

/// The bearer of a client certificate of the fleet CA; verified by the TLS handshake.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who.
    pub identity: Identity,
    /// When this identity was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// SHA-256 of the host's bound key, which it names.
    pub bound_key: Option<[u8; 32]>,
}

/// What a connection knows of its other end: nobody, before a host has enrolled.
#[derive(Debug, Clone, Default)]
pub struct Caller(pub Option<Arc<Peer>>);

impl Peer {
    /// Reads a client certificate that the handshake has verified.
    ///
    /// # Errors
    /// When it carries no identity of ours.
    pub fn of_certificate(der: &[u8]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let leaf = Leaf::read(der)?;
        Ok(Self {
            identity: Identity::of_certificate(der)?,
            issued: issued_at(&leaf.serial)
                .ok_or("its serial number was not given by this issuer")?,
            not_after: leaf.not_after,
            bound_key: bound_key_of(der),
        })
    }
}

/// Which hosts may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    hosts: BTreeMap<HostName, Option<Timestamp>>,
    /// Declared, and unknown to a store that was restored from a backup: they may have enrolled after that.
    forgotten: BTreeMap<HostName, Option<Timestamp>>,
}

impl Gate {
    /// Declared, enrolled and not retired; with the instant before which identities are revoked.
    pub fn of(facts: &FleetFacts) -> Self {
        let hosts = facts
            .hosts
            .iter()
            .filter(|(name, _)| facts.config.hosts.contains_key(name))
            .filter_map(|(name, known)| {
                let record = known.record.as_ref().filter(|record| !record.retired)?;
                Some((name.clone(), record.revoked))
            })
            .collect();
        let has_record = |name: &HostName| {
            let known = facts.hosts.get(name);
            known.is_some_and(|known| known.record.is_some())
        };
        let forgotten = facts.recovery.iter().flat_map(|recovery| {
            let declared = facts.config.hosts.keys();
            declared
                .filter(|name| !has_record(name))
                .map(|name| (name.clone(), recovery.revoked.get(name).copied()))
        });
        let forgotten = forgotten.collect();
        Self { hosts, forgotten }
    }

    /// Whether he may show his bound key: whoever may call, and a host that a restored store has forgotten.
    fn check_renewal(&self, peer: &Peer, now: Timestamp) -> Result<(), Refusal> {
        match self.check(peer, now) {
            Err(Refusal::Forgotten(_)) => Ok(()),
            checked => checked,
        }
    }

    fn check(&self, peer: &Peer, now: Timestamp) -> Result<(), Refusal> {
        let host = &peer.identity.name;
        if now >= peer.not_after {
            return Err(Refusal::Expired(format!(
                "the identity of {host} expired at {}; enroll it again with a new token",
                peer.not_after
            )));
        }
        let forgotten = self
            .forgotten
            .get(host)
            .filter(|_| peer.bound_key.is_some());
        match self.hosts.get(host).or(forgotten) {
            None => Err(Refusal::Denied(format!(
                "{host} is not a host of this fleet (retired, not enrolled, or no longer declared)"
            ))),
            Some(Some(revoked)) if peer.issued <= *revoked => Err(Refusal::Denied(format!(
                "the identity of {host} was revoked at {revoked}; enroll it again with a new token"
            ))),
            Some(_) if forgotten.is_some() => Err(Refusal::Forgotten(format!(
                "the issuer was restored from a backup that does not know {host}; its agent shows its bound key, and goes on"
            ))),
            Some(_) => Ok(()),
        }
    }
}

/// Why somebody with an identity of ours is refused, one sentence.
#[derive(Debug)]
enum Refusal {
    /// It is over.
    Expired(String),
    /// It was revoked, or its host is none any more: nobody is to come with it.
    Denied(String),
    /// The store was restored, and doesn't know it; he may show his bound key.
    Forgotten(String),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired(why) => Self::unauthenticated(why),
            Refusal::Denied(why) => Self::permission_denied(why),
            Refusal::Forgotten(why) => Self::failed_precondition(why),
        }
    }
}

/// Checks every call of an agent.
#[derive(Clone)]
pub struct Doorkeeper {
    /// Who may.
    pub gate: watch::Receiver<Arc<Gate>>,
    /// Who is told of those that come all the same.
    pub registry: Registry,
}

impl Doorkeeper {
    /// The agent that calls.
    ///
    /// # Errors
    /// Unauthenticated without a client certificate or with an expired one; permission denied for another role,
    /// and for a host that is revoked, retired or unknown.
    pub fn agent<T>(&self, request: &Request<T>) -> Result<Arc<Peer>, Status> {
        let peer = self.caller(request)?;
        let checked = self.gate.borrow().check(&peer, clock::now());
        self.noted(&peer, checked)?;
        Ok(peer)
    }

    /// The agent that renews its identity: also one that a restored store has forgotten. It is to prove the bound key
    /// that its identity names.
    ///
    /// # Errors
    /// As [`Doorkeeper::agent`].
    pub fn renewing<T>(&self, request: &Request<T>) -> Result<Arc<Peer>, Status> {
        let peer = self.caller(request)?;
        let checked = self.gate.borrow().check_renewal(&peer, clock::now());
        self.noted(&peer, checked)?;
        Ok(peer)
    }

    /// Whoever comes with what was revoked is remembered.
    fn noted(&self, peer: &Peer, checked: Result<(), Refusal>) -> Result<(), Status> {
        if let Err(Refusal::Denied(why)) = &checked {
            self.registry.intruder(&peer.identity.name, why.clone());
        }
        Ok(checked?)
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Peer>, Status> {
        let peer = request
            .extensions()
            .get::<Caller>()
            .and_then(|caller| caller.0.clone())
            .ok_or_else(|| {
                Status::unauthenticated(
                    "this call needs a client certificate; enroll this host first",
                )
            })?;
        if peer.identity.role != Role::Agent {
            return Err(Status::permission_denied("this call is for agents"));
        }
        Ok(peer)
    }

    /// Whether this peer still may.
    ///
    /// # Errors
    /// When its identity expired, or its host is revoked, retired or unknown.
    pub fn check(&self, peer: &Peer) -> Result<(), Status> {
        Ok(self.gate.borrow().check(peer, clock::now())?)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn code(checked: Result<(), Refusal>) -> Result<(), Code> {
        checked.map_err(|refusal| Status::from(refusal).code())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn peer(issued: i64) -> Peer {
        Peer {
            identity: "certwell://hachyderm/agent/sally".parse().unwrap(),
            issued: at(issued),
            not_after: at(1_000),
            bound_key: Some([1; 32]),
        }
    }

    fn gate(revoked: Option<i64>) -> Gate {
        Gate {
            hosts: [("sally".parse().unwrap(), revoked.map(at))].into(),
            ..Gate::default()
        }
    }

    #[test]
    fn revocation_hits_identities_issued_before_it_only() {
        assert!(gate(None).check(&peer(10), at(20)).is_ok());
        assert_eq!(
            code(gate(Some(15)).check(&peer(10), at(20))),
            Err(Code::PermissionDenied)
        );
        assert!(gate(Some(15)).check(&peer(16), at(20)).is_ok());
    }

    #[test]
    fn a_host_that_a_restored_store_has_forgotten_may_only_show_its_bound_key_unless_it_is_revoked()
    {
        let gate = |revoked: Option<i64>| Gate {
            forgotten: [("sally".parse().unwrap(), revoked.map(at))].into(),
            ..Gate::default()
        };
        let nameless = Peer {
            bound_key: None,
            ..peer(10)
        };
        for (gate, peer, call, renewal) in [
            (gate(None), peer(10), Code::FailedPrecondition, None),
            (gate(Some(9)), peer(10), Code::FailedPrecondition, None),
            (
                gate(Some(10)),
                peer(10),
                Code::PermissionDenied,
                Some(Code::PermissionDenied),
            ),
            (
                gate(None),
                nameless,
                Code::PermissionDenied,
                Some(Code::PermissionDenied),
            ),
            (
                Gate::default(),
                peer(10),
                Code::PermissionDenied,
                Some(Code::PermissionDenied),
            ),
        ] {
            assert_eq!(code(gate.check(&peer, at(20))), Err(call));
            assert_eq!(code(gate.check_renewal(&peer, at(20))).err(), renewal);
        }
    }

    #[test]
    fn expired_and_unknown_are_refused() {
        assert_eq!(
            code(gate(None).check(&peer(10), at(1_000))),
            Err(Code::Unauthenticated)
        );
        assert_eq!(
            code(Gate::default().check(&peer(10), at(20))),
            Err(Code::PermissionDenied)
        );
    }
}
