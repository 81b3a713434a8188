//! The hosts: who they are, what they are offered, what they report.
//!
//! ```text
//! registry    the task that owns what is known of the fleet; everyone else asks it
//! recall      what is known at the start
//! control     what the registry tells issuance tasks: configuration, pauses, forced renewals
//! events      what is written down for people, and told to those who follow
//! measured    how long stages of orders took, and how often they failed
//! scribe      commits observations, as many as have come in at once
//! ca          the fleet CA: the server's identity and the hosts'
//! peer        who is on the other end of a connection, and whether he still may
//! revocations the append-only file outside the database
//! listener    the accept loop: TLS handshakes, bounded and with deadlines
//! enrollment, service   the gRPC services
//! ```

pub mod ca;
mod control;
pub mod enrollment;
mod events;
pub mod listener;
mod measured;
pub mod peer;
mod recall;
mod registry;
pub mod revocations;
mod scribe;
pub mod service;

pub use control::{Control, Forced};
pub use events::Events;
pub use measured::Measured;
pub use recall::recall;
pub use registry::{Offer, Opened, Registry, Start, Ticket, Verdicts};
pub use scribe::Scribe;
