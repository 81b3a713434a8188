//! The certwell issuer.

pub mod cli;
pub mod clock;
pub mod config;
pub mod plan;
pub mod store;
