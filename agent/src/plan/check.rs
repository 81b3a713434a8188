//! How often disk and listeners are looked at when nothing seems to change.

use std::time::Duration;

use certwell_proto::pace::pace;

const SETTING: Duration = Duration::from_secs(600);
/// A look costs a handshake with each listener: never oftener than this.
const FLOOR: Duration = Duration::from_secs(10);

/// How long until the next look. `remaining` is the least life left of what is served; an expired or absent
/// certificate hurries the installs, not the looking. `jitter` in `0.0..=1.0` keeps a fleet from doing it in one beat.
pub fn wait(remaining: Option<Duration>, jitter: f64) -> Duration {
    pace(SETTING, remaining.filter(|life| !life.is_zero()))
        .max(FLOOR)
        .mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_are_looked_at_oftener_and_never_all_the_time() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(Some(seconds(90 * 86_400)), 0.5), seconds(600));
        assert_eq!(wait(Some(seconds(180)), 0.5), seconds(18));
        assert_eq!(wait(Some(seconds(5)), 0.5), seconds(10));
        assert_eq!(wait(Some(Duration::ZERO), 0.5), seconds(600));
        assert_eq!(wait(None, 0.5), seconds(600));
    }
}
