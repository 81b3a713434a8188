//! Waiting for a condition with a deadline, and saying what was seen last when it doesn't come.

use std::{fmt, thread, time::Duration};

use anyhow::{Result, bail};
use tokio::time::Instant;

/// Asks `look` every 50 ms until it answers `Ok`, for at most `within`.
///
/// `look` answers `Err` with the state that it saw instead; the last of these is in the error.
///
/// # Errors
/// When the deadline passes.
pub fn wait_for<T, E: fmt::Display>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(seen) if start.elapsed() >= within => {
                bail!(
                    "waited {} s for {what}; last seen: {seen:#}",
                    within.as_secs_f32()
                )
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Checks for `period` that `look` keeps answering `Ok`.
///
/// # Errors
/// The first time that it doesn't.
pub fn holds_for<E: fmt::Display>(
    what: &str,
    period: Duration,
    mut look: impl FnMut() -> Result<(), E>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(seen) = look() {
            bail!(
                "{what} held for {:.1} s only; then: {seen:#}",
                start.elapsed().as_secs_f32()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_is_in_the_error() {
        let mut calls = 0;
        let outcome: Result<()> = wait_for("rain", Duration::from_millis(120), || {
            calls += 1;
            Err(format!("sun {calls}"))
        });
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.contains("for rain") && text.contains(&format!("sun {calls}")),
            "{text}"
        );
        assert!(calls >= 2);
    }
}
