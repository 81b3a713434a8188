//! The certwell issuer.

pub mod config;
pub mod plan;
pub mod store;
