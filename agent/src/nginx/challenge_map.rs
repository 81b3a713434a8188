//! The map by which nginx answers HTTP-01 (RFC 8555 8.3) for the names of this host, without any token on any host.

use std::{io, path::Path};

use certwell_proto::{FieldError, Identifier, v1};

/// The names for which an ACME account validates here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    thumbprint: String,
    names: Vec<Identifier>,
}

impl Challenge {
    /// From the wire.
    ///
    /// # Errors
    /// When the thumbprint isn't the base64url of a SHA-256, or a name isn't one; the error names the field.
    pub fn from_wire(wire: &v1::Challenge) -> Result<Self, FieldError> {
        Ok(Self {
            thumbprint: wire.thumbprint.clone(),
            names: wire
                .names
                .iter()
                .map(|name| Identifier::from_wire("names", name))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Base64url of the account key's JWK thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The names.
    pub fn names(&self) -> &[Identifier] {
        &self.names
    }
}

/// The text of the map.
pub fn render(challenges: &[Challenge]) -> String {
    let _ = challenges;
    String::new()
}

/// Writes the map if the file says something else; whether it did. nginx reads it with the next reload.
///
/// # Errors
/// When the file can't be read or replaced.
pub fn write(path: &Path, text: &str) -> io::Result<bool> {
    let _ = (path, text);
    Ok(false)
}
