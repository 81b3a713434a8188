//! The `certwell` command against an Admin service on a real Unix socket, and the plans that it shows.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

mod alerts;
mod chance;
mod command;
mod explain;
mod facts;
mod fleet;
mod headline;
mod inventory;
mod judge;
mod metrics;
mod outbox;
mod outside;
mod page;
mod renew;
mod run;
mod screen;
mod server;
mod set_back;
mod status;
mod watch;
