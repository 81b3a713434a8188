//! What certwell tells people: one message, in the form that each service takes, and whether it was accepted.
//!
//! ```text
//! message       what is told; plain values, known to nobody but the teller
//! notifier      whom it is told, and what came back
//! text          a message's sentences, as every form needs them      limit   cutting to what a service takes
//! discord, slack, json, alertmanager, mail    pure: a message as bytes
//! target        a URL that is never shown whole      http    one request, bounded in time and size, never redirected
//! sign          HMAC over time and body              smtp    one letter to one mail server
//! declared      a notifier out of a configuration file, for both daemons      hidden   what a mistake there doesn't show
//! exec          a program of the operator's          trust   files that nobody else could have put there
//! clock         the only place that reads the clock
//! ```
//!
//! A notifier keeps no state and no connection: each message is sent by itself, within a limit of time of its own.

pub mod alertmanager;
mod clock;
pub mod declared;
pub mod discord;
mod exec;
pub mod hidden;
mod http;
pub mod json;
mod limit;
pub mod mail;
mod message;
mod notifier;
pub mod sign;
pub mod slack;
mod smtp;
mod target;
mod text;
pub mod trust;

pub use exec::Exec;
pub use http::{Endpoint, Roots};
pub use message::{Member, Message, Severity, State};
pub use notifier::{Accepted, LIMIT, Notifier, Refused, Service};
pub use smtp::{Address, Credentials, Email, Encryption, Server, ServerError};
pub use target::{Target, TargetError};
