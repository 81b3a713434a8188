//! The Enrollment service: from a join token to an identity, and from an identity to the next.

use std::sync::Arc;

use certwell_proto::{
    JoinToken, Leaf,
    fingerprint::sha256,
    identity::{enroll_proof_message, issued_at, renew_proof_message, verify_proof},
    v1::{self, EventKind, enrollment_server::Enrollment},
};
use tonic::{Request, Response, Status};

use super::{
    ca::{Ca, CaError, csr_key},
    events::Events,
    peer::{Doorkeeper, Peer},
    registry::Registry,
};
use crate::{
    clock,
    store::{Enrolled, HostRecord, Store, StoreError, TokenRecord},
};

/// Implements `certwell.v1.Enrollment`.
pub struct EnrollmentService {
    /// Checks callers of `Renew`.
    pub doorkeeper: Doorkeeper,
    /// What is known.
    pub registry: Registry,
    /// Where tokens and hosts are.
    pub store: Arc<dyn Store>,
    /// Signs identities.
    pub ca: Ca,
    /// What is written down.
    pub events: Events,
}

#[tonic::async_trait]
impl Enrollment for EnrollmentService {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        // Taken before the token is looked up: a revocation voids tokens first, and is later than this.
        let now = clock::now();
        let hash = JoinToken::secret_hash(&request.token_secret);
        let token = self
            .store
            .token(&hash)
            .await
            .map_err(|e| store_failed(&e))?;
        let token = usable(token, now, &sha256(&request.bound_key))?;
        let facts = self
            .registry
            .facts()
            .await
            .ok_or_else(|| Status::unavailable("the issuer is stopping"))?;
        if !facts.config.hosts.contains_key(&token.host) {
            return Err(Status::permission_denied(format!(
                "the host {} is no longer declared in the issuer's configuration",
                token.host
            )));
        }
        let message = enroll_proof_message(&request.token_secret, &request.identity_csr);
        verify_proof(
            "bound_proof",
            &request.bound_key,
            &message,
            &request.bound_proof,
        )
        .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let identity_key = csr_key(&request.identity_csr).map_err(ca_failed)?;
        let known = facts
            .hosts
            .get(&token.host)
            .and_then(|known| known.record.clone());
        if known.as_ref().is_some_and(|record| record.retired) {
            return Err(Status::permission_denied(format!(
                "the host {} was retired",
                token.host
            )));
        }

