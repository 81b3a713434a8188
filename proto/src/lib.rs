//! What the two halves of certwell say to each other, and the vocabulary they convert it into.
//!
//! ```text
//! v1        generated from ../certwell/v1/*.proto: messages, clients, servers
//! name      certificate, host and fleet names; identifiers (DNS names, IP addresses)
//! generation, fingerprint, lineage     small validated numbers
//! codec     prost over gRPC with small buffers
//! secret    bytes that never print and are wiped when dropped
//! leaf      what we read out of a certificate
//! bundle    the key pairs of one generation, and every check before anybody uses them
//! token     the text form of a join token
//! identity  who a client certificate says its bearer is
//! pace      how often anything is done, given what life remains
//! exit      the exit codes of every binary
//! ```
//!
//! Wire messages are never used as state: they are converted at the door, and an error names the field.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod codec;
pub mod exit;
pub mod fingerprint;
pub mod generation;
pub mod identity;
pub mod leaf;
pub mod limits;
pub mod lineage;
pub mod name;
pub mod pace;
pub mod pem;
mod redact;
pub mod secret;
pub mod token;

pub use bundle::{Bundle, KeyPair};
pub use exit::Exit;
pub use fingerprint::Fingerprint;
pub use generation::Generation;
pub use leaf::Leaf;
pub use lineage::Lineage;
pub use name::{CertificateName, FleetName, HostName, Identifier};
pub use secret::Secret;
pub use token::JoinToken;

/// Generated messages, clients and servers of package `certwell.v1`.
#[allow(
    clippy::all,
    unreachable_pub,
    unused_qualifications,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used
)]
pub mod v1 {
    tonic::include_proto!("certwell.v1");

    /// The compiled `FileDescriptorSet`, for the compatibility test.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
}

/// What an agent's sentence about a certificate begins with while a person holds it by hand: the issuer knows by it that
/// nothing is wrong there.
pub const HELD_BY_HAND: &str = "held by hand";

/// A wire field that can't be what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path of the field in its message, as in `certificates[2].name`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self {
            field: field.into(),
            problem: problem.to_string(),
        }
    }

    /// The same error, seen from the message that holds this one.
    pub fn within(self, outer: impl std::fmt::Display) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            problem: self.problem,
        }
    }
}
