//! The `certwell` command against an Admin service on a real Unix socket, and the plans that it shows.

mod command;
mod explain;
mod fleet;
mod headline;
mod judge;
mod renew;
mod server;
mod status;
