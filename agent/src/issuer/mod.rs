//! The issuer, as this host sees it: who we are to it, how it is reached, what it wants here.
//!
//! ```text
//! keys        the bound key and identity keys, CSRs and proofs
//! identity    what lies in STATE/identity, and how it changes without ever being half there
//! tls         TLS 1.3 with the fleet CA as the only root, or with a pin while enrolling
//! connection  one HTTP/2 connection, dialled over the endpoints in order
//! enrollment  a join token becomes an identity
//! renewal     an identity becomes the next one
//! desired     the desired state, converted at the door
//! host_info   what we say of this machine
//! ```

pub mod connection;
pub mod desired;
pub mod enrollment;
pub mod host_info;
pub mod identity;
pub mod keys;
pub mod renewal;
pub mod tls;

pub use connection::{Connection, DialError};
pub use desired::{Desired, Wanted};
pub use identity::{Identity, IdentityError, IdentityStore};
