//! When it is looked again.

use std::time::Duration;

use certwell_probe::next_round;
use tokio::time::Instant;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_new_fault_is_looked_at_again_ten_seconds_after_the_end_of_a_round_however_long_that_took() {
    let began = Instant::now();
    let due = |took: Duration, every: Duration, is_new: bool| {
        next_round(began, began + took, every, is_new) - began
    };
    assert_eq!(due(seconds(1), seconds(300), false), seconds(300));
    assert_eq!(due(seconds(1), seconds(300), true), seconds(11));
    assert_eq!(due(seconds(120), seconds(300), true), seconds(130));
    // The next one comes before that anyway.
    assert_eq!(due(seconds(1), seconds(5), true), seconds(5));
    assert_eq!(due(seconds(295), seconds(300), true), seconds(300));
}
