//! Performs the plan's steps of one round, and writes down what each found.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{Bundle, CertificateName, Generation};
use tokio::time::Instant;

use super::{Installer, server::Server, state::Waiting, words};
use crate::{
    clock,
    disk::{Before, ledger::Fact},
    issuer::Wanted,
    jitter,
    plan::{
        install::{self, Host, Phase, Progress, Round, Step},
        outcome::{self, Found, Outcome},
        retry,
        served::Sighting,
    },
};

/// While nginx isn't running, or an edit is in progress, the host is looked at so often.
pub(super) const WATCHED_RETRY: Duration = Duration::from_secs(5);

/// What one certificate has left on its way through a round.
pub(super) struct Trail {
    pub(super) generation: Generation,
    pub(super) wanted: Wanted,
    pub(super) bundle: Option<Bundle>,
    pub(super) before: Option<Before>,
    pub(super) found: Found,
    pub(super) why: String,
    pub(super) sightings: Option<Vec<Sighting>>,
    /// What is on disk was loaded: another reload brings nothing new.
    pub(super) new_workers: bool,
}

impl Trail {
    pub(super) fn new(generation: Generation, wanted: Wanted, regressions: u32) -> Self {
        Self {
            generation,
            wanted,
            bundle: None,
            before: None,
            found: Found {
                stopped_early: false,
                verified: None,
                candidate: None,
                host: Host::Unknown,
                activated: false,
                resumed: false,
                tested: None,
                tested_again: None,
                reloaded: None,
                verdict: None,
                regressions,
            },
            why: String::new(),
            sightings: None,
            new_workers: false,
        }
    }

    /// Something of this host stands in the way.
    pub(super) fn stop(&mut self, why: String) {
        self.found.stopped_early = true;
        self.why = why;
    }
}

/// A round under way.
pub(super) struct Running {
    pub(super) round: Round,
    pub(super) trails: BTreeMap<CertificateName, Trail>,
    /// The server as it was when the reload was asked for.
    pub(super) before_reload: Option<Server>,
    /// Words of the host's own failure.
    pub(super) host_words: String,
}

impl Running {
    pub(super) fn new(round: Round, trails: BTreeMap<CertificateName, Trail>) -> Self {
        Self {
            round,
            trails,
            before_reload: None,
            host_words: String::new(),
        }
    }
}

impl Installer {
    /// A whole round. Between activate and confirm it can't be stopped.
    pub(super) async fn run_round(
        &mut self,
        round: Round,
        trails: BTreeMap<CertificateName, Trail>,
    ) {
        let mut running = Running::new(round, trails);
        loop {
            let safe = running.round.phase == Phase::Preparing;
            if safe && *self.shutdown.borrow() {
                return;
            }
            if safe {
                self.leave_out_held(&mut running.round);
            }
            let step = install::next(&running.round);
            tracing::debug!(?step, "step");
            let began = Instant::now();
            let passed = match &step {
                Step::Fetch(name) => self.fetch(&mut running, name).await,
                Step::Verify(name) => self.verify(&mut running, name),
                Step::Stage(name) => self.stage(&mut running, name),
                Step::TestCandidate(name) => self.test_candidate(&mut running, name).await,
                Step::Baseline => self.baseline(&mut running).await,
                Step::Activate(names) => {
                    if !self.activate(&mut running, names) {
                        continue;
                    }
                    true
                }
                Step::Test => self.test(&mut running, false).await,
                Step::TestAgain => self.test(&mut running, true).await,
                Step::Reload => self.reload(&mut running).await,
                Step::Confirm(names) => self.confirm_names(&mut running, names).await,
                Step::RollBack(names) => self.roll_back(&mut running, names),
                Step::Hold(names) => {
                    self.hold(&mut running, names);
                    true
                }
                Step::Report(names) => {
                    for name in names {
                        self.conclude(&mut running, name);
                    }
                    // What is told is known after a crash as well.
                    self.save();
                    self.publish();
                    true
                }
                Step::Done => return,
            };
            if let Some(name) = step.name() {
                let result = if passed { "passed" } else { "failed" };
                self.steps.observe(name, result, began.elapsed());
            }
            tracing::debug!(done = ?step, passed, ms = began.elapsed().as_secs_f64() * 1000.0, "step");
            install::after(&mut running.round, &step, passed);
        }
    }

