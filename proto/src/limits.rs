//! Limits of the design, in one place.

/// Certificates that one host may be assigned.
pub const CERTIFICATES_PER_HOST: usize = 2_000;
/// Identifiers in one certificate.
pub const IDENTIFIERS_PER_CERTIFICATE: usize = 100;
/// Bytes of a `Watch` message.
pub const WATCH_MESSAGE: usize = 4 * 1024 * 1024;
/// Bytes of any other message.
pub const MESSAGE: usize = 1024 * 1024;
