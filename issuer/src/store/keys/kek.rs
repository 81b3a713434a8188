//! The key-encryption key, and what its file must be like.

use std::{
    fmt, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{KEY, NoRandomness, random};

/// Name of the systemd credential that goes before the file.
pub const CREDENTIAL: &str = "certwell-kek";

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
    /// The file or directory that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Unreadable { path, .. }
            | Self::Open { path, .. }
            | Self::Owner { path, .. }
            | Self::Beside { path, .. }
            | Self::Form { path } => path,
            Self::Directory { directory } => directory,
        }
    }

    /// Whether it is the system that refuses, and not what the key or its place is like.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

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

    pub(in crate::store) fn bytes(&self) -> &[u8; KEY] {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
