//! The one place that reads the clock. What makes bytes of a message takes `now` as an argument.

use jiff::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
