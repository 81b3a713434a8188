//! `certwell-issuer init` and `check`, as a person or a script runs them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

#[path = "init/backup.rs"]
mod backup;
#[path = "init/dumps.rs"]
mod dumps;
#[path = "init/fleet.rs"]
mod fleet;
#[path = "init/making.rs"]
mod making;
#[path = "init/members.rs"]
mod members;
#[path = "init/restore.rs"]
mod restore;
#[path = "init/serving.rs"]
mod serving;
