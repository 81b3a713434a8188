//! The token of the page: from the file that the configuration names, or one that the issuer makes for itself.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// In the state directory, where no `token-file` is set.
pub const FILE: &str = "page.token";
/// Nobody guesses so many characters.
const SHORTEST: usize = 20;
const LONGEST: u64 = 1024;

/// Why the token isn't accepted.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The system refuses.
    #[error(
        "the page's token {path} can't be read or made: {source}; correct token-file in [page]"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("the page's token {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else could replace it.
    #[error(
        "the page's token {path} belongs to user {owner}; it must belong to root or to user {ours}, who runs this"
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
        "anybody may write to {directory}, where the page's token lies; run: chmod o-w {directory}"
    )]
    Directory {
        /// The file's directory.
        directory: PathBuf,
    },
    /// It isn't one.
    #[error(
        "{path} holds no token: one line of {SHORTEST} characters or more is needed, without spaces; \
         `openssl rand -base64 32` prints one"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("the random generator failed")]
    Random,
}

/// What whoever looks, or changes something, must know.
#[derive(Clone)]
pub struct PageToken(Zeroizing<String>);

impl PageToken {
    /// Reads the token.
    ///
    /// # Errors
    /// When the file can't be read, is open to others, belongs to somebody else, or holds no token.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(io)?;
        // Of the open file: what is judged is what is read.
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let ours = nix::unistd::geteuid().as_raw();
        if metadata.uid() != 0 && metadata.uid() != ours {
            return Err(TokenError::Owner {
                path: path.to_owned(),
                owner: metadata.uid(),
                ours,
            });
        }
        check_directory(path).map_err(io)?.map_or(Ok(()), Err)?;
        let mut text = Zeroizing::new(String::new());
        file.take(LONGEST).read_to_string(&mut text).map_err(io)?;
        Self::parse(&text).ok_or_else(|| TokenError::Form {
            path: path.to_owned(),
        })
    }

    /// Reads the issuer's own token in its state directory, or makes it.
    ///
    /// # Errors
    /// As [`PageToken::load`], and when it can't be made.
    pub fn own(state: &Path) -> Result<Self, TokenError> {
        let path = state.join(FILE);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(&path),
            _ => Self::load(&path),
        }
    }

    fn make(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Zeroizing::new([0_u8; 32]);
        SystemRandom::new()
            .fill(bytes.as_mut_slice())
            .map_err(|_| TokenError::Random)?;
        let token = Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())));
        // Whole or not there: it is read at each start.
        let new = path.with_extension("token.new");
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(io)?;
        file.write_all(token.0.as_bytes()).map_err(io)?;
        file.write_all(b"\n").map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&new, path).map_err(io)?;
        Ok(token)
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether this is it, in a time that doesn't tell how much of it is right.
    pub fn is(&self, given: &str) -> bool {
        let hash = |text: &str| digest::digest(&digest::SHA256, text.trim().as_bytes());
        verify_slices_are_equal(hash(&self.0).as_ref(), hash(given).as_ref()).is_ok()
    }

    /// The key that signs sessions: another token ends them all.
    pub(super) fn session_key(&self) -> hmac::Key {
        let token = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let derived = hmac::sign(&token, b"certwell page sessions 1");
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }

    /// To be shown to whoever may have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageToken(redacted)")
    }
}

/// Where anybody may write, the file could be exchanged.
fn check_directory(path: &Path) -> io::Result<Option<TokenError>> {
    let real = path.canonicalize()?;
    let Some(directory) = real.parent() else {
        return Ok(None);
    };
    let mode = fs::metadata(directory)?.mode();
    let sticky = mode & 0o1000 != 0;
    Ok(
        (mode & 0o002 != 0 && !sticky).then(|| TokenError::Directory {
            directory: directory.to_owned(),
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let state = tempfile::tempdir().unwrap();
        let made = PageToken::own(state.path()).unwrap();
        let mode = fs::metadata(state.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = PageToken::own(state.path()).unwrap();
        assert_eq!(made.reveal(), again.reveal());
        assert!(made.reveal().len() >= 40);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(
            PageToken::own(other.path()).unwrap().reveal(),
            made.reveal()
        );
        assert_eq!(format!("{made:?}"), "PageToken(redacted)");
    }

    #[test]
    fn only_the_whole_token_is_it() {
        let token = PageToken::parse("correct-horse-battery-staple\n").unwrap();
        assert!(token.is("correct-horse-battery-staple"));
        assert!(token.is(" correct-horse-battery-staple\r\n"));
        for wrong in [
            "",
            "correct",
            "correct-horse-battery-staplf",
            "CORRECT-HORSE-BATTERY-STAPLE",
        ] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_others_could_read_or_exchange_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let text = "correct-horse-battery-staple";
        for mode in [0o644, 0o640, 0o604, 0o620, 0o602] {
            put(&path, text, mode);
            let refused = PageToken::load(&path);
            assert!(
                matches!(refused, Err(TokenError::Open { .. })),
                "{mode:o} {refused:?}"
            );
        }
        put(&path, text, 0o400);
        PageToken::load(&path).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let refused = PageToken::load(&path);
            assert!(
                matches!(refused, Err(TokenError::Owner { owner: 65_534, .. })),
                "{refused:?}"
            );
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            PageToken::load(&path),
            Err(TokenError::Directory { .. })
        ));
    }

    #[test]
    fn what_is_short_or_no_line_is_no_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for text in [
            "",
            "short",
            "nineteen-characters",
            "two words that are long enough",
            "ümläuts-ümläuts-ümläuts",
        ] {
            put(&path, text, 0o600);
            let refused = PageToken::load(&path);
            assert!(
                matches!(refused, Err(TokenError::Form { .. })),
                "{text:?} {refused:?}"
            );
        }
        let gone = PageToken::load(&directory.path().join("nowhere"));
        assert!(matches!(gone, Err(TokenError::Io { .. })));
    }
}