        // The same token, host key and identity key: the answer was lost, so it is given again. A used token gives
        // nothing else: who steals a revoked host's keys must not get a new identity with its old token.
        let same = known.as_ref().filter(|record| {
            record.identity_key == identity_key && record.bound_key == request.bound_key
        });
        if token.used_by.is_some() && same.is_none() {
            return Err(Status::permission_denied(format!(
                "this token was used already; {ANEW}"
            )));
        }
        let same = same.filter(|_| token.used_by.is_some());
        let identity = match same {
            Some(record) => record.identity.clone(),
            None => self
                .ca
                .sign_agent(&token.host, &request.identity_csr, &request.bound_key, now)
                .map_err(ca_failed)?,
        };
        if same.is_none() {
            let record = HostRecord {
                name: token.host.clone(),
                bound_key: request.bound_key.clone(),
                identity: identity.clone(),
                identity_key,
                revoked: known.and_then(|record| record.revoked),
                retired: false,
                info: request.host_info.unwrap_or_default(),
                last_seen: Some(now),
            };
            let enrolled = Enrolled {
                host: record.clone(),
                bound_key_hash: sha256(&request.bound_key),
            };
            self.store
                .enroll(&hash, &enrolled)
                .await
                .map_err(|e| store_failed(&e))?;
            self.registry.host(record).await;
            self.events
                .host(EventKind::Host, &token.host, "enrolled".into())
                .await;
        }
        Ok(Response::new(v1::EnrollResponse {
            identity_certificate: identity,
            fleet_ca: self.ca.certificate().to_vec(),
            fleet: self.ca.fleet().to_string(),
            host: token.host.to_string(),
            lineage: Some(facts.lineage.into()),
            endpoints: facts.config.issuer.endpoints.clone(),
        }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        // Taken before the check: a revocation that comes in between is later, and this identity falls under it.
        let now = clock::now();
        let peer = self.doorkeeper.renewing(&request)?;
        let request = request.into_inner();
        let host = &peer.identity.name;
        let facts = self
            .registry
            .facts()
            .await
            .ok_or_else(|| Status::unavailable("the issuer is stopping"))?;
        let known = facts.hosts.get(host).and_then(|known| known.record.clone());
        let bound_key = bound_key(&peer, known.as_ref(), &request)?;
        let message = renew_proof_message(&request.identity_csr);
        verify_proof("bound_proof", &bound_key, &message, &request.bound_proof)
            .map_err(|e| Status::permission_denied(e.to_string()))?;
        let identity_key = csr_key(&request.identity_csr).map_err(ca_failed)?;
        let forgotten = known.is_none();
        let mut record = known.unwrap_or_else(|| HostRecord {
            name: host.clone(),
            bound_key: Vec::new(),
            identity: Vec::new(),
            identity_key: [0; 32],
            revoked: facts
                .recovery
                .as_ref()
                .and_then(|recovery| recovery.revoked.get(host).copied()),
            retired: false,
            info: v1::HostInfo::default(),
            last_seen: Some(now),
        });
        if record.identity_key != identity_key || record.bound_key != bound_key {
            record.identity = self
                .ca
                .sign_agent(host, &request.identity_csr, &bound_key, now)
                .map_err(ca_failed)?;
            record.identity_key = identity_key;
            record.bound_key = bound_key;
            self.store
                .put_host(&record)
                .await
                .map_err(|e| store_failed(&e))?;
            self.registry.host(record.clone()).await;
            let (kind, text) = match forgotten {
                false => (EventKind::Host, "renewed its identity"),
                true => (
                    EventKind::Recovery,
                    "had enrolled after the backup from which the issuer was restored: it showed its bound key, and goes on",
                ),
            };
            self.events.host(kind, host, text.into()).await;
        }
        Ok(Response::new(v1::RenewResponse {
            identity_certificate: record.identity,
        }))
    }
}

/// The bound key that this caller is to prove: the one on record; or, where his identity is later than that, as after a
/// restore, the one that his identity names.
fn bound_key(
    peer: &Peer,
    known: Option<&HostRecord>,
    request: &v1::RenewRequest,
) -> Result<Vec<u8>, Status> {
    let recorded = known.and_then(|record| Leaf::read(&record.identity).ok());
    let recorded = recorded.and_then(|leaf| issued_at(&leaf.serial));
    if let Some(record) = known
        && recorded.is_none_or(|recorded| peer.issued <= recorded)
    {
        return Ok(record.bound_key.clone());
    }
    let candidates = [
        known.map(|record| &record.bound_key),
        Some(&request.bound_key),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|key| peer.bound_key == Some(sha256(key)))
        .cloned()
        .ok_or_else(|| {
            let host = &peer.identity.name;
            Status::permission_denied(format!(
                "bound_key: it is not the one that the identity of {host} names"
            ))
        })
}

const ANEW: &str = "make a new one with `certwell token create` on the issuer";

/// The token, if this host may use it; each refusal says what to do.
fn usable(
    token: Option<TokenRecord>,
    now: jiff::Timestamp,
    bound_key_hash: &[u8; 32],
) -> Result<TokenRecord, Status> {
    let Some(token) = token else {
        return Err(Status::permission_denied(format!(
            "this issuer did not give out this token; {ANEW}"
        )));
    };
    match token.used_by {
        Some(by) if by == *bound_key_hash => return Ok(token),
        Some(_) => {
            return Err(Status::permission_denied(format!(
                "this token was used already; {ANEW}"
            )));
        }
        None => {}
    }
    if token.void {
        return Err(Status::permission_denied(format!(
            "this token was replaced or voided; {ANEW}"
        )));
    }
    if now >= token.expires {
        return Err(Status::permission_denied(format!(
            "this token expired at {}; {ANEW}",
            token.expires
        )));
    }
    Ok(token)
}

fn store_failed(error: &StoreError) -> Status {
    match error {
        StoreError::Conflict(problem) => Status::permission_denied(problem.clone()),
        other => {
            tracing::error!(error = other as &dyn std::error::Error, "the store failed");
            Status::internal("the issuer's store failed; its log says why")
        }
    }
}

fn ca_failed(error: CaError) -> Status {
    match error {
        CaError::Csr(_) => Status::invalid_argument(error.to_string()),
        other => {
            tracing::error!(error = %other, "an identity can't be signed");
            Status::internal("the issuer can't sign identities; its log says why")
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn token(used_by: Option<[u8; 32]>, void: bool) -> TokenRecord {
        TokenRecord {
            hash: [0; 32],
            host: "sally".parse().unwrap(),
            expires: Timestamp::from_second(100).unwrap(),
            used_by,
            void,
        }
    }

    #[test]
    fn a_token_serves_one_host_key_once_and_in_time() {
        let now = |second| Timestamp::from_second(second).unwrap();
        let mine = [1; 32];
        for (token, at, allowed) in [
            (Some(token(None, false)), 99, true),
            (Some(token(None, false)), 100, false),
            (Some(token(None, true)), 99, false),
            (Some(token(Some(mine), false)), 99, true),
            // The answer was lost and the token expired meanwhile: the host that used it may still ask again.
            (Some(token(Some(mine), true)), 500, true),
            (Some(token(Some([2; 32]), false)), 99, false),
            (None, 99, false),
        ] {
            let result = usable(token.clone(), now(at), &mine);
            assert_eq!(result.is_ok(), allowed, "{token:?} at {at}");
            if let Err(status) = result {
                assert_eq!(status.code(), tonic::Code::PermissionDenied);
                assert!(
                    status.message().contains("certwell token create"),
                    "{status}"
                );
            }
        }
    }
}
