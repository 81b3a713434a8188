//! The host's own commands run outside the agent's sandbox: as transient units of systemd's where the agent is a service
//! of systemd, else as its children.
//!
//! ```text
//! side       on which side a command runs; the unit that a process belongs to
//! sandbox    pure: what `systemctl show` says of a unit's sandbox, as `systemd-run` takes it
//! transient  pure: the call of `systemd-run`, and its own words among those of the command
//! unit       a unit of this host: how it is, and having it started
//! notifier   the call of `systemd-run` for an alarm's program
//! run        runs a command on either side, and ends it with all that it started
//! ```

mod notifier;
mod run;
mod sandbox;
mod side;
mod transient;
mod unit;

pub(crate) use notifier::told_outside;
pub(crate) use run::{OutputError, Outside, output, warn};
pub use side::{Side, nginx_side, unit_of};
pub(crate) use side::{own_unit_of, side};
pub(crate) use transient::{Account, Job, Transient, is_not_set_up};
pub(crate) use unit::{boot, start, state};
