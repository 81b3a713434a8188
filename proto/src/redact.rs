//! Debug of the messages that carry secrets (their derived one is switched off in build.rs).

use std::fmt;

use crate::v1;

impl fmt::Debug for v1::KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field(
                "fullchain",
                &format_args!("{} certificates", self.fullchain.len()),
            )
            .field("private_key", &format_args!("redacted"))
            .finish()
    }
}

impl fmt::Debug for v1::JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("host", &self.host)
            .field("endpoints", &self.endpoints)
            .field("secret", &format_args!("redacted"))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest")
            .field("host_info", &self.host_info)
            .field("token_secret", &format_args!("redacted"))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken")
            .field("host", &self.host)
            .field("token", &format_args!("redacted"))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::PageResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageResponse")
            .field("url", &self.url)
            .field("token", &format_args!("redacted"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_prints_its_secret() {
        let secret = b"0123456789abcdef0123456789abcdef".to_vec();
        let printed = [
            format!(
                "{:?}",
                v1::KeyPair {
                    fullchain: vec![],
                    private_key: secret.clone()
                }
            ),
            format!(
                "{:?}",
                v1::Bundle {
                    key_pairs: vec![v1::KeyPair {
                        fullchain: vec![],
                        private_key: secret.clone()
                    }],
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                v1::JoinToken {
                    secret: secret.clone(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                v1::EnrollRequest {
                    token_secret: secret.clone(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                v1::CreatedToken {
                    token: "0123456789".into(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                v1::PageResponse {
                    token: "0123456789".into(),
                    ..Default::default()
                }
            ),
        ];
        for text in printed {
            assert!(
                !text.contains("48, 49, 50") && !text.contains("0123456789"),
                "{text}"
            );
        }
    }
}
