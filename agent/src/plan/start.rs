//! Whether an nginx that failed right after an activation of ours is started again.

use std::time::Duration;

/// A failure so soon after an activation may be its doing …
pub const SOON: Duration = Duration::from_secs(60);
/// … and is seen to for so long, until nginx's test passes.
pub const SEEN_TO: Duration = Duration::from_secs(300);
/// A restart is between stop and start for less than this; what is down for longer was stopped.
const RESTART: Duration = Duration::from_secs(5);
/// Until the service manager is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Until nginx's test is run again.
const TEST_AGAIN: Duration = Duration::from_secs(5);

/// What is known of nginx since an activation, before which it ran as a unit.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// By the setting.
    pub allowed: bool,
    /// A master runs.
    pub runs: bool,
    /// How long ago the activation was.
    pub age: Duration,
    /// How long after it nginx was first found not to run.
    pub gone_after: Option<Duration>,
    /// Of its unit; nothing where that isn't known yet.
    pub unit: Option<Unit>,
    /// What its test says; nothing before it was asked.
    pub tested: Option<bool>,
}

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// It failed.
    Failed,
    /// It was stopped, or never started.
    Inactive,
    /// It is about to be something else, or runs.
    Busy,
}

impl Unit {
    /// By `ActiveState`.
    pub fn of(state: &str) -> Self {
        match state {
            "failed" => Self::Failed,
            "inactive" => Self::Inactive,
            _ => Self::Busy,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is none of our business any more.
    Forget,
    /// Its end wakes us.
    Wait,
    /// To be looked at again after this.
    LookAgain(Duration),
    /// The service manager is asked how the unit is.
    Ask,
    /// nginx's own test.
    Test,
    /// Once.
    Start,
}

/// The next step.
pub fn next(facts: &Facts) -> Step {
    let Facts { age, .. } = *facts;
    if !facts.allowed || age > SEEN_TO {
        return Step::Forget;
    }
    let gone_after = match facts.gone_after {
        _ if facts.runs && age > SOON => return Step::Forget,
        _ if facts.runs => return Step::Wait,
        Some(gone_after) if gone_after <= SOON => gone_after,
        _ => return Step::Forget,
    };
    match (facts.unit, facts.tested) {
        (None, _) => Step::Ask,
        // A clean stop is a person's wish.
        (Some(Unit::Inactive), _) if age.saturating_sub(gone_after) > RESTART => Step::Forget,
        (Some(Unit::Inactive | Unit::Busy), _) => Step::LookAgain(ASK_AGAIN),
        (Some(Unit::Failed), None) => Step::Test,
        (Some(Unit::Failed), Some(true)) => Step::Start,
        (Some(Unit::Failed), Some(false)) => Step::LookAgain(TEST_AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Gone ten seconds after the activation, a moment ago.
    const FAILED: Facts = Facts {
        allowed: true,
        runs: false,
        age: Duration::from_secs(11),
        gone_after: Some(Duration::from_secs(10)),
        unit: Some(Unit::Failed),
        tested: Some(true),
    };

    #[test]
    fn what_failed_soon_after_an_activation_and_passes_its_test_is_started() {
        let unasked = Facts {
            unit: None,
            tested: None,
            ..FAILED
        };
        assert_eq!(next(&unasked), Step::Ask);
        let untested = Facts {
            tested: None,
            ..FAILED
        };
        assert_eq!(next(&untested), Step::Test);
        assert_eq!(next(&FAILED), Step::Start);
        let refused = Facts {
            tested: Some(false),
            ..FAILED
        };
        assert_eq!(next(&refused), Step::LookAgain(TEST_AGAIN));
        // It may be mended long after it failed.
        let late = Facts {
            age: SEEN_TO,
            ..FAILED
        };
        assert_eq!(next(&late), Step::Start);
        let given_up = Facts {
            age: SEEN_TO + SECOND,
            ..FAILED
        };
        assert_eq!(next(&given_up), Step::Forget);
    }

    #[test]
    fn what_runs_is_waited_for_only_as_long_as_a_failure_may_be_ours() {
        let runs = Facts {
            runs: true,
            gone_after: None,
            unit: None,
            tested: None,
            ..FAILED
        };
        assert_eq!(next(&runs), Step::Wait);
        assert_eq!(next(&Facts { age: SOON, ..runs }), Step::Wait);
        let long_ago = Facts {
            age: SOON + SECOND,
            ..runs
        };
        assert_eq!(next(&long_ago), Step::Forget);
        let later = Facts {
            age: SOON + SECOND * 2,
            gone_after: Some(SOON + SECOND),
            ..FAILED
        };
        assert_eq!(next(&later), Step::Forget);
    }

    #[test]
    fn what_a_person_stopped_stays_stopped() {
        let stopped = Facts {
            unit: Some(Unit::Inactive),
            tested: None,
            ..FAILED
        };
        assert_eq!(next(&stopped), Step::LookAgain(ASK_AGAIN), "or restarts it");
        let settled = Facts {
            age: FAILED.age + RESTART,
            ..stopped
        };
        assert_eq!(next(&settled), Step::Forget);
        let busy = Facts {
            unit: Some(Unit::Busy),
            ..settled
        };
        assert_eq!(next(&busy), Step::LookAgain(ASK_AGAIN), "systemd starts it");
    }

    #[test]
    fn nothing_is_started_where_the_setting_forbids_it() {
        let forbidden = Facts {
            allowed: false,
            ..FAILED
        };
        assert_eq!(next(&forbidden), Step::Forget);
    }

    #[test]
    fn states_of_units() {
        for (state, expected) in [
            ("failed", Unit::Failed),
            ("inactive", Unit::Inactive),
            ("activating", Unit::Busy),
            ("deactivating", Unit::Busy),
            ("active", Unit::Busy),
        ] {
            assert_eq!(Unit::of(state), expected, "{state}");
        }
    }
}
