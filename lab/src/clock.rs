//! The one place that reads the clock.

use jiff::Timestamp;

/// The present instant.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
    Timestamp::now()
}
