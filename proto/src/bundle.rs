//! The key pairs of one generation, and every check that comes before anybody uses them.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_parser::prelude::FromDer as _;

use crate::{CertificateName, FieldError, Fingerprint, Generation, Identifier, Leaf, Secret, v1};

/// The key pairs of one generation of a certificate: one, or an ECDSA and an RSA twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The managed certificate's name.
    pub certificate: CertificateName,
    /// At least 1.
    pub generation: Generation,
    /// At least one.
    pub key_pairs: Vec<KeyPair>,
}

/// A private key, and the certificates from its leaf to the last intermediate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// DER, leaf first, then intermediates in order; never empty.
    pub fullchain: Vec<Vec<u8>>,
    /// PKCS#8, DER.
    pub private_key: Secret,
}

/// What a key pair must be before it is stored, offered or staged.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// All of them must be among the leaf's SANs.
    pub identifiers: &'a [Identifier],
    /// DER of the roots, one of which the chain must lead to.
    pub roots: &'a [Vec<u8>],
    /// The instant at which it must be valid.
    pub now: Timestamp,
}

/// Why a key pair must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// There is nothing in it.
    #[error("it holds no certificate")]
    Empty,
    /// A certificate is damaged.
    #[error("certificate {index} of the chain can't be read: {problem}")]
    Unreadable {
        /// 0 is the leaf.
        index: usize,
        /// The parser's words.
        problem: String,
    },
    /// The private key is damaged or of an unknown kind.
    #[error("the private key can't be read: an ECDSA P-256, P-384 or RSA key in PKCS#8 is needed")]
    Key,
    /// The private key belongs to another certificate.
    #[error("the private key doesn't fit the leaf")]
    KeyMismatch,
    /// The chain isn't leaf, its issuer, that one's issuer …
    #[error("the chain is out of order: certificate {0} didn't issue the one before it")]
    Order(usize),
    /// Signatures, roots, constraints or dates of the chain.
    #[error("the chain doesn't lead to a root of its authority: {0}")]
    Chain(String),
    /// A root of the authority is damaged.
    #[error("a root of the authority can't be read: {0}")]
    Root(String),
    /// Some identifiers aren't covered.
    #[error("the leaf doesn't cover {0}")]
    Identifiers(String),
    /// Too early.
    #[error("the leaf is not valid before {0} (is this machine's clock right?)")]
    NotYetValid(Timestamp),
    /// Too late.
    #[error("the leaf expired at {0} (is this machine's clock right?)")]
    Expired(Timestamp),
}

/// A key pair that has passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The leaf's facts.
    pub leaf: Leaf,
    /// Which of the roots its chain leads to, an index into [`Expected::roots`].
    pub root: usize,
}

impl KeyPair {
    /// The leaf's DER; empty when the chain is.
    pub fn leaf_der(&self) -> &[u8] {
        self.fullchain.first().map_or(&[], Vec::as_slice)
    }

    /// Checks that the key fits the leaf, the chain is in order and leads to a root, the SANs cover what they
    /// must, and the dates hold.
    ///
    /// # Errors
    /// The first of these that fails.
    pub fn verify(&self, expected: &Expected<'_>) -> Result<Verified, BundleError> {
        let verified = verify_chain(&self.fullchain, expected)?;
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(self.leaf_der())
            .map_err(|e| BundleError::Unreadable {
                index: 0,
                problem: e.to_string(),
            })?;
        let public = parsed.public_key().subject_public_key.data.as_ref();
        if public_key_of(self.private_key.expose()).ok_or(BundleError::Key)? != public {
            return Err(BundleError::KeyMismatch);
        }
        Ok(verified)
    }
}

/// Everything that [`KeyPair::verify`] checks, but for the private key.
///
/// # Errors
/// The first check that fails.
pub fn verify_chain(
    fullchain: &[Vec<u8>],
    expected: &Expected<'_>,
) -> Result<Verified, BundleError> {
    let leaf_der = fullchain.first().ok_or(BundleError::Empty)?;
    check_order(fullchain)?;
    let leaf = Leaf::read(leaf_der).map_err(|e| BundleError::Unreadable {
        index: 0,
        problem: e.0,
    })?;
    if expected.now < leaf.not_before {
        return Err(BundleError::NotYetValid(leaf.not_before));
    }
    if expected.now >= leaf.not_after {
        return Err(BundleError::Expired(leaf.not_after));
    }
    let missing: Vec<String> = expected
        .identifiers
        .iter()
        .filter(|wanted| !leaf.identifiers.contains(wanted))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        return Err(BundleError::Identifiers(missing.join(", ")));
    }
    let root = find_root(fullchain, expected)?;
    Ok(Verified { leaf, root })
}

