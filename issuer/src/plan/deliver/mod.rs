//! Which alerts are open, and what is due to which notifier: what should be known now, what is stored, and `now` in,
//! changes and messages out.
//!
//! ```text
//! raise     from the alerts of one evaluation and those that are open: raised, changed, over
//! hold      acknowledgements and silences: what holds messages back, and what they never hold
//! due       when a notifier is told next of an alert, and what
//! retry     after a refusal
//! failing   notifiers that accept nothing, as alerts
//! message   what a notifier is sent
//! view      how an alert is shown
//! ```

mod due;
mod failing;
mod hold;
mod message;
mod raise;
mod retry;
#[cfg(test)]
mod tests;
mod view;

pub use due::{Due, Say, Told, accepted, due};
pub use failing::{Health, failing};
pub use hold::{Held, acknowledgement, silenced_until};
pub use message::message;
pub use raise::{Change, Kind, Standing, acknowledge, reconcile};
pub use retry::{Tried, after_refusal, left_alone_until, not_after, not_later};
pub use view::{acknowledge_command, sorted, view};

use std::time::Duration;

use certwell_proto::pace;
use jiff::{SignedDuration, Timestamp};

use super::facts::shortest_life;

/// However near an end is, nobody is told more often, or waited for shorter, unless the setting itself is shorter.
const SHORTEST: Duration = Duration::from_secs(10);

/// A pause between messages to people: at most a tenth of the life that is left, and never so short that it is noise.
fn between_messages(setting: Duration, life: Option<Duration>) -> Duration {
    let paced = pace::pace(setting, life);
    paced.max(SHORTEST.min(setting))
}

/// What is left of a life that isn't over. One that is sets no pace: what has expired would be raised and resolved with
/// every breath, in the middle of an incident.
fn left(ends: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    shortest_life(ends.into_iter(), now)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