    /// Writes down how it ended, and when it is tried again.
    pub(super) fn conclude(&mut self, running: &mut Running, name: &CertificateName) {
        finish(&mut running.round, name);
        let Some(trail) = running.trails.get_mut(name) else {
            return;
        };
        let outcome = outcome::outcome(&trail.found);
        let generation = trail.generation;
        let entry = self.ledger.entry_mut(name);
        let active = entry.active();
        let problem = words::problem(
            outcome,
            &trail.found,
            generation,
            active,
            &trail.why,
            self.host.speech(),
        );
        match outcome {
            Outcome::Converged => {
                // After a crash nobody else has told the ledger.
                entry.record_served(generation, fact(generation));
                entry
                    .rejected
                    .retain(|rejected, _| *rejected > generation.0);
                tracing::info!(certificate = %name, generation = generation.0, "served on every listener");
            }
            Outcome::Rejected => {
                entry.rejected.insert(generation.0, problem.clone());
                tracing::error!(certificate = %name, generation = generation.0, problem, "rejected");
            }
            Outcome::Regressed => {
                entry.count_regression(generation);
                tracing::error!(certificate = %name, generation = generation.0, problem, "regressed");
            }
            Outcome::Held | Outcome::NotApplied => {
                // Whatever is active now, and tested, is real to this host.
                entry.ever_real |= trail.found.activated && trail.found.tested == Some(true);
                tracing::warn!(certificate = %name, generation = generation.0, problem, "not served yet");
            }
        }
        self.ledger_dirty = true;
        self.prune(name);
        if outcome == Outcome::Rejected
            && let Some(state) = self.states.get_mut(name)
        {
            // It is no longer what could be put back.
            state.disk = None;
        }
        self.look_at_disk();
        let now = clock::now();
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        state.outcome = Some((generation, outcome));
        state.problem = problem;
        state.waiting = match (outcome, trail.found.host) {
            (Outcome::Held, Host::Stopped) => Waiting::Start,
            (Outcome::Held, Host::Editing) => Waiting::Edit,
            _ => Waiting::Nothing,
        };
        state.attempts = if outcome == Outcome::Converged {
            0
        } else {
            state.attempts + 1
        };
        let remaining = state
            .disk
            .as_ref()
            .and_then(|disk| disk.validity)
            .map_or(Duration::ZERO, |(_, not_after)| {
                clock::until(now, not_after)
            });
        let ended = retry::Ended {
            outcome,
            new_workers: trail.new_workers,
            attempts: state.attempts,
        };
        state.retry_at = retry::wait(ended, remaining, jitter::fraction()).map(|wait| {
            let watched = state.waiting != Waiting::Nothing;
            Instant::now()
                + if watched {
                    wait.min(WATCHED_RETRY)
                } else {
                    wait
                }
        });
        match trail.sightings.take() {
            // After a roll-back what was seen is no longer so.
            Some(sightings) if matches!(outcome, Outcome::Converged | Outcome::NotApplied) => {
                state.sightings = Some((sightings, now));
            }
            _ if trail.found.activated => state.sightings = None,
            _ => {}
        }
    }

    /// Removes generations that are needed no more, and forgets them, as well as those that a crash kept from being
    /// forgotten.
    pub(super) fn prune(&mut self, name: &CertificateName) {
        let wanted = self.wanted.get(name).map(|wanted| wanted.generation);
        let wanted = wanted.unwrap_or_default();
        let entry = self.ledger.entry_mut(name);
        let active = entry.active();
        if let Err(error) = self.store.prune(name, active, wanted) {
            tracing::warn!(certificate = %name, %error, "old generations stay");
        }
        let known = entry.staged.len();
        entry.staged.retain(|number, _| {
            let generation = Generation(*number);
            let needed = generation == wanted || Some(generation) == active;
            needed || !self.store.is_gone(name, generation)
        });
        self.ledger_dirty |= entry.staged.len() != known;
    }
}

pub(super) fn fact(generation: Generation) -> Fact {
    Fact {
        generation: generation.0,
        at_ms: clock::now().as_millisecond(),
    }
}

pub(super) fn advance(round: &mut Round, name: &CertificateName, progress: Progress) {
    if let Some(candidate) = round.certificates.get_mut(name) {
        candidate.progress = progress;
    }
}

/// Over for it in this round; the value is what a step without a result passes on.
pub(super) fn finish(round: &mut Round, name: &CertificateName) -> bool {
    advance(round, name, Progress::Finished);
    true
}

/// Those that are active now.
pub(super) fn active<'a>(
    round: &Round,
    trails: &'a mut BTreeMap<CertificateName, Trail>,
) -> Vec<(&'a CertificateName, &'a mut Trail)> {
    trails
        .iter_mut()
        .filter(|(name, _)| {
            round
                .certificates
                .get(*name)
                .is_some_and(|c| c.progress == Progress::Active)
        })
        .collect()
}
