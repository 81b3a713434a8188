//! The two keys that open the data key: the key-encryption key, a file or a systemd credential that the daemon
//! reads at each start; and the recovery key, shown once by `init` and kept by people.

mod kek;
mod recovery;

use aws_lc_rs::rand;
use zeroize::Zeroizing;

pub use kek::{CREDENTIAL, Kek, KeyError};
pub use recovery::{RecoveryKey, RecoveryKeyError};

/// Bytes of either key.
pub const KEY: usize = 32;

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no randomness")]
pub struct NoRandomness;

fn random() -> Result<Zeroizing<[u8; KEY]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; KEY]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_tells_nothing() {
        let texts = [
            format!("{:?}", Kek::generate().unwrap()),
            format!("{:?}", RecoveryKey::generate().unwrap()),
        ];
        assert_eq!(texts, ["Kek(redacted)", "RecoveryKey(redacted)"]);
    }
}
