//! The nginx room against real masters: each test starts its own on an address of its own.

mod challenge;
mod configuration;
mod handshakes;
mod host;
mod processes;
