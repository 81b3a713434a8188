//! `/etc/certwell/agent.toml`: what it may say, how it is read, and how its mistakes are shown.
//!
//! ```text
//! model    the configuration as the rest of the agent uses it, with every default
//! read     TOML to model, gathering all mistakes at once
//!   exec     its `[exec]` table
//!   alarm    its `[alarm.NAME]` tables
//! mistake  a mistake with its line and a caret
//! ```

mod alarm;
mod exec;
mod mistake;
mod model;
mod read;

pub use mistake::{ConfigError, Mistake};
pub use model::{Config, DEFAULT_PATH};
pub use read::{load, load_what_is_right, parse};