fn check_order(fullchain: &[Vec<u8>]) -> Result<(), BundleError> {
    let mut issuer_of_previous: Option<Vec<u8>> = None;
    for (index, der) in fullchain.iter().enumerate() {
        let (rest, parsed) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|e| {
                BundleError::Unreadable {
                    index,
                    problem: e.to_string(),
                }
            })?;
        if !rest.is_empty() {
            return Err(BundleError::Unreadable {
                index,
                problem: "bytes follow it".into(),
            });
        }
        if issuer_of_previous.is_some_and(|issuer| issuer != parsed.subject().as_raw()) {
            return Err(BundleError::Order(index));
        }
        issuer_of_previous = Some(parsed.issuer().as_raw().to_vec());
    }
    Ok(())
}

fn find_root(fullchain: &[Vec<u8>], expected: &Expected<'_>) -> Result<usize, BundleError> {
    let roots: Vec<CertificateDer<'_>> = expected
        .roots
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    // Real systems hold roots that can't be read as anchors; one of them must not spoil the others.
    let mut anchors: Vec<TrustAnchor<'_>> = Vec::with_capacity(roots.len());
    let mut indices = Vec::with_capacity(roots.len());
    let mut unreadable = None;
    for (index, root) in roots.iter().enumerate() {
        match anchor_from_trusted_cert(root) {
            Ok(anchor) => {
                anchors.push(anchor);
                indices.push(index);
            }
            Err(e) => unreadable = Some(e),
        }
    }
    if let Some(e) = unreadable.filter(|_| anchors.is_empty()) {
        return Err(BundleError::Root(e.to_string()));
    }
    let chain: Vec<CertificateDer<'_>> = fullchain
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let (leaf, intermediates) = chain.split_first().ok_or(BundleError::Empty)?;
    let wrong = |e: webpki::Error| BundleError::Chain(e.to_string());
    let seconds = u64::try_from(expected.now.as_second()).unwrap_or(0);
    let end_entity = EndEntityCert::try_from(leaf).map_err(wrong)?;
    let path = end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            intermediates,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)),
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(wrong)?;
    let anchor = path.anchor();
    anchors
        .iter()
        .position(|a| {
            a.subject == anchor.subject
                && a.subject_public_key_info == anchor.subject_public_key_info
        })
        .and_then(|at| indices.get(at).copied())
        .ok_or_else(|| BundleError::Chain("its root is not in the list".into()))
}

/// The content of the SubjectPublicKeyInfo's BIT STRING that belongs to a private key.
fn public_key_of(pkcs8: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::{
        rsa,
        signature::{
            ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
            KeyPair as _,
        },
    };
    for curve in [
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &ECDSA_P384_SHA384_ASN1_SIGNING,
    ] {
        if let Ok(key) = EcdsaKeyPair::from_pkcs8(curve, pkcs8) {
            return Some(key.public_key().as_ref().to_vec());
        }
    }
    rsa::KeyPair::from_pkcs8(pkcs8)
        .ok()
        .map(|key| key.public_key().as_ref().to_vec())
}

impl Bundle {
    /// The fingerprints of its leaves, in order.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.key_pairs
            .iter()
            .map(|pair| Fingerprint::of(pair.leaf_der()))
            .collect()
    }
}

impl TryFrom<v1::Bundle> for Bundle {
    type Error = FieldError;

    fn try_from(mut wire: v1::Bundle) -> Result<Self, FieldError> {
        if wire.generation == 0 {
            return Err(FieldError::new(
                "generation",
                "an issued bundle's is at least 1",
            ));
        }
        if wire.key_pairs.is_empty() {
            return Err(FieldError::new(
                "key_pairs",
                "a bundle holds at least one key pair",
            ));
        }
        let mut key_pairs = Vec::with_capacity(wire.key_pairs.len());
        for (index, pair) in wire.key_pairs.iter_mut().enumerate() {
            // Taken first, so that the key is wiped whatever comes of the rest.
            let private_key = Secret::new(std::mem::take(&mut pair.private_key));
            if pair.fullchain.is_empty() {
                return Err(FieldError::new(
                    format!("key_pairs[{index}].fullchain"),
                    "is empty",
                ));
            }
            if private_key.expose().is_empty() {
                return Err(FieldError::new(
                    format!("key_pairs[{index}].private_key"),
                    "is empty",
                ));
            }
            key_pairs.push(KeyPair {
                fullchain: std::mem::take(&mut pair.fullchain),
                private_key,
            });
        }
        Ok(Self {
            certificate: CertificateName::from_wire("certificate", &wire.certificate)?,
            generation: Generation(wire.generation),
            key_pairs,
        })
    }
}

impl From<&Bundle> for v1::Bundle {
    fn from(bundle: &Bundle) -> Self {
        Self {
            certificate: bundle.certificate.to_string(),
            generation: bundle.generation.0,
            key_pairs: bundle
                .key_pairs
                .iter()
                .map(|pair| v1::KeyPair {
                    fullchain: pair.fullchain.clone(),
                    private_key: pair.private_key.expose().to_vec(),
                })
                .collect(),
        }
    }
}
