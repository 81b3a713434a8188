//! AES-256-GCM around every secret, before it reaches a database.
//!
//! ```text
//! sealed  = version (1) | key id (16) | nonce (12, random) | ciphertext | tag (16)
//! bound   = version, kind, name, generation, key id, each behind its length, as additional data
//! ```
//! A sealed secret that is moved to another row, or cut, or altered by one bit, doesn't open. The *data key*
//! seals the secrets; it is stored sealed itself, under the key-encryption key and under the recovery key.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use certwell_proto::Secret;
use zeroize::Zeroizing;

use super::keys::{KEY, Kek, RecoveryKey};

const VERSION: u8 = 1;
const KEY_ID: usize = 16;
const HEADER: usize = 1 + KEY_ID + NONCE_LEN;

/// Which secret it is. Opening asks for the same label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// What kind of secret, as in `certificate-key`.
    pub kind: &'static str,
    /// Whose: the certificate's name, the directory's URL …
    pub name: &'a str,
    /// Of which generation; 0 for what has none.
    pub generation: u64,
}

/// Why a secret can't be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Damaged, moved from another row, or sealed under another key.
    #[error("it was altered, or sealed under another key")]
    Refused,
    /// Sealed by a version that this one doesn't know.
    #[error("it is sealed in a form that this version doesn't know")]
    Form,
    /// The cryptographic library failed.
    #[error("the cryptographic library refused to work")]
    Library,
}

/// The key that seals every secret of one store.
pub struct DataKey {
    id: [u8; KEY_ID],
    bytes: Zeroizing<[u8; KEY]>,
    cipher: LessSafeKey,
}

impl DataKey {
    /// A new random one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut id = [0; KEY_ID];
        let mut bytes = Zeroizing::new([0; KEY]);
        rand::fill(&mut id).map_err(|_| SealError::Library)?;
        rand::fill(bytes.as_mut_slice()).map_err(|_| SealError::Library)?;
        Self::new(id, bytes)
    }

    fn new(id: [u8; KEY_ID], bytes: Zeroizing<[u8; KEY]>) -> Result<Self, SealError> {
        let cipher = cipher(&bytes)?;
        Ok(Self { id, bytes, cipher })
    }

    /// Seals a secret.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, label: Label<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        seal(&self.cipher, &self.id, label, secret)
    }

    /// Opens what `seal` made under the same label.
    ///
    /// # Errors
    /// When it was altered, or belongs to another label or key.
    pub fn open(&self, label: Label<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let (id, secret) = open(&self.cipher, label, sealed)?;
        if id == self.id {
            Ok(secret)
        } else {
            Err(SealError::Refused)
        }
    }

    /// The data key itself, sealed under the key-encryption key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn wrap(&self, under: &Kek) -> Result<Vec<u8>, SealError> {
        seal(
            &cipher(under.bytes())?,
            &self.id,
            KEK_LABEL,
            self.bytes.as_slice(),
        )
    }

    /// The data key itself, sealed under the recovery key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn wrap_for_recovery(&self, under: &RecoveryKey) -> Result<Vec<u8>, SealError> {
        seal(
            &cipher(under.bytes())?,
            &self.id,
            RECOVERY_LABEL,
            self.bytes.as_slice(),
        )
    }

    /// Opens what `wrap` made.
    ///
    /// # Errors
    /// When it is another key-encryption key, or the wrapped key is damaged.
    pub fn unwrap(wrapped: &[u8], under: &Kek) -> Result<Self, SealError> {
        Self::unwrapped(open(&cipher(under.bytes())?, KEK_LABEL, wrapped)?)
    }

    /// Opens what `wrap_for_recovery` made.
    ///
    /// # Errors
    /// When it is another recovery key, or the wrapped key is damaged.
    pub fn recover(wrapped: &[u8], under: &RecoveryKey) -> Result<Self, SealError> {
        Self::unwrapped(open(&cipher(under.bytes())?, RECOVERY_LABEL, wrapped)?)
    }

    fn unwrapped((id, secret): ([u8; KEY_ID], Secret)) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(secret.expose().try_into().map_err(|_| SealError::Form)?);
        Self::new(id, bytes)
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(redacted)")
    }
}

const KEK_LABEL: Label<'static> = Label {
    kind: "data-key",
    name: "key-encryption-key",
    generation: 0,
};
const RECOVERY_LABEL: Label<'static> = Label {
    kind: "data-key",
    name: "recovery-key",
    generation: 0,
};

fn cipher(key: &[u8; KEY]) -> Result<LessSafeKey, SealError> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::Library)?;
    Ok(LessSafeKey::new(key))
}

