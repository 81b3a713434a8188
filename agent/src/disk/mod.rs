//! What the agent has on disk. All of it is changed by one thread, step by step, so that a crash between any two
//! system calls leaves the old or the new generation whole.
//!
//! ```text
//! durable      a file or link that is whole and on disk, or isn't there
//! permissions  who may read keys; whether the directories around them can be trusted
//! staging      store/NAME/GENERATION/*.pem
//! placeholder  generation 0
//! activation   live/NAME, a link to one generation, and the way back
//! ledger       what the agent knows it put there
//! holds        what a person told it to keep its hands off
//! ```

pub mod activation;
pub mod durable;
pub mod holds;
pub mod leaving;
pub mod ledger;
pub mod permissions;
pub mod placeholder;
pub mod staging;

pub use activation::{Before, Live, LiveDirectory};
pub use ledger::{Ledger, LedgerEntry, StagedRecord};
pub use permissions::Permissions;
pub use staging::{Condition, Store};
