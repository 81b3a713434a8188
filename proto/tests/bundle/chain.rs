//! Chains as CAs make them: root, intermediate, leaf.

use certwell_proto::{
    Identifier, KeyPair, Secret,
    bundle::{BundleError, Expected},
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm,
};

pub(crate) const NAME: &str = "media.hachyderm.io";

pub(crate) fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

pub(crate) fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

/// Certificate and key of a CA.
pub(crate) struct Ca {
    pub(crate) der: Vec<u8>,
    pub(crate) issuer: Issuer<'static, rcgen::KeyPair>,
}

/// A whole chain, and what should be thought of it.
pub(crate) struct Made {
    pub(crate) root: Ca,
    pub(crate) intermediate: Ca,
    pub(crate) leaf: Vec<u8>,
    pub(crate) key: rcgen::KeyPair,
}

pub(crate) fn dated(params: &mut CertificateParams, from: Timestamp, to: Timestamp) {
    let date = |at: Timestamp| std::time::SystemTime::try_from(at).unwrap().into();
    params.not_before = date(from);
    params.not_after = date(to);
}

pub(crate) fn ca(name: &str, above: Option<&Ca>) -> Ca {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    dated(&mut params, noon() - days(1_000), noon() + days(1_000));
    let certificate = match above {
        None => params.self_signed(&key),
        Some(above) => params.signed_by(&key, &above.issuer),
    };
    Ca {
        der: certificate.unwrap().der().to_vec(),
        issuer: Issuer::new(params, key),
    }
}

pub(crate) fn leaf_of(
    intermediate: &Ca,
    names: &[&str],
    key: &rcgen::KeyPair,
    from: Timestamp,
    to: Timestamp,
) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    dated(&mut params, from, to);
    params
        .signed_by(key, &intermediate.issuer)
        .unwrap()
        .der()
        .to_vec()
}

pub(crate) fn made_with(
    algorithm: &'static SignatureAlgorithm,
    from: Timestamp,
    to: Timestamp,
) -> Made {
    let root = ca("Root", None);
    let intermediate = ca("Intermediate", Some(&root));
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let leaf = leaf_of(&intermediate, &[NAME, "192.0.2.7"], &key, from, to);
    Made {
        root,
        intermediate,
        leaf,
        key,
    }
}

pub(crate) fn made() -> Made {
    made_with(&PKCS_ECDSA_P256_SHA256, noon() - days(1), noon() + days(89))
}

impl Made {
    pub(crate) fn pair(&self) -> KeyPair {
        KeyPair {
            fullchain: vec![self.leaf.clone(), self.intermediate.der.clone()],
            private_key: Secret::new(self.key.serialize_der()),
        }
    }

    pub(crate) fn verify(&self, pair: &KeyPair) -> Result<usize, BundleError> {
        self.verify_for(pair, &[NAME], &[&self.root])
    }

    pub(crate) fn verify_for(
        &self,
        pair: &KeyPair,
        names: &[&str],
        roots: &[&Ca],
    ) -> Result<usize, BundleError> {
        let identifiers: Vec<Identifier> = names.iter().map(|name| name.parse().unwrap()).collect();
        let roots: Vec<Vec<u8>> = roots.iter().map(|root| root.der.clone()).collect();
        let expected = Expected {
            identifiers: &identifiers,
            roots: &roots,
            now: noon(),
        };
        pair.verify(&expected).map(|verified| verified.root)
    }
}
