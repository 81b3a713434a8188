//! The fleet CA: the server's own identity, and those of the hosts.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use certwell_proto::{
    HostName,
    fingerprint::{hex, sha256},
    identity::{self, Identity, Role, SERVER_NAME},
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::store::FleetCa;

/// An agent's identity lives so long; it renews itself at half of it.
pub const AGENT_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The server's identity; a new one is made at half of it.
pub const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Identities are valid a little before they are made, for clocks that differ.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// serialNumber of a subject (RFC 4519 2.31).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// Why an identity wasn't made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The stored CA can't be used.
    #[error("the fleet CA can't be used: {0}")]
    Ca(rcgen::Error),
    /// The CSR is damaged, or not signed by its key.
    #[error("identity_csr: not a certificate signing request with a valid signature: {0}")]
    Csr(rcgen::Error),
    /// Signing failed.
    #[error("the identity can't be signed: {0}")]
    Sign(rcgen::Error),
    /// No randomness, or a date out of range.
    #[error("the identity can't be made: {0}")]
    Other(String),
}

/// Signs identities.
#[derive(Clone)]
pub struct Ca(Arc<Inner>);

struct Inner {
    record: FleetCa,
    issuer: Issuer<'static, KeyPair>,
}

/// A CSR's public key: what "the same key" means for renewals.
pub fn csr_key(csr: &[u8]) -> Result<[u8; 32], CaError> {
    let parsed = CertificateSigningRequestParams::from_der(&csr.into()).map_err(CaError::Csr)?;
    Ok(sha256(&parsed.public_key.subject_public_key_info()))
}

impl Ca {
    /// From the store's record.
    ///
    /// # Errors
    /// When its certificate or key can't be used.
    pub fn new(record: FleetCa) -> Result<Self, CaError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(record.key.expose().to_vec()));
        let key = KeyPair::try_from(&key).map_err(CaError::Ca)?;
        let certificate = CertificateDer::from(record.certificate.clone());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(CaError::Ca)?;
        Ok(Self(Arc::new(Inner { record, issuer })))
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.0.record.certificate
    }

    /// The fleet's name.
    pub fn fleet(&self) -> &certwell_proto::FleetName {
        &self.0.record.fleet
    }

    /// Signs the identity of an agent: of the CSR only the key counts. It names the host's bound key
    /// (SubjectPublicKeyInfo, DER) by its hash, so that whoever bears it can prove it to an issuer that has forgotten it.
    ///
    /// # Errors
    /// When the CSR is damaged or signing fails.
    pub fn sign_agent(
        &self,
        host: &HostName,
        csr: &[u8],
        bound_key: &[u8],
        now: Timestamp,
    ) -> Result<Vec<u8>, CaError> {
        let csr = CertificateSigningRequestParams::from_der(&csr.into()).map_err(CaError::Csr)?;
        let mut params = self.params(Role::Agent, host, now, AGENT_LIFE)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(
            DnType::CustomDnType(SERIAL_NUMBER.to_vec()),
            DnValue::PrintableString(hex(&sha256(bound_key)).try_into().map_err(CaError::Sign)?),
        );
        let signed = params
            .signed_by(&csr.public_key, &self.0.issuer)
            .map_err(CaError::Sign)?;
        Ok(signed.der().to_vec())
    }

    /// A new server identity, in memory only. The CA's own certificate is sent with it, so that a joining host
    /// can check the pin.
    ///
    /// # Errors
    /// When signing fails.
    pub fn server_identity(&self, now: Timestamp) -> Result<CertifiedKey, CaError> {
        let key = KeyPair::generate().map_err(CaError::Sign)?;
        let name = "issuer"
            .parse()
            .map_err(|e| CaError::Other(format!("{e}")))?;
        let mut params = self.params(Role::Issuer, &name, now, SERVER_LIFE)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names.push(SanType::DnsName(
            SERVER_NAME.try_into().map_err(CaError::Sign)?,
        ));
        let leaf = params
            .signed_by(&key, &self.0.issuer)
            .map_err(CaError::Sign)?;
        let chain = vec![
            leaf.der().clone(),
            CertificateDer::from(self.certificate().to_vec()),
        ];
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_supported_type(&der).map_err(|e| CaError::Other(e.to_string()))?;
        Ok(CertifiedKey::new(chain, signer))
    }

    fn params(
        &self,
        role: Role,
        name: &HostName,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<CertificateParams, CaError> {
        let identity = Identity {
            fleet: self.fleet().clone(),
            role,
            name: name.clone(),
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_str());
        params.serial_number = Some(serial(now)?);
        params.not_before = system_time(now - BACKDATED).into();
        params.not_after = system_time(now + life).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(
            identity.to_string().try_into().map_err(CaError::Sign)?,
        )];
        Ok(params)
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

fn serial(now: Timestamp) -> Result<SerialNumber, CaError> {
    let mut random = [0_u8; 8];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| CaError::Other("the random generator failed".into()))?;
    Ok(SerialNumber::from_slice(&identity::serial(now, random)))
}

