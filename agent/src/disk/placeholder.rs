//! Generation 0: a self-signed placeholder, so that a new host's nginx can start and answer challenges before its
//! first certificate. It is never offered, never replaces anything and never counts as served.

use std::time::Duration;

use certwell_proto::{Bundle, CertificateName, Generation, Identifier, KeyPair, Secret};
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};

/// Its common name, by which people recognize it.
const COMMON_NAME: &str = "certwell placeholder";
/// How long it lasts: longer than anybody should wait for a first certificate.
const LIFE_SECONDS: u64 = 90 * 86_400;

/// A placeholder that can't be made.
#[derive(Debug, thiserror::Error)]
#[error("the self-signed placeholder for {name} can't be made: {problem}")]
pub struct PlaceholderError {
    name: CertificateName,
    problem: String,
}

/// Makes one that covers `identifiers`, valid from an hour before `now`.
///
/// # Errors
/// When an identifier can't stand in a certificate, or no key can be made.
pub fn make(
    name: &CertificateName,
    identifiers: &[Identifier],
    now: Timestamp,
) -> Result<Bundle, PlaceholderError> {
    let wrong = |problem: &dyn std::fmt::Display| PlaceholderError {
        name: name.clone(),
        problem: problem.to_string(),
    };
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, COMMON_NAME);
    params.distinguished_name = subject;
    for identifier in identifiers {
        params.subject_alt_names.push(match identifier {
            Identifier::Dns(dns) => SanType::DnsName(
                dns.as_str()
                    .try_into()
                    .map_err(|e: rcgen::Error| wrong(&e))?,
            ),
            Identifier::Ip(address) => SanType::IpAddress(*address),
        });
    }
    // rcgen's dates are of a crate that needs no naming: they take a Duration.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = u64::try_from(now.as_second()).map_err(|e| wrong(&e))?;
    params.not_before = epoch + Duration::from_secs(seconds.saturating_sub(3_600));
    params.not_after = epoch + Duration::from_secs(seconds + LIFE_SECONDS);
    let key = rcgen::KeyPair::generate().map_err(|e| wrong(&e))?;
    let certificate = params.self_signed(&key).map_err(|e| wrong(&e))?;
    Ok(Bundle {
        certificate: name.clone(),
        generation: Generation::NONE,
        key_pairs: vec![KeyPair {
            fullchain: vec![certificate.der().to_vec()],
            private_key: Secret::new(key.serialize_der()),
        }],
    })
}
