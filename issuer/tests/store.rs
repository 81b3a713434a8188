//! What every store does, held against SQLite and memory alike; and what only the one on disk does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/disk.rs"]
mod disk;
#[path = "store/records.rs"]
mod records;
#[path = "store/refusals.rs"]
mod refusals;
