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
pub const TEST_AGAIN: Duration = Duration::from_secs(5);

/// What is known of nginx since an activation, before which it ran as a unit.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// By the setting, and it wasn't started for this activation yet.
    pub allowed: bool,
    /// A master runs.
    pub runs: bool,
    /// How long ago the activation was.
    pub age: Duration,
    /// How long after it nginx was first known not to run.
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
    /// By its `ActiveState` and `Result`. `systemctl stop` ends in `failed` by `timeout` too, where nginx still answers
    /// a long download when its time is over: what may be a person's wish is taken for one.
    pub fn of(active: &str, result: &str) -> Self {
        match (active, result) {
            ("failed", "timeout") | ("inactive", _) => Self::Inactive,
            ("failed", _) => Self::Failed,
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
    if facts.runs {
        return if age > SOON { Step::Forget } else { Step::Wait };
    }
    // The service manager may know of an earlier moment than the one at which we looked.
    let Some(unit) = facts.unit else {
        return Step::Ask;
    };
    let gone_after = match facts.gone_after {
        Some(gone_after) if gone_after <= SOON => gone_after,
        _ => return Step::Forget,
    };
    match (unit, facts.tested) {
        // A clean stop is a person's wish.
        (Unit::Inactive, _) if age.saturating_sub(gone_after) > RESTART => Step::Forget,
        (Unit::Inactive | Unit::Busy, _) => Step::LookAgain(ASK_AGAIN),
        (Unit::Failed, None) => Step::Test,
        (Unit::Failed, Some(true)) => Step::Start,
        (Unit::Failed, Some(false)) => Step::LookAgain(TEST_AGAIN),
    }
}

/// When nginx was first known not to run: by ourselves, or by when its unit `ended`. A time before the activation is that
/// of another end, since nginx ran then.
pub fn gone(found: Duration, ended: Option<Duration>, activated: Duration) -> Duration {
    ended
        .filter(|ended| *ended >= activated)
        .map_or(found, |ended| ended.min(found))
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
    fn when_it_failed_is_asked_before_it_is_judged_by_when_an_agent_looked() {
        let looked_late = Facts {
            age: SOON * 2,
            gone_after: Some(SOON * 2),
            unit: None,
            tested: None,
            ..FAILED
        };
        assert_eq!(next(&looked_late), Step::Ask);
        let late = Facts {
            unit: Some(Unit::Failed),
            ..looked_late
        };
        assert_eq!(next(&late), Step::Forget);
        let [activated, found] = [100, 220].map(Duration::from_secs);
        for (ended, expected) in [
            (None, 220),
            (Some(150), 150),
            (Some(100), 100),
            // An end before: it ran again at the activation.
            (Some(99), 220),
            // It was found by its process, before the service manager knew.
            (Some(221), 220),
        ] {
            let ended = ended.map(Duration::from_secs);
            let gone = gone(found, ended, activated);
            assert_eq!(gone, Duration::from_secs(expected), "{ended:?}");
        }
        let soon = gone(found, Some(Duration::from_secs(150)), activated);
        let in_time = Facts {
            gone_after: Some(soon - activated),
            ..late
        };
        assert_eq!(next(&in_time), Step::Test);
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
        for (active, result, expected) in [
            ("failed", "exit-code", Unit::Failed),
            ("failed", "signal", Unit::Failed),
            ("failed", "timeout", Unit::Inactive),
            ("inactive", "success", Unit::Inactive),
            ("activating", "success", Unit::Busy),
            ("deactivating", "timeout", Unit::Busy),
            ("active", "success", Unit::Busy),
        ] {
            assert_eq!(Unit::of(active, result), expected, "{active} {result}");
        }
    }
}
