//! What every store does, held against SQLite and memory alike; and what only the one on disk does.

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/disk.rs"]
mod disk;
#[path = "store/records.rs"]
mod records;
