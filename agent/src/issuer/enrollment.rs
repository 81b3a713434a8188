//! A join token becomes an identity. Both keys are made on this host and on disk before the issuer hears of them, so
//! that a lost answer is simply asked for again.

use certwell_proto::{Fingerprint, JoinToken, Lineage, identity, v1};
use rustls_pki_types::{CertificateDer, UnixTime};
use tonic::Code;
use webpki::{EndEntityCert, anchor_from_trusted_cert};

use super::{
    Connection, DialError, IdentityError, IdentityStore,
    connection::{in_time, words},
    identity::{FleetRecord, check_key},
    keys::KeyError,
    tls::{self, TlsError},
};

/// Attempts at the call: a lost answer is asked for again.
const ATTEMPTS: u32 = 3;

/// Why a host wasn't enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It is already.
    #[error(
        "this host is already enrolled as {host}; to enroll it anew, run `certwell-agent enroll --again TOKEN` with a new token"
    )]
    AlreadyEnrolled {
        /// Its name.
        host: String,
    },
    /// Generations and lineages of one fleet mean nothing to another.
    #[error(
        "this host is enrolled as {host} in fleet {fleet}, and the token is another fleet's ({token}); run `certwell-agent leave` first, then `certwell-agent enroll TOKEN`"
    )]
    OtherFleet {
        /// Its name.
        host: String,
        /// Where it is.
        fleet: String,
        /// Where it is asked to.
        token: String,
    },
    /// The issuer can't be reached, or is another.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The issuer refuses.
    #[error("the issuer refused: {0}")]
    Refused(String),
    /// The answer didn't come.
    #[error(
        "the issuer didn't answer: {0}; run the same command again, the token stays good for this host's keys"
    )]
    NoAnswer(String),
    /// The answer can't be right.
    #[error("the issuer's answer can't be used: {0}")]
    Answer(String),
    /// This host's side.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This host's keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who this host is now.
#[derive(Debug)]
pub struct Enrolled {
    /// As the token named it.
    pub host: String,
    /// Its fleet.
    pub fleet: String,
    /// Of the identity certificate.
    pub fingerprint: Fingerprint,
}

/// Enrolls; a host that is enrolled already only `again`, with the bound key that it has.
///
/// # Errors
/// When the host is enrolled already, the issuer can't be reached or refuses, or its answer can't be right. An identity
/// that was there is then as it was.
pub async fn enroll(
    store: &IdentityStore,
    token: &JoinToken,
    again: bool,
    info: v1::HostInfo,
    now: UnixTime,
) -> Result<Enrolled, EnrollError> {
    if store.is_enrolled()? && !again {
        let host = store.load().map_or_else(
            |_| "another host".to_owned(),
            |identity| identity.host.to_string(),
        );
        return Err(EnrollError::AlreadyEnrolled { host });
    }
    // One that can't be read tells no fleet, and is just what is to be replaced.
    if let Ok(present) = store.look()
        && Fingerprint::of(&present.fleet_ca) != token.ca_pin
    {
        return Err(EnrollError::OtherFleet {
            host: present.host.to_string(),
            fleet: present.fleet.to_string(),
            token: token.fleet.to_string(),
        });
    }
    store.create()?;
    let bound = store.bound_key()?;
    let key = store.enrollment_key()?;
    let csr = store.enrollment_request(&key, &token.fleet, &token.host)?;
    let proof = bound.sign(&identity::enroll_proof_message(token.secret.expose(), &csr))?;
    let request = v1::EnrollRequest {
        token_secret: token.secret.expose().to_vec(),
        identity_csr: csr,
        bound_key: bound.public(),
        bound_proof: proof,
        host_info: Some(info),
    };
    let answer = ask(token, &request).await?;
    let record = check(&answer, token, now)?;
    check_key(&answer.identity_certificate, &key).map_err(EnrollError::Answer)?;
    store.enroll(&record, &answer.identity_certificate)?;
    Ok(Enrolled {
        host: record.host,
        fleet: record.fleet,
        fingerprint: Fingerprint::of(&answer.identity_certificate),
    })
}

async fn ask(
    token: &JoinToken,
    request: &v1::EnrollRequest,
) -> Result<v1::EnrollResponse, EnrollError> {
    let config = tls::with_pin(token.ca_pin)?;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let connection = Connection::dial(&token.endpoints, &config).await?;
        let mut enrollment = connection.enrollment();
        match in_time(enrollment.enroll(request.clone())).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => match status.code() {
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
                    last = words(&status)
                }
                _ => return Err(EnrollError::Refused(words(&status))),
            },
        }
    }
    Err(EnrollError::NoAnswer(last))
}

/// The answer must be of the pinned CA, and for the host and fleet of the token.
fn check(
    answer: &v1::EnrollResponse,
    token: &JoinToken,
    now: UnixTime,
) -> Result<FleetRecord, EnrollError> {
    let wrong = |problem: &dyn std::fmt::Display| EnrollError::Answer(problem.to_string());
    if Fingerprint::of(&answer.fleet_ca) != token.ca_pin {
        return Err(wrong(&"its fleet CA is not the one that the token names"));
    }
    let named =
        identity::Identity::of_certificate(&answer.identity_certificate).map_err(|e| wrong(&e))?;
    let expected = identity::Identity {
        fleet: token.fleet.clone(),
        role: identity::Role::Agent,
        name: token.host.clone(),
    };
    if named != expected {
        return Err(wrong(&format!(
            "the certificate is for {named}, not {expected}"
        )));
    }
    verify_identity(&answer.fleet_ca, &answer.identity_certificate, now).map_err(|e| wrong(&e))?;
    let lineage: Lineage = answer
        .lineage
        .clone()
        .ok_or_else(|| wrong(&"lineage is missing"))?
        .try_into()
        .map_err(|e| wrong(&e))?;
    Ok(FleetRecord {
        fleet: token.fleet.to_string(),
        host: token.host.to_string(),
        endpoints: if answer.endpoints.is_empty() {
            token.endpoints.clone()
        } else {
            answer.endpoints.clone()
        },
        lineage: lineage.id.to_string(),
        lineage_started_ms: lineage.started_ms,
        fleet_ca: certwell_proto::pem::certificates([answer.fleet_ca.as_slice()]),
    })
}

/// Whether the fleet CA signed this identity, for use as a client, and it is valid.
///
/// # Errors
/// What is wrong with it.
pub(super) fn verify_identity(ca: &[u8], certificate: &[u8], now: UnixTime) -> Result<(), String> {
    let ca = CertificateDer::from(ca);
    let certificate = CertificateDer::from(certificate);
    let anchor = anchor_from_trusted_cert(&ca).map_err(|e| e.to_string())?;
    EndEntityCert::try_from(&certificate)
        .and_then(|leaf| {
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[anchor],
                &[],
                now,
                webpki::KeyUsage::client_auth(),
                None,
                None,
            )
            .map(|_| ())
        })
        .map_err(|e| format!("the fleet CA's signature on the identity doesn't verify: {e}"))
}
