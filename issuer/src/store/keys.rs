//! The two keys that open the data key: the key-encryption key, a file or a systemd credential that the daemon
//! reads at each start; and the recovery key, shown once by `init` and kept by people.

use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certwell_proto::fingerprint::sha256;
use zeroize::Zeroizing;

/// Bytes of either key.
pub const KEY: usize = 32;

/// Name of the systemd credential that goes before the file.
pub const CREDENTIAL: &str = "certwell-kek";

const PREFIX: &str = "certwell-recovery";
/// Without i, l, o and u, which are misread (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHECKSUM: usize = 3;
const GROUP: usize = 4;

/// Why the key-encryption key isn't accepted.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No such file.
    #[error(
        "the key-encryption key {path} doesn't exist; put it back from where it is kept safe, or correct key-encryption-key"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The system doesn't let us read it.
    #[error("can't read the key-encryption key {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key-encryption key {path} is open to others (mode {mode:04o}); run: chmod 600 {path}"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else could replace it.
    #[error(
        "the key-encryption key {path} belongs to user {owner}; it must belong to root or to user {ours}, who runs this"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user.
        ours: u32,
    },
    /// Anybody could replace it.
    #[error(
        "anybody may write to {directory}, where the key-encryption key lies; run: chmod o-w {directory}"
    )]
    Directory {
        /// The file's directory.
        directory: PathBuf,
    },
    /// One copied directory would hold lock and key.
    #[error(
        "the key-encryption key {path} lies inside the state directory {state}, so that any copy of it could be opened; \
         move it elsewhere and correct key-encryption-key"
    )]
    Beside {
        /// The file.
        path: PathBuf,
        /// The state directory.
        state: PathBuf,
    },
    /// It isn't a key.
    #[error("{path} holds no key-encryption key: 32 bytes are needed, raw or in base64")]
    Form {
        /// The file.
        path: PathBuf,
    },
}

impl KeyError {
    /// Whether it is the system that refuses, and not what the key or its place is like.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness;

/// The key-encryption key.
#[derive(Clone)]
pub struct Kek(Zeroizing<[u8; KEY]>);

impl Kek {
    /// A new random one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, NoRandomness> {
        random().map(Self)
    }

    /// Reads the systemd credential if there is one in `credentials` (`$CREDENTIALS_DIRECTORY`), else the file.
    ///
    /// # Errors
    /// When it is missing or no key, or the file is open to others or lies inside `state`.
    pub fn load(path: &Path, credentials: Option<&Path>, state: &Path) -> Result<Self, KeyError> {
        if let Some(credential) = credentials
            .map(|directory| directory.join(CREDENTIAL))
            .filter(|path| path.exists())
        {
            // systemd made the directory for us alone: its modes are not ours to judge.
            return Self::read(&credential);
        }
        check_place(path, state)?;
        Self::read(path)
    }

    fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| unreadable(path, source);
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        fs::File::open(path)
            .map_err(unreadable)?
            .take(200)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Self::parse(&bytes).ok_or_else(|| KeyError::Form {
            path: path.to_owned(),
        })
    }

    /// 32 raw bytes, or their base64 with white space around.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(raw) = <[u8; KEY]>::try_from(bytes) {
            return Some(Self(Zeroizing::new(raw)));
        }
        let decoded = Zeroizing::new(STANDARD.decode(bytes.trim_ascii()).ok()?);
        decoded
            .as_slice()
            .try_into()
            .ok()
            .map(|raw| Self(Zeroizing::new(raw)))
    }

    /// What `init` writes into the file: one line of base64.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()) + "\n")
    }

    pub(super) fn bytes(&self) -> &[u8; KEY] {
        &self.0
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(redacted)")
    }
}

fn unreadable(path: &Path, source: io::Error) -> KeyError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path },
        _ => KeyError::Unreadable { path, source },
    }
}

/// Owner, mode, directory, and that it isn't kept with what it locks.
fn check_place(path: &Path, state: &Path) -> Result<(), KeyError> {
    let real = path
        .canonicalize()
        .map_err(|source| unreadable(path, source))?;
    let metadata = fs::metadata(&real).map_err(|source| unreadable(path, source))?;
    if state
        .canonicalize()
        .is_ok_and(|state| real.starts_with(state))
    {
        return Err(KeyError::Beside {
            path: path.to_owned(),
            state: state.to_owned(),
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let ours = nix::unistd::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != ours {
        return Err(KeyError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            ours,
        });
    }
    if let Some(directory) = real.parent() {
        let mode = fs::metadata(directory)
            .map_err(|source| unreadable(directory, source))?
            .mode();
        let sticky = mode & 0o1000 != 0;
        if mode & 0o002 != 0 && !sticky {
            return Err(KeyError::Directory {
                directory: directory.to_owned(),
            });
        }
    }
    Ok(())
}

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

    pub(super) fn bytes(&self) -> &[u8; KEY] {
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

fn random() -> Result<Zeroizing<[u8; KEY]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; KEY]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(bytes)
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

    #[test]
    fn a_key_is_read_raw_or_in_base64() {
        let key = Kek::generate().unwrap();
        assert_eq!(Kek::parse(key.bytes()).unwrap().0, key.0);
        assert_eq!(Kek::parse(key.to_text().as_bytes()).unwrap().0, key.0);
        for wrong in [
            &b""[..],
            b"short",
            &[7; 33],
            STANDARD.encode([7; 31]).as_bytes(),
        ] {
            assert!(Kek::parse(wrong).is_none());
        }
    }

    #[test]
    fn debug_tells_nothing() {
        let texts = [
            format!("{:?}", Kek::generate().unwrap()),
            format!("{:?}", RecoveryKey::generate().unwrap()),
        ];
        assert_eq!(texts, ["Kek(redacted)", "RecoveryKey(redacted)"]);
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
