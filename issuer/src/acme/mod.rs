//! Certificates from an ACME CA (RFC 8555).
//!
//! ```text
//! client     what we need of a CA, as a trait, and instant-acme behind it
//! csr        private keys and signing requests
//! http       the HTTPS client under it: timeouts, roots, Retry-After, the Location of a new order
//! accounts   one account for each authority, its key committed before the CA hears of it
//! order      the driver: performs the steps of plan::order, committing each before the next
//! issuance   one task for each certificate: waits until it is due, preflight, order
//! outcome    what came of its order, and what it tells of the next
//! preflight  its question to the challenge hosts, and waiting for their verdicts
//! names      what certificates that share an identifier know of each other: whose turn it is, what failed
//! orders     the task above them: starts and stops an issuance task as the configuration says
//! ```

pub mod accounts;
pub mod client;
pub mod csr;
pub mod http;
pub mod issuance;
pub mod names;
pub mod order;
pub mod orders;
mod outcome;
mod preflight;
