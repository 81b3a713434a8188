//! The log of both daemons: where lines go, and what never gets into them.
//!
//! ```text
//! filter   CERTWELL_LOG, with the cap on what could print a key
//! entry    an event as an entry of systemd's journal, pure
//! journal  sends entries
//! ```
//!
//! By `CERTWELL_LOG_FORMAT` lines or JSON go to standard error. Without it, where standard error is the journal's
//! own stream, events go to the journal with their fields.

mod entry;
mod filter;
mod journal;

use std::{io, sync::OnceLock};

use tracing_subscriber::{Registry, layer::SubscriberExt as _};

use crate::journal::Journal;
pub use crate::{entry::PREFIX, filter::filter};

/// The filter's variable; `info` by default.
pub const FILTER: &str = "CERTWELL_LOG";
/// `text` and `json` go to standard error, whatever that is.
pub const FORMAT: &str = "CERTWELL_LOG_FORMAT";

/// The `host` of entries that name none.
static HOST: OnceLock<String> = OnceLock::new();

/// A log that can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is mistyped.
    #[error(
        "{FILTER}={text:?} is no log filter ({problem}); write a level (error, warn, info, debug), or for example \"certwell_agent=debug\""
    )]
    Filter {
        /// As given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An unknown format.
    #[error("{FORMAT}={0:?} is no log format; write \"text\" or \"json\", or leave it out")]
    Format(String),
}

/// Begins the log of this program, which is `name` in the journal. `targets` are shown in lines of text.
///
/// # Errors
/// When one of the variables is mistyped.
pub fn begin(name: &'static str, targets: bool) -> Result<(), LogError> {
    let variable = |name| {
        std::env::var(name)
            .ok()
            .filter(|text: &String| !text.trim().is_empty())
    };
    let filter = filter(variable(FILTER).as_deref().unwrap_or("info"))?;
    let format = variable(FORMAT);
    let journal = match format {
        None => Journal::of_standard_error(name),
        Some(_) => None,
    };
    if let Some(journal) = journal {
        let log = Registry::default().with(filter).with(journal);
        // A second subscriber in one process can't be; the first one serves as well.
        let _ = tracing::subscriber::set_global_default(log);
        tracing::trace!("every level is written");
        return Ok(());
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let _ = match format.as_deref() {
        None | Some("text") => {
            let color =
                io::IsTerminal::is_terminal(&io::stderr()) && variable("NO_COLOR").is_none();
            lines.with_ansi(color).with_target(targets).try_init()
        }
        Some("json") => lines.json().flatten_event(true).try_init(),
        Some(other) => return Err(LogError::Format(other.to_owned())),
    };
    tracing::trace!("every level is written");
    Ok(())
}

/// From here on entries of the journal that name no host are about this one, by its name in the fleet.
pub fn set_host(name: &str) {
    // A daemon has one name for as long as it runs.
    let _ = HOST.set(name.to_owned());
}
