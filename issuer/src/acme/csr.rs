//! Private keys and certificate signing requests (RFC 2986).

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair as RsaKey, KeySize},
};
use certwell_proto::{Identifier, Secret};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

use x509_parser::{
    certificate::X509Certificate, certification_request::X509CertificationRequest,
    prelude::FromDer as _, public_key::PublicKey, x509::SubjectPublicKeyInfo,
};

use crate::config::KeyType;

/// A new private key (PKCS#8) and the CSR for these identifiers, both DER. The subject is empty: CAs read the
/// SANs alone.
///
/// # Errors
/// When the random generator fails, or an identifier can't be written as IA5.
pub fn make(
    key_type: KeyType,
    identifiers: &[Identifier],
) -> Result<(Secret, Vec<u8>), rcgen::Error> {
    let key = match key_type {
        KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        KeyType::Rsa2048 => rsa()?,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = identifiers
        .iter()
        .map(|identifier| match identifier {
            Identifier::Dns(name) => name.as_str().try_into().map(SanType::DnsName),
            Identifier::Ip(address) => Ok(SanType::IpAddress(*address)),
        })
        .collect::<Result<_, _>>()?;
    let csr = params.serialize_request(&key)?;
    Ok((Secret::new(key.serialize_der()), csr.der().to_vec()))
}

/// What kind of key a CSR is for; `None` when it is none of ours.
pub fn key_type_of_csr(csr: &[u8]) -> Option<KeyType> {
    let (_, parsed) = X509CertificationRequest::from_der(csr).ok()?;
    key_type(&parsed.certification_request_info.subject_pki)
}

/// What kind of key a certificate is for; `None` when it is none of ours.
pub fn key_type_of_leaf(leaf: &[u8]) -> Option<KeyType> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    key_type(parsed.public_key())
}

fn key_type(spki: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    match spki.parsed().ok()? {
        PublicKey::EC(point) => match point.key_size() {
            256 => Some(KeyType::EcdsaP256),
            384 => Some(KeyType::EcdsaP384),
            _ => None,
        },
        PublicKey::RSA(_) => Some(KeyType::Rsa2048),
        _ => None,
    }
}

fn rsa() -> Result<KeyPair, rcgen::Error> {
    let failed = |_| rcgen::Error::KeyGenerationUnavailable;
    let key = RsaKey::generate(KeySize::Rsa2048).map_err(failed)?;
    let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_ref().into(), &rcgen::PKCS_RSA_SHA256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_type_makes_a_csr_with_all_identifiers() {
        let identifiers: Vec<Identifier> = ["media.hachyderm.io", "192.0.2.7"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for key_type in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let (key, csr) = make(key_type, &identifiers).unwrap();
            let parsed =
                rcgen::CertificateSigningRequestParams::from_der(&csr.clone().into()).unwrap();
            assert_eq!(parsed.params.subject_alt_names.len(), 2, "{key_type:?}");
            assert!(!key.expose().is_empty());
            assert_eq!(key_type_of_csr(&csr), Some(key_type));
        }
    }
}
