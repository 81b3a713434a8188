//! The configuration: what is accepted, and every mistake told where it stands.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic in a test is its report"
)]

#[path = "config/accepted.rs"]
mod accepted;
#[path = "config/alerts.rs"]
mod alerts;
#[path = "config/certificates.rs"]
mod certificates;
#[path = "config/files.rs"]
mod files;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/notifiers.rs"]
mod notifiers;
#[path = "config/page.rs"]
mod page;
#[path = "config/probe.rs"]
mod probe;
#[path = "config/watched.rs"]
mod watched;
