//! Whom messages are sent to: real servers on real sockets.
//!
//! ```text
//! http          a web server of the lab's own, which keeps what it gets, and can hang, refuse, redirect or break off
//! smtp          Debian's aiosmtpd, with or without TLS and a login
//! alertmanager  Debian's Alertmanager, which is asked by its own API what it has
//! ```

pub mod alertmanager;
pub mod http;
pub mod smtp;

pub use alertmanager::Alertmanager;
pub use http::{Answer, HttpReceiver, Received};
pub use smtp::{MailServer, MailSettings, Tls};
