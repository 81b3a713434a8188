//! ECDSA P-256 keys of this host: the bound key, made once, and one for each identity.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use certwell_proto::{FleetName, HostName, Secret, identity::Role, pem};
use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData as _, SanType};
use zeroize::Zeroizing;

/// A key pair that never leaves this host.
pub struct HostKey {
    pair: rcgen::KeyPair,
}

/// A key that can't be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key from the generator.
    #[error(
        "no key can be made: {0}; try again, and if it stays so see whether /dev/urandom can be read"
    )]
    Make(String),
    /// Not what was stored.
    #[error("it holds no ECDSA P-256 key in PKCS#8: {0}")]
    Read(String),
    /// The request can't be made.
    #[error("no certificate request can be made: {0}")]
    Request(String),
    /// Signing failed.
    #[error(
        "the key can't sign; it may be damaged: move the identity directory aside, and enroll anew with `certwell-agent enroll TOKEN`"
    )]
    Sign,
}

impl HostKey {
    /// A new one.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|e| KeyError::Make(e.to_string()))?;
        Ok(Self { pair })
    }

    /// From its PEM text.
    ///
    /// # Errors
    /// When that holds no such key.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let read = |e: &dyn std::fmt::Display| KeyError::Read(e.to_string());
        let der = pem::read_private_key(text).map_err(|e| read(&e))?;
        let rustls_pki_types::PrivateKeyDer::Pkcs8(pkcs8) = &der else {
            return Err(read(&"another encoding"));
        };
        let pair =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(pkcs8, &rcgen::PKCS_ECDSA_P256_SHA256)
                .map_err(|e| read(&e))?;
        Ok(Self { pair })
    }

    /// Its PEM text, wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::private_key(self.to_pkcs8().expose())
    }

    /// PKCS#8, DER.
    pub fn to_pkcs8(&self) -> Secret {
        Secret::new(self.pair.serialize_der())
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public(&self) -> Vec<u8> {
        self.pair.subject_public_key_info()
    }

    /// PKCS#10, DER, for the agent identity of `host`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn identity_request(
        &self,
        fleet: &FleetName,
        host: &HostName,
    ) -> Result<Vec<u8>, KeyError> {
        let request = |e: rcgen::Error| KeyError::Request(e.to_string());
        let identity = certwell_proto::identity::Identity {
            fleet: fleet.clone(),
            role: Role::Agent,
            name: host.clone(),
        };
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, host.as_str());
        params.distinguished_name = subject;
        params.subject_alt_names = vec![SanType::URI(
            identity.to_string().as_str().try_into().map_err(request)?,
        )];
        Ok(params
            .serialize_request(&self.pair)
            .map_err(request)?
            .der()
            .to_vec())
    }

    /// ECDSA P-256 SHA-256, ASN.1.
    ///
    /// # Errors
    /// When the key can't sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, self.to_pkcs8().expose())
                .map_err(|_| KeyError::Sign)?;
        let signature = key
            .sign(&SystemRandom::new(), message)
            .map_err(|_| KeyError::Sign)?;
        Ok(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_proves_itself() {
        let key = HostKey::generate().unwrap();
        let again = HostKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(key.public(), again.public());
        let proof = again.sign(b"message").unwrap();
        certwell_proto::identity::verify_proof("proof", &key.public(), b"message", &proof).unwrap();
        assert!(HostKey::from_pem(b"junk").is_err());
    }
}
