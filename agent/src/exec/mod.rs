//! A server that isn't nginx, known by its commands and addresses alone: how it is tested and reloaded, and which
//! handshakes prove what it serves.
//!
//! ```text
//! settings  the `[exec]` table, as data
//! command   an operator's command, run to its end or ended after its time
//! targets   pure: which handshakes prove a certificate
//! ```

pub mod command;
pub mod settings;
pub mod targets;

pub use command::CommandError;
pub use settings::Settings;
