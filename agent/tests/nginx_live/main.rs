//! The nginx room against real masters: each test starts its own on an address of its own.
//!
//! `cfg(test)` says to clippy that these modules are tests through and through.

#[cfg(test)]
mod challenge;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod host;
#[cfg(test)]
mod looks;
#[cfg(test)]
mod port_80;
#[cfg(test)]
mod processes;
