//! The text form of a join token: `certwell1.` and the base64url of a checksum and the message.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;

use crate::{Fingerprint, FleetName, HostName, Secret, fingerprint::sha256, v1};

const PREFIX: &str = "certwell1.";
const CHECKSUM: usize = 4;

/// What a host needs to join: a single-use secret, whom to trust, and where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// 32 random bytes.
    pub secret: Secret,
    /// Of the fleet CA's certificate.
    pub ca_pin: Fingerprint,
    /// `host:port`, at least one.
    pub endpoints: Vec<String>,
    /// The host that may join with it.
    pub host: HostName,
    /// The fleet that it joins.
    pub fleet: FleetName,
}

/// A text that is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Another kind of text.
    #[error(
        "it does not begin with {PREFIX:?}; paste the whole line that `certwell token create` printed"
    )]
    Prefix,
    /// Cut short or mistyped.
    #[error(
        "it is damaged (cut short or mistyped); copy it again, or make a new one with `certwell token create`"
    )]
    Damaged,
    /// Whole, yet not usable.
    #[error("it holds a wrong {0}; make a new one with `certwell token create`")]
    Field(String),
}

impl JoinToken {
    /// The text to be shown once. Not `Display`, so that no log prints it by accident.
    pub fn to_text(&self) -> String {
        let message = v1::JoinToken {
            secret: self.secret.expose().to_vec(),
            ca_pin: self.ca_pin.0.to_vec(),
            endpoints: self.endpoints.clone(),
            host: self.host.to_string(),
            fleet: self.fleet.to_string(),
        }
        .encode_to_vec();
        let mut bytes = sha256(&message)[..CHECKSUM].to_vec();
        bytes.extend_from_slice(&message);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| TokenError::Damaged)?;
        let (checksum, message) = bytes
            .split_at_checked(CHECKSUM)
            .ok_or(TokenError::Damaged)?;
        if checksum != &sha256(message)[..CHECKSUM] {
            return Err(TokenError::Damaged);
        }
        let wire = v1::JoinToken::decode(message).map_err(|_| TokenError::Damaged)?;
        let field = |e: &dyn fmt::Display| TokenError::Field(e.to_string());
        if wire.secret.len() != 32 {
            return Err(field(&"secret"));
        }
        if wire.endpoints.is_empty() {
            return Err(field(&"list of endpoints (it is empty)"));
        }
        Ok(Self {
            ca_pin: Fingerprint::from_wire("CA pin", &wire.ca_pin).map_err(|e| field(&e))?,
            host: HostName::from_wire("host", &wire.host).map_err(|e| field(&e))?,
            fleet: FleetName::from_wire("fleet", &wire.fleet).map_err(|e| field(&e))?,
            endpoints: wire.endpoints.clone(),
            secret: Secret::new(wire.secret.clone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken {
            secret: Secret::new(vec![7; 32]),
            ca_pin: Fingerprint([9; 32]),
            endpoints: vec!["127.0.0.10:7443".into()],
            host: "sally".parse().unwrap(),
            fleet: "hachyderm".parse().unwrap(),
        }
    }

    #[test]
    fn text_form_reads_back_even_with_a_newline() {
        let text = token().to_text();
        assert_eq!(format!("{text}\n").parse::<JoinToken>(), Ok(token()));
    }

    #[test]
    fn any_single_changed_or_missing_character_is_noticed() {
        let text = token().to_text();
        for at in PREFIX.len()..text.len() - 1 {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                changed.parse::<JoinToken>(),
                Err(TokenError::Damaged),
                "at {at}"
            );
            assert!(text[..at].parse::<JoinToken>().is_err());
        }
        assert_eq!("hello".parse::<JoinToken>(), Err(TokenError::Prefix));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", token()).contains("7, 7"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("{PREFIX}{text}").parse::<JoinToken>();
        }
    }
}
