//! Who is on the other end of a connection, and whether he still may.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{
    HostName, Leaf,
    identity::{Identity, Role, issued_at},
};
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::{Request, Status};

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
        })
    }
}

/// Which hosts may call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gate {
    hosts: BTreeMap<HostName, Option<Timestamp>>,
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
        Self { hosts }
    }

    fn check(&self, peer: &Peer, now: Timestamp) -> Result<(), Status> {
        let host = &peer.identity.name;
        if now >= peer.not_after {
            return Err(Status::unauthenticated(format!(
                "the identity of {host} expired at {}; enroll it again with a new token",
                peer.not_after
            )));
        }
        match self.hosts.get(host) {
            None => Err(Status::permission_denied(format!(
                "{host} is not a host of this fleet (retired, not enrolled, or no longer declared)"
            ))),
            Some(Some(revoked)) if peer.issued <= *revoked => {
                Err(Status::permission_denied(format!(
                    "the identity of {host} was revoked at {revoked}; enroll it again with a new token"
                )))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Checks every call of an agent.
#[derive(Clone)]
pub struct Doorkeeper(pub watch::Receiver<Arc<Gate>>);

impl Doorkeeper {
    /// The agent that calls.
    ///
    /// # Errors
    /// Unauthenticated without a client certificate or with an expired one; permission denied for another role,
    /// and for a host that is revoked, retired or unknown.
    pub fn agent<T>(&self, request: &Request<T>) -> Result<Arc<Peer>, Status> {
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
        self.check(&peer)?;
        Ok(peer)
    }

    /// Whether this peer still may.
    ///
    /// # Errors
    /// When its identity expired, or its host is revoked, retired or unknown.
    pub fn check(&self, peer: &Peer) -> Result<(), Status> {
        self.0.borrow().check(peer, clock::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn peer(issued: i64) -> Peer {
        Peer {
            identity: "certwell://hachyderm/agent/sally".parse().unwrap(),
            issued: at(issued),
            not_after: at(1_000),
        }
    }

    fn gate(revoked: Option<i64>) -> Gate {
        Gate {
            hosts: [("sally".parse().unwrap(), revoked.map(at))].into(),
        }
    }

    #[test]
    fn revocation_hits_identities_issued_before_it_only() {
        assert!(gate(None).check(&peer(10), at(20)).is_ok());
        assert_eq!(
            gate(Some(15)).check(&peer(10), at(20)).unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
        assert!(gate(Some(15)).check(&peer(16), at(20)).is_ok());
    }

    #[test]
    fn expired_and_unknown_are_refused() {
        assert_eq!(
            gate(None).check(&peer(10), at(1_000)).unwrap_err().code(),
            tonic::Code::Unauthenticated
        );
        assert_eq!(
            Gate::default().check(&peer(10), at(20)).unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
    }
}
