//! The certwell issuer: obtains certificates by ACME and offers them to the agents of a fleet.
//!
//! ```text
//! app      wires the tasks
//! config   what should exist: files, mistakes, reload
//! plan     every decision, pure
//! store    what happened: trait, SQLite, sealing
//! acme     accounts, orders, one issuance task a certificate
//! fleet    registry, listener, identities, services for agents
//! admin    the service behind `certwell`
//! page     the page for browsers
//! alert    tells people what is wrong, until they know
//! metrics  what Prometheus is told
//! cli      `certwell` itself
//! health   looks at the issuer's own machine
//! backup, restore   a copy of all that a new machine needs, and the way back
//! daemon_cli, init, making   `certwell-issuer` itself: its verbs, a new fleet, files that are made
//! clock    the only place that reads the clock
//! ```

pub mod acme;
pub mod admin;
pub mod alert;
pub mod app;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon_cli;
pub mod fleet;
pub mod health;
pub mod init;
pub mod making;
pub mod metrics;
pub mod page;
pub mod plan;
pub mod probe;
pub mod restore;
pub mod store;