fn seal(
    cipher: &LessSafeKey,
    id: &[u8; KEY_ID],
    label: Label<'_>,
    secret: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| SealError::Library)?;
    let mut sealed = Vec::with_capacity(HEADER + secret.len() + AES_256_GCM.tag_len());
    sealed.push(VERSION);
    sealed.extend_from_slice(id);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(secret);
    let tag = cipher
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound(id, label)),
            &mut sealed[HEADER..],
        )
        .map_err(|_| SealError::Library)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(
    cipher: &LessSafeKey,
    label: Label<'_>,
    sealed: &[u8],
) -> Result<([u8; KEY_ID], Secret), SealError> {
    let (version, rest) = sealed.split_first().ok_or(SealError::Form)?;
    if *version != VERSION {
        return Err(SealError::Form);
    }
    let (id, rest) = rest.split_first_chunk::<KEY_ID>().ok_or(SealError::Form)?;
    let (nonce, rest) = rest
        .split_first_chunk::<NONCE_LEN>()
        .ok_or(SealError::Form)?;
    let mut buffer = Zeroizing::new(rest.to_vec());
    let secret = cipher
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(bound(id, label)),
            &mut buffer,
        )
        .map_err(|_| SealError::Refused)?;
    Ok((*id, Secret::new(secret.to_vec())))
}

/// No two labels give the same bytes, whatever their texts hold: each part stands behind its length.
fn bound(id: &[u8; KEY_ID], label: Label<'_>) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for part in [
        label.kind.as_bytes(),
        label.name.as_bytes(),
        &label.generation.to_be_bytes(),
        id,
    ] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label<'static> = Label {
        kind: "certificate-key",
        name: "media.hachyderm.io",
        generation: 7,
    };
    const SECRET: &[u8] = b"a private key in PKCS#8";

    #[test]
    fn what_was_sealed_opens_under_its_own_label() {
        let key = DataKey::generate().unwrap();
        let sealed = key.seal(LABEL, SECRET).unwrap();
        assert_eq!(key.open(LABEL, &sealed).unwrap().expose(), SECRET);
    }

    #[test]
    fn another_label_is_refused() {
        let key = DataKey::generate().unwrap();
        let sealed = key.seal(LABEL, SECRET).unwrap();
        for label in [
            Label {
                kind: "account-key",
                ..LABEL
            },
            Label {
                name: "media.hachyderm.i",
                ..LABEL
            },
            Label {
                generation: 8,
                ..LABEL
            },
        ] {
            assert_eq!(
                key.open(label, &sealed).unwrap_err(),
                SealError::Refused,
                "{label:?}"
            );
        }
    }

    #[test]
    fn texts_that_only_differ_in_where_they_are_cut_are_told_apart() {
        let key = DataKey::generate().unwrap();
        let sealed = key
            .seal(
                Label {
                    kind: "ab",
                    name: "c",
                    generation: 0,
                },
                SECRET,
            )
            .unwrap();
        assert!(
            key.open(
                Label {
                    kind: "a",
                    name: "bc",
                    generation: 0
                },
                &sealed
            )
            .is_err()
        );
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let key = DataKey::generate().unwrap();
        let sealed = key.seal(LABEL, SECRET).unwrap();
        for at in 0..sealed.len() {
            for bit in [0x01, 0x80] {
                let mut altered = sealed.clone();
                altered[at] ^= bit;
                assert!(key.open(LABEL, &altered).is_err(), "byte {at}");
            }
            assert!(key.open(LABEL, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_secret_never_seals_to_the_same_bytes() {
        let key = DataKey::generate().unwrap();
        assert_ne!(
            key.seal(LABEL, SECRET).unwrap(),
            key.seal(LABEL, SECRET).unwrap()
        );
    }

    #[test]
    fn another_data_key_is_refused() {
        let sealed = DataKey::generate().unwrap().seal(LABEL, SECRET).unwrap();
        assert_eq!(
            DataKey::generate()
                .unwrap()
                .open(LABEL, &sealed)
                .unwrap_err(),
            SealError::Refused
        );
    }

    #[test]
    fn the_data_key_opens_under_either_wrapping_key_and_no_other() {
        let (kek, recovery) = (Kek::generate().unwrap(), RecoveryKey::generate().unwrap());
        let key = DataKey::generate().unwrap();
        let sealed = key.seal(LABEL, SECRET).unwrap();
        let (wrapped, for_recovery) = (
            key.wrap(&kek).unwrap(),
            key.wrap_for_recovery(&recovery).unwrap(),
        );

        for opened in [
            DataKey::unwrap(&wrapped, &kek),
            DataKey::recover(&for_recovery, &recovery),
        ] {
            assert_eq!(
                opened.unwrap().open(LABEL, &sealed).unwrap().expose(),
                SECRET
            );
        }
        assert!(DataKey::unwrap(&wrapped, &Kek::generate().unwrap()).is_err());
        assert!(DataKey::recover(&for_recovery, &RecoveryKey::generate().unwrap()).is_err());
        assert!(DataKey::unwrap(&for_recovery, &kek).is_err());
        assert!(DataKey::recover(&wrapped, &recovery).is_err());
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(
            format!("{:?}", DataKey::generate().unwrap()),
            "DataKey(redacted)"
        );
    }
}