#[cfg(test)]
mod tests {
    use certwell_proto::{Leaf, Secret};

    use super::*;

    fn ca() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        Ca::new(FleetCa {
            fleet: "hachyderm".parse().unwrap(),
            certificate: certificate.der().to_vec(),
            key: Secret::new(key.serialize_der()),
        })
        .unwrap()
    }

    #[test]
    fn an_identity_says_who_and_when_and_ignores_what_the_request_claims() {
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(["evil.example".to_owned()]).unwrap();
        wish.subject_alt_names.push(SanType::URI(
            "certwell://hachyderm/admin/root".try_into().unwrap(),
        ));
        let csr = wish.serialize_request(&key).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let der = ca()
            .sign_agent(&"sally".parse().unwrap(), csr.der(), b"bound", now)
            .unwrap();
        assert_eq!(identity::bound_key_of(&der), Some(sha256(b"bound")));
        assert_eq!(identity::bound_key_of(ca().certificate()), None);
        assert_eq!(
            Identity::of_certificate(&der).unwrap().to_string(),
            "certwell://hachyderm/agent/sally"
        );
        let leaf = Leaf::read(&der).unwrap();
        assert_eq!(identity::issued_at(&leaf.serial), Some(now));
        assert_eq!(leaf.not_after, now + AGENT_LIFE);
        assert!(leaf.identifiers.is_empty());
    }

    #[test]
    fn a_damaged_request_and_one_that_its_key_did_not_sign_are_refused() {
        let key = KeyPair::generate().unwrap();
        let wish = CertificateParams::default();
        let good = wish.serialize_request(&key).unwrap().der().to_vec();
        let sally = "sally".parse().unwrap();
        assert!(ca().sign_agent(&sally, &good, b"bound", clock()).is_ok());
        let mut forged = good;
        // The end of the signature, still well-formed.
        *forged.last_mut().unwrap() ^= 1;
        for csr in [b"junk".to_vec(), forged] {
            assert!(matches!(
                ca().sign_agent(&sally, &csr, b"bound", clock()),
                Err(CaError::Csr(_))
            ));
            assert!(matches!(csr_key(&csr), Err(CaError::Csr(_))));
        }
    }

    #[test]
    fn an_identity_is_good_for_its_own_side_of_a_connection_only() {
        let usage = |der: &[u8]| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            (usage.client_auth, usage.server_auth, usage.any)
        };
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let agent = ca().sign_agent(&"sally".parse().unwrap(), csr.der(), b"bound", clock());
        assert_eq!(usage(&agent.unwrap()), (true, false, false));
        let server = ca().server_identity(clock()).unwrap();
        assert_eq!(usage(&server.cert[0]), (false, true, false));
    }

    fn clock() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }
}
