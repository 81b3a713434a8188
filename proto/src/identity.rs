//! Who a certificate of the fleet CA says its bearer is.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use crate::{FieldError, FleetName, HostName, JoinToken};

/// The DNS name in the issuer's certificate, verified whatever address was dialled.
pub const SERVER_NAME: &str = "issuer.certwell.internal";

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Watch, fetch and report for its own host.
    Agent,
    /// Everything behind the `certwell` command.
    Admin,
    /// The server.
    Issuer,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Admin => "admin",
            Self::Issuer => "issuer",
        }
    }
}

/// `certwell://FLEET/{agent,admin,issuer}/NAME`, the SAN URI of an identity certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The fleet that it belongs to.
    pub fleet: FleetName,
    /// What it may do.
    pub role: Role,
    /// A host's name for agents.
    pub name: HostName,
}

impl Identity {
    /// The one identity in a certificate's SAN URIs.
    ///
    /// # Errors
    /// When it can't be read, or holds none or several.
    pub fn of_certificate(der: &[u8]) -> Result<Self, FieldError> {
        let wrong = |problem: &str| FieldError::new("identity certificate", problem);
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der)
            .map_err(|_| wrong("is not an X.509 certificate"))?;
        let san = parsed
            .subject_alternative_name()
            .map_err(|_| wrong("its SAN extension can't be read"))?
            .ok_or_else(|| wrong("has no SAN extension"))?;
        let mut uris = san
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse(),
            (None, _) => Err(wrong("names no certwell:// identity")),
            (Some(_), Some(_)) => Err(wrong("names several identities")),
        }
    }
}

/// SHA-256 of the bound key that an agent's identity names, in hexadecimal as its subject's serialNumber; `None` in
/// other certificates.
pub fn bound_key_of(der: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    let mut named = parsed
        .subject()
        .iter_by_oid(&x509_parser::oid_registry::OID_X509_SERIALNUMBER);
    let text = named.next()?.as_str().ok()?;
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() || !text.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "certwell://{}/{}/{}",
            self.fleet,
            self.role.as_str(),
            self.name
        )
    }
}

impl FromStr for Identity {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let wrong = || {
            FieldError::new(
                "identity",
                format!("{text:?} is not certwell://FLEET/ROLE/NAME"),
            )
        };
        let mut parts = text
            .strip_prefix("certwell://")
            .ok_or_else(wrong)?
            .split('/');
        let (Some(fleet), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let role = [Role::Agent, Role::Admin, Role::Issuer]
            .into_iter()
            .find(|r| r.as_str() == role)
            .ok_or_else(wrong)?;
        Ok(Self {
            fleet: FleetName::from_wire("identity.fleet", fleet)?,
            role,
            name: HostName::from_wire("identity.name", name)?,
        })
    }
}

/// First byte of every identity's serial number: keeps it positive and its length fixed.
const SERIAL_HEAD: u8 = 0x43;

/// The serial number of an identity: a fixed first byte, the time of issue in milliseconds (7 bytes, big-endian), and
/// randomness. The time is what revocation goes by: not-before is set back for clocks that differ, and would let a
/// revoked identity pass for a later one.
pub fn serial(issued: Timestamp, random: [u8; 8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&issued.as_millisecond().to_be_bytes());
    bytes[0] = SERIAL_HEAD;
    bytes[8..].copy_from_slice(&random);
    bytes
}

/// When an identity with this serial number (hex, as in [`crate::Leaf::serial`]) was issued; `None` for serial
/// numbers that aren't ours.
pub fn issued_at(serial: &str) -> Option<Timestamp> {
    let head = format!("{SERIAL_HEAD:02x}");
    let rest = serial.strip_prefix(&head)?;
    if rest.len() != 30 || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Timestamp::from_millisecond(i64::from_str_radix(rest.get(..14)?, 16).ok()?).ok()
}

/// What the bound key signs when a host enrolls: the token and the CSR, so that neither can be swapped.
pub fn enroll_proof_message(token_secret: &[u8], csr: &[u8]) -> Vec<u8> {
    proof_message(b"certwell/v1 enroll\0", &[token_secret, csr])
}

/// What the bound key signs when a host renews its identity.
pub fn renew_proof_message(csr: &[u8]) -> Vec<u8> {
    proof_message(b"certwell/v1 renew\0", &[csr])
}

fn proof_message(domain: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut message = domain.to_vec();
    for part in parts {
        message.extend_from_slice(&crate::fingerprint::sha256(part));
    }
    message
}

/// Verifies an ECDSA P-256 SHA-256 (ASN.1) signature by the key in `spki`, a SubjectPublicKeyInfo in DER.
///
/// # Errors
/// When the key isn't P-256 or the signature isn't its own; the error names `field`.
pub fn verify_proof(
    field: &str,
    spki: &[u8],
    message: &[u8],
    proof: &[u8],
) -> Result<(), FieldError> {
    let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki)
        .map_err(|_| FieldError::new(field, "the bound key is not a SubjectPublicKeyInfo"))?;
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        parsed.subject_public_key.data.as_ref(),
    );
    key.verify(message, proof)
        .map_err(|_| FieldError::new(field, "is not a signature by the bound key"))
}

impl JoinToken {
    /// What the issuer stores of a token: the SHA-256 of its secret.
    pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
        crate::fingerprint::sha256(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_uri_reads_back() {
        let identity: Identity = "certwell://hachyderm/agent/sally".parse().unwrap();
        assert_eq!(identity.role, Role::Agent);
        assert_eq!(identity.to_string(), "certwell://hachyderm/agent/sally");
    }

    #[test]
    fn other_uris_are_refused() {
        for text in [
            "spiffe://hachyderm/agent/sally",
            "certwell://hachyderm/agent",
            "certwell://hachyderm/agent/sally/x",
            "certwell://hachyderm/root/sally",
            "certwell://hachyderm/agent/../sally",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_serial_number_tells_when_its_identity_was_issued() {
        for ms in [0, 1, 1_700_000_000_123, 4_102_444_800_000] {
            let at = Timestamp::from_millisecond(ms).unwrap();
            for random in [[0; 8], [0xff; 8]] {
                let bytes = serial(at, random);
                // Positive, and never shortened in DER.
                assert!((1..0x80).contains(&bytes[0]));
                assert_eq!(issued_at(&crate::fingerprint::hex(&bytes)), Some(at));
            }
        }
    }

    #[test]
    fn other_serial_numbers_tell_nothing() {
        let ours = crate::fingerprint::hex(&serial(
            Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            [7; 8],
        ));
        let (head, rest) = ours.split_at(2);
        for text in [
            String::new(),
            head.to_owned(),
            format!("44{rest}"),
            ours[..30].to_owned(),
            format!("{ours}00"),
            format!("{head}+{}", &rest[1..]),
            format!("{head}{}", "é".repeat(15)),
        ] {
            assert_eq!(issued_at(&text), None, "{text}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_own_message_only() {
        let key = rcgen::KeyPair::generate().unwrap();
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let signer = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &key.serialize_der(),
        )
        .unwrap();
        let message = enroll_proof_message(b"secret", b"csr");
        let proof = signer
            .sign(&aws_lc_rs::rand::SystemRandom::new(), &message)
            .unwrap();
        assert_eq!(
            verify_proof("proof", &spki, &message, proof.as_ref()),
            Ok(())
        );
        let other = enroll_proof_message(b"secret", b"another csr");
        assert!(verify_proof("proof", &spki, &other, proof.as_ref()).is_err());
        assert!(verify_proof("proof", b"junk", &message, proof.as_ref()).is_err());
    }
}
