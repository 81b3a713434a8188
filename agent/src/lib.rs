//! The agent of one nginx host: draws its certificates from the issuer, installs them safely, proves what is served
//! and reports.
//!
//! ```text
//! cli      the verbs, and how each ends
//! app      wires the tasks of `run`
//! tasks    what runs: connection, installer, preflight, reporter, identity
//! plan     every decision, pure
//! issuer   the issuer as this host sees it
//! disk     identity of bytes: staged generations, the live links, the ledger
//! nginx    the running master, its configuration, tests, reloads, handshakes
//! outside  the host's own commands, run outside the agent's sandbox
//! exec     a server that isn't nginx: its commands, and the handshakes that prove it
//! certbot  certbot's directory: its lineages, and adopting one
//! inventory  gathers what there is of certificates on this host
//! doctor   gathers what may be in the agent's way
//! unit     the agent's own unit, where systemd runs it
//! config   agent.toml
//! clock, jitter    the only places that read the clock and make random numbers
//! ```

pub mod app;
pub mod certbot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod exec;
pub mod inventory;
pub mod issuer;
pub mod jitter;
pub mod nginx;
pub mod outside;
pub mod plan;
pub mod tasks;
pub mod unit;
