//! An identity becomes the next one: the new key is on disk before it is asked for, the certificate before it is
//! used, and there is one pending identity at a time.

use certwell_proto::{identity, v1};
use rustls_pki_types::UnixTime;

use super::{
    Connection, Identity, IdentityError, IdentityStore,
    connection::{in_time, words},
    enrollment::verify_identity,
    identity::check_key,
};

/// Why an identity wasn't renewed; the present one stays.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The issuer refused, or didn't answer.
    #[error("the issuer didn't renew this host's identity: {0}")]
    Call(String),
    /// The answer can't be right.
    #[error("the renewed identity can't be used: {0}")]
    Answer(String),
    /// This host's side.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Renews. The same pending key gets the same answer, so that a lost one is simply asked for again.
///
/// # Errors
/// When the issuer doesn't answer or refuses, or the answer can't be right.
pub async fn renew(
    store: &IdentityStore,
    present: &Identity,
    connection: &Connection,
    now: UnixTime,
) -> Result<Identity, RenewError> {
    let bound = store.bound_key()?;
    let key = store.pending_key()?;
    let csr = key
        .identity_request(&present.fleet, &present.host)
        .map_err(IdentityError::from)?;
    let bound_proof = bound
        .sign(&identity::renew_proof_message(&csr))
        .map_err(IdentityError::from)?;
    let mut enrollment = connection.enrollment();
    let answer = in_time(enrollment.renew(v1::RenewRequest {
        identity_csr: csr,
        bound_proof,
        bound_key: bound.public(),
    }))
    .await
    .map_err(|status| RenewError::Call(words(&status)))?
    .into_inner();
    let named = identity::Identity::of_certificate(&answer.identity_certificate)
        .map_err(|e| RenewError::Answer(e.to_string()))?;
    if named.name != present.host
        || named.fleet != present.fleet
        || named.role != identity::Role::Agent
    {
        return Err(RenewError::Answer(format!("it is for {named}")));
    }
    verify_identity(&present.fleet_ca, &answer.identity_certificate, now)
        .map_err(RenewError::Answer)?;
    check_key(&answer.identity_certificate, &key).map_err(RenewError::Answer)?;
    Ok(store.switch(&answer.identity_certificate)?)
}
