//! The recovery key: its text form, and reading back what people make of it.

use std::{fmt, str::FromStr};

use certwell_proto::fingerprint::sha256;
use zeroize::Zeroizing;

use super::{KEY, NoRandomness, random};

const PREFIX: &str = "certwell-recovery";
/// Without i, l, o and u, which are misread (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHECKSUM: usize = 3;
const GROUP: usize = 4;

/// The key that opens a store, or a copy of it, when the key-encryption key is lost.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; KEY]>);

/// A text that is no recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// Another kind of text.
    #[error(
        "it does not begin with {PREFIX:?}; give the whole line that `certwell-issuer init` printed"
    )]
    Prefix,
    /// Mistyped.
    #[error("{0:?} is no character of a recovery key")]
    Character(char),
    /// Cut short, or two lines in one.
    #[error("it has {0} characters after {PREFIX:?}, not 56")]
    Length(usize),
    /// Mistyped.
    #[error("its checksum doesn't fit: a character is mistyped")]
    Checksum,
}

impl RecoveryKey {
    /// A new random one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        random().map(Self)
    }

    /// The text to be shown once: `certwell-recovery-` and 14 groups of 4. Not `Display`, so that no log prints
    /// it by accident.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.0.to_vec());
        bytes.extend_from_slice(&sha256(self.0.as_slice())[..CHECKSUM]);
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str(PREFIX);
        // 35 bytes are 56 characters of 5 bits, with none left over.
        let (mut held, mut bits, mut count) = (0_u32, 0_u32, 0_usize);
        for byte in bytes.iter() {
            held = (held << 8 | u32::from(*byte)) & 0xfff;
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                if count.is_multiple_of(GROUP) {
                    text.push('-');
                }
                text.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
                count += 1;
            }
        }
        text
    }

    pub(in crate::store) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl FromStr for RecoveryKey {
    type Err = RecoveryKeyError;

    /// Takes what people make of it: capitals, spaces, missing hyphens, `o` for 0, `i` and `l` for 1.
    fn from_str(text: &str) -> Result<Self, RecoveryKeyError> {
        let lower = Zeroizing::new(text.trim().to_ascii_lowercase());
        let body = lower.strip_prefix(PREFIX).ok_or(RecoveryKeyError::Prefix)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY + CHECKSUM + 1));
        let (mut held, mut bits, mut count) = (0_u32, 0_u32, 0_usize);
        for c in body.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            held = (held << 5 | value(c).ok_or(RecoveryKeyError::Character(c))?) & 0xfff;
            bits += 5;
            count += 1;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits & 0xff) as u8);
            }
        }
        let whole = bytes.split_first_chunk::<KEY>().filter(|_| count == 56);
        let (key, checksum) = whole.ok_or(RecoveryKeyError::Length(count))?;
        if checksum != &sha256(key)[..CHECKSUM] {
            return Err(RecoveryKeyError::Checksum);
        }
        Ok(Self(Zeroizing::new(*key)))
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(redacted)")
    }
}

fn value(c: char) -> Option<u32> {
    let c = match c {
        'o' => '0',
        'i' | 'l' => '1',
        other => other,
    };
    ALPHABET
        .iter()
        .position(|known| char::from(*known) == c)
        .and_then(|at| u32::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_recovery_key_reads_back_from_what_people_make_of_it() {
        let key = RecoveryKey::generate().unwrap();
        let text = key.to_text();
        assert_eq!(text.len(), PREFIX.len() + 56 + 14);
        for variant in [
            text.to_string(),
            format!("  {}\n", text.to_uppercase()),
            text.replace('0', "o").replace('1', "l"),
            format!("{PREFIX} {}", text[PREFIX.len()..].replace('-', " ")),
        ] {
            assert_eq!(
                variant.parse::<RecoveryKey>().unwrap().0,
                key.0,
                "{variant}"
            );
        }
    }

    #[test]
    fn any_single_mistyped_or_missing_character_is_noticed() {
        let text = RecoveryKey(Zeroizing::new([0x5a; KEY])).to_text();
        for at in PREFIX.len()..text.len() {
            if text.as_bytes()[at] == b'-' {
                continue;
            }
            let mut typed = text.as_bytes().to_vec();
            typed[at] = if typed[at] == b'7' { b'8' } else { b'7' };
            let typed = String::from_utf8(typed).unwrap();
            assert_eq!(
                typed.parse::<RecoveryKey>().unwrap_err(),
                RecoveryKeyError::Checksum,
                "at {at}"
            );
            let shorter = format!("{}{}", &text[..at], &text[at + 1..]);
            assert_eq!(
                shorter.parse::<RecoveryKey>().unwrap_err(),
                RecoveryKeyError::Length(55)
            );
        }
        assert_eq!(
            "hello".parse::<RecoveryKey>().unwrap_err(),
            RecoveryKeyError::Prefix
        );
        assert_eq!(
            format!("{PREFIX}-u").parse::<RecoveryKey>().unwrap_err(),
            RecoveryKeyError::Character('u')
        );
    }

    proptest! {
        #[test]
        fn every_key_has_its_text(bytes in any::<[u8; KEY]>()) {
            let text = RecoveryKey(Zeroizing::new(bytes)).to_text();
            prop_assert_eq!(*text.parse::<RecoveryKey>().unwrap().0, bytes);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<RecoveryKey>();
            let _ = format!("{PREFIX}{text}").parse::<RecoveryKey>();
        }
    }
}
