//! What a server presents: handshakes that take any certificate, and whole looks from outside.
//!
//! ```text
//! dial        TCP or a Unix socket, a PROXY header first where one is wanted
//! handshake   one handshake, RSA and ECDSA apart; the whole chain, whoever signed it
//! chain       whether a chain is right for a name, now
//! resolve     every A and AAAA record of a name
//! url         what a URL answers at one address
//! outlook     what there is to look at, checked at the door
//! round       everything once: an outlook in, sightings out
//! ```

#![forbid(unsafe_code)]

pub mod chain;
mod dial;
pub mod handshake;
pub mod outlook;
pub mod resolve;
pub mod round;
pub mod url;

pub use self::{
    dial::{Dialled, Place, proxy_header},
    handshake::{Answer, Ask, Key, Served, ask, config},
    outlook::{Look, Outlook},
    resolve::{Resolver, Unresolved},
    round::{next_round, round, shows_a_new_fault},
};
