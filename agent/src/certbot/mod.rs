//! certbot's directory on this host, `/etc/letsencrypt`: its lineages, and what adopting one changes there.
//!
//! ```text
//! renewal   pure: renewal/LINEAGE.conf
//! lineage   what lies there of each lineage, and what is wrong with it
//! proof     handshakes with the listeners that use a lineage
//! lock      the lock that certbot itself takes
//! work      one lineage under way
//! wrong     why it doesn't go on
//! adoption  the steps of plan::adopt on disk
//! note      STATE/adopted.json
//! ```
//!
//! `archive/` is never touched.

pub mod adoption;
pub mod lineage;
pub mod lock;
pub mod note;
pub mod proof;
pub mod renewal;
pub mod work;
pub mod wrong;

pub use adoption::Places;
pub use lineage::{Lineage, Renewal};
pub use note::Adopted;
