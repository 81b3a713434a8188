//! What the operator says of a server that isn't nginx.

use std::{net::SocketAddr, time::Duration};

/// The `[exec]` table. Commands are run by `/bin/sh -c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Ends with 0 when the server would take its configuration and the certificates in it as they are now.
    pub test: String,
    /// Has the running server take them.
    pub reload: String,
    /// Ends with 0 when the certificate that its environment names is in use; asked after the handshakes.
    pub confirm: Option<String>,
    /// Where each certificate is to be served, by all its names.
    pub addresses: Vec<SocketAddr>,
    /// For each run of a command.
    pub limit: Duration,
}

/// For each run of a command, unless `limit` says otherwise.
pub const LIMIT: Duration = Duration::from_secs(60);
