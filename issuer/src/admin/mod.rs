//! What `certwell` asks: the Admin service on the Unix socket.
//!
//! ```text
//! socket    the socket: its file, its modes, who may use it
//! service   the calls
//! alerts    alerts, acknowledgements, silences, notifiers
//! events    the past, then what happens
//! lookup    from names to what is meant
//! ```

mod alerts;
mod events;
mod lookup;
pub mod service;
pub mod socket;
