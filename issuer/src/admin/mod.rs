//! What `certwell` asks: the Admin service on the Unix socket.
//!
//! ```text
//! socket    the socket: its file, its modes, who may use it
//! service   the calls
//! ```

pub mod service;
pub mod socket;
