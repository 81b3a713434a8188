//! What certwell reads out of a certificate.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use crate::{Fingerprint, Identifier, fingerprint::hex};

/// The facts of one certificate that decisions are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
    /// Lower-case hex, without separators.
    pub serial: String,
    /// First instant of its validity.
    pub not_before: Timestamp,
    /// Last instant of its validity.
    pub not_after: Timestamp,
    /// DNS names and IP addresses of its SAN extension; names that aren't valid identifiers are left out.
    pub identifiers: Vec<Identifier>,
    /// Issuer's distinguished name, for people.
    pub issuer: String,
    /// Whether issuer and subject are the same name.
    pub self_issued: bool,
}

/// A certificate that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate can't be read: {0}")]
pub struct LeafError(pub String);

impl Leaf {
    /// Reads one certificate.
    ///
    /// # Errors
    /// When it isn't a whole X.509 certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, LeafError> {
        let (rest, parsed) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|e| LeafError(e.to_string()))?;
        if !rest.is_empty() {
            return Err(LeafError(format!("{} bytes follow it", rest.len())));
        }
        let at = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_second(time.timestamp()).map_err(|e| LeafError(e.to_string()))
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|e| LeafError(e.to_string()))?
            .map(|san| {
                san.value
                    .general_names
                    .iter()
                    .filter_map(identifier)
                    .collect()
            })
            .unwrap_or_default();
        Ok(Self {
            fingerprint: Fingerprint::of(der),
            serial: hex(parsed.raw_serial()),
            not_before: at(parsed.validity().not_before)?,
            not_after: at(parsed.validity().not_after)?,
            identifiers: names,
            issuer: parsed.issuer().to_string(),
            self_issued: parsed.issuer().as_raw() == parsed.subject().as_raw(),
        })
    }

    /// Whether `now` lies within its validity.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

fn identifier(name: &GeneralName<'_>) -> Option<Identifier> {
    match name {
        GeneralName::DNSName(name) => name
            .parse()
            .ok()
            .filter(|id| matches!(id, Identifier::Dns(_))),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| Identifier::Ip(IpAddr::from(b))),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| Identifier::Ip(IpAddr::from(b))),
            _ => None,
        },
        _ => None,
    }
}
