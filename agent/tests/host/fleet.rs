//! The certificates of the test's world: a fleet CA, and an authority that bundles lead to.

use std::time::Duration;

use certwell_proto::{Fingerprint, v1};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

/// A CA of rcgen's.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Seconds since the epoch, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "a test is no part of the agent")]
pub(crate) fn now_second() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// An rcgen date, without naming the crate that it is of.
macro_rules! date {
    ($second:expr) => {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs($second as u64)
    };
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        self.issuer.as_ref().der().to_vec()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der())
    }

    /// A server certificate: chain (leaf, CA) and PKCS#8 key.
    pub(crate) fn server(&self, names: &[&str], life: (i64, i64)) -> (Vec<Vec<u8>>, Vec<u8>) {
        self.server_with(KeyPair::generate().unwrap(), names, life)
    }

    fn server_with(
        &self,
        key: KeyPair,
        names: &[&str],
        life: (i64, i64),
    ) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())
                .unwrap();
        params.not_before = date!(now_second() + life.0);
        params.not_after = date!(now_second() + life.1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (vec![leaf.der().to_vec(), self.der()], key.serialize_der())
    }

    /// Signs an identity request.
    pub(crate) fn identity(&self, csr: &[u8], life: i64) -> Vec<u8> {
        let mut request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        request.params.not_before = date!(now_second() - 1);
        request.params.not_after = date!(now_second() + life);
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// A bundle of a certificate's generation, good for an hour.
    pub(crate) fn bundle(&self, certificate: &str, generation: u64, names: &[&str]) -> v1::Bundle {
        self.bundle_with(KeyPair::generate().unwrap(), certificate, generation, names)
    }

    /// The same with an RSA key.
    pub(crate) fn rsa_bundle(
        &self,
        certificate: &str,
        generation: u64,
        names: &[&str],
    ) -> v1::Bundle {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        self.bundle_with(key, certificate, generation, names)
    }

    /// The same with another life, in seconds from now.
    pub(crate) fn bundle_living(
        &self,
        certificate: &str,
        generation: u64,
        names: &[&str],
        life: (i64, i64),
    ) -> v1::Bundle {
        let key = KeyPair::generate().unwrap();
        self.bundle_of(key, certificate, generation, names, life)
    }

    fn bundle_with(
        &self,
        key: KeyPair,
        certificate: &str,
        generation: u64,
        names: &[&str],
    ) -> v1::Bundle {
        self.bundle_of(key, certificate, generation, names, (-60, 3_600))
    }

    fn bundle_of(
        &self,
        key: KeyPair,
        certificate: &str,
        generation: u64,
        names: &[&str],
        life: (i64, i64),
    ) -> v1::Bundle {
        let (fullchain, private_key) = self.server_with(key, names, life);
        v1::Bundle {
            certificate: certificate.into(),
            generation,
            key_pairs: vec![v1::KeyPair {
                fullchain,
                private_key,
            }],
        }
    }
}

/// A self-signed certificate with its key, both in PEM.
pub(crate) fn self_signed(name: &str, life: (i64, i64)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    params.not_before = date!(now_second() + life.0);
    params.not_after = date!(now_second() + life.1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
