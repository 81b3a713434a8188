//! The page of a running issuer, asked as a browser or somebody else would.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test is its report"
)]

mod alerts;
mod controls;
mod door;
mod history;
mod http;
mod live;
mod login;
mod wiring;
mod world;
