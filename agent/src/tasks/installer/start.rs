//! An nginx that failed right after an activation of ours is started once.

use std::time::Duration;

use tokio::time::Instant;

use super::{Installer, server::Server};
use crate::{
    clock,
    disk::ledger::Activation,
    nginx::Tested,
    outside,
    plan::start::{self, Facts, SOON, Step, TEST_AGAIN, Unit},
};

/// What came of nginx since the activation that the ledger keeps.
#[derive(Default)]
pub(super) struct Watched {
    /// It is none of our business any more.
    over: bool,
    /// When nginx was first known not to run, since the machine booted.
    gone: Option<Duration>,
    /// When it is looked at again.
    look_at: Option<Instant>,
    /// What is told of a start, and until when; without an end until nginx runs.
    told: Option<(String, Option<Instant>)>,
}

impl Watched {
    /// What another agent, or another boot of this machine, left in the ledger.
    pub(super) fn begin(activation: Option<&Activation>) -> Self {
        let boot = outside::boot();
        let known = activation.is_some_and(|of| of.boot == boot && !boot.is_empty());
        Self {
            over: !known,
            ..Self::default()
        }
    }

    /// When it is to be looked at without being woken.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let told = self.told.as_ref().and_then(|(_, until)| *until);
        self.look_at.into_iter().chain(told).min()
    }

    /// For a person; empty when there is nothing to say.
    pub(super) fn told(&self) -> &str {
        self.told.as_ref().map_or("", |(sentence, _)| sentence)
    }

    fn forget_told(&mut self, runs: bool) {
        let now = Instant::now();
        let past = |until: Option<Instant>| until.map_or(runs, |until| until <= now || !runs);
        if self.told.as_ref().is_some_and(|(_, until)| past(*until)) {
            self.told = None;
        }
    }
}

impl Installer {
    /// Something is about to be activated, with nginx as it runs now. While it doesn't run, the activation before is the
    /// one that counts.
    pub(super) fn activation(&self) -> Option<Activation> {
        let server = self.host.server().ok()?;
        let unit = outside::own_unit_of(server.master()?.pid)?;
        Some(Activation {
            unit,
            boot: outside::boot(),
            at_ms: u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX),
            started_ms: None,
        })
    }

    /// Sees to nginx since the last activation.
    pub(super) async fn start_failed(&mut self) {
        let server = self.host.server().ok();
        let runs = server.as_ref().and_then(Server::master).is_some();
        self.watched.forget_told(runs);
        self.watched.look_at = None;
        let mut unit = None;
        let mut tested = None;
        while !self.watched.over {
            let Some(activation) = self.ledger.activation.clone() else {
                return;
            };
            let now = clock::since_boot();
            let activated = Duration::from_millis(activation.at_ms);
            let gone = match runs {
                true => None,
                false => Some(*self.watched.gone.get_or_insert(now)),
            };
            self.watched.gone = gone;
            let step = start::next(&Facts {
                allowed: self.config.start_after_failure && activation.started_ms.is_none(),
                runs,
                age: now.saturating_sub(activated),
                gone_after: gone.map(|gone| gone.saturating_sub(activated)),
                unit,
                tested,
            });
            match step {
                Step::Forget => self.watched.over = true,
                Step::Wait => return,
                Step::LookAgain(after) => {
                    self.watched.look_at = Some(Instant::now() + after);
                    return;
                }
                Step::Ask => {
                    let state = outside::state(&activation.unit).await;
                    unit = Some(Unit::of(&state.active, &state.result));
                    self.watched.gone = gone.map(|gone| start::gone(gone, state.ended, activated));
                }
                Step::Test => {
                    let answer = match &server {
                        Some(server) => self.host.test(server).await,
                        None => return,
                    };
                    tested = Some(matches!(answer, Ok(Tested::Passed { .. })));
                }
                Step::Start => {
                    if !self.note_start(Some(clock::now().as_millisecond())) {
                        // Not known after a restart of the agent: it might be started twice.
                        self.note_start(None);
                        self.watched.look_at = Some(Instant::now() + TEST_AGAIN);
                        return;
                    }
                    self.start_once(&activation.unit).await;
                    return;
                }
            }
        }
    }

    /// Whether it is written down.
    fn note_start(&mut self, started_ms: Option<i64>) -> bool {
        if let Some(activation) = &mut self.ledger.activation {
            activation.started_ms = started_ms;
            self.ledger_dirty = true;
            self.save();
        }
        !self.ledger_dirty
    }

    async fn start_once(&mut self, unit: &str) {
        self.watched.over = true;
        match outside::start(unit).await {
            Ok(()) => {
                let sentence = format!(
                    "nginx failed within a minute after a certificate was activated, and its test passes: the agent started {unit}; journalctl -u {unit} tells why it failed"
                );
                tracing::warn!(unit, problem = sentence, "nginx was started");
                self.watched.told = Some((sentence, Some(Instant::now() + SOON)));
            }
            Err(why) => {
                let sentence = format!(
                    "nginx failed within a minute after a certificate was activated, though its test passes now; the agent started {unit} once, and it failed again: {why}; see journalctl -u {unit}, and start it"
                );
                tracing::error!(unit, problem = sentence, "nginx can't be started");
                self.watched.told = Some((sentence, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_activation_of_this_boot_is_gone_on_with() {
        let of = |boot: String| Activation {
            unit: "nginx.service".into(),
            boot,
            at_ms: 1,
            started_ms: None,
        };
        assert!(!outside::boot().is_empty());
        for (activation, over) in [
            (None, true),
            (Some(of(String::new())), true),
            (Some(of("another".into())), true),
            (Some(of(outside::boot())), false),
        ] {
            let watched = Watched::begin(activation.as_ref());
            assert_eq!(watched.over, over, "{activation:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_is_told_for_a_minute_while_nginx_runs_and_a_failed_one_until_it_runs() {
        for (until, runs, after, told) in [
            (Some(SOON), true, Duration::ZERO, "told"),
            (Some(SOON), true, SOON, ""),
            (Some(SOON), false, Duration::ZERO, ""),
            (None, false, SOON * 100, "told"),
            (None, true, Duration::ZERO, ""),
        ] {
            let mut watched = Watched {
                told: Some(("told".into(), until.map(|until| Instant::now() + until))),
                ..Watched::default()
            };
            tokio::time::advance(after).await;
            watched.forget_told(runs);
            assert_eq!(watched.told(), told, "{until:?} {runs} {after:?}");
        }
    }
}
