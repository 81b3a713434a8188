//! Configurations as people have them: each is run by a real nginx, and a table says which listeners use a certificate,
//! what a handshake with each shows, and where the line that answers HTTP-01 stands, or is missing.
//!
//! The fixtures are written after the shapes of well-known ones; none of their lines is taken over.
//!
//! `cfg(test)` says to clippy that these modules are tests through and through.

#[cfg(test)]
mod addresses;
#[cfg(test)]
mod applications;
#[cfg(test)]
mod damaged;
#[cfg(test)]
mod debian;
#[cfg(test)]
#[expect(dead_code, reason = "nginx_live, whose host this is, uses the rest")]
#[path = "../nginx_live/host.rs"]
mod host;
#[cfg(test)]
mod includes;
#[cfg(test)]
mod many;
#[cfg(test)]
mod masters;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod text_only;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod variables;
