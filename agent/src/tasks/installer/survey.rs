//! Looking again at what is active: after a start, after a change of the configuration, and now and then.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{CertificateName, Generation};
use tokio::time::Instant;

use super::{
    Installer,
    round::{Running, Trail, fact},
    server::Server,
    state,
};
use crate::{
    clock,
    disk::Before,
    nginx::Master,
    plan::{
        edit,
        install::{self, Host, Phase, Progress, Round},
        outcome::Outcome,
        resume::{self, Back},
        served::{self, Sighting},
    },
};

/// While the configuration is newer than the workers, whether it still is, is looked at after this …
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// … and then less and less often.
const LAST_LOOK: Duration = Duration::from_secs(60);

/// Those that wait for the host.
fn held(running: &Running) -> Vec<CertificateName> {
    let host = running.round.host;
    running
        .trails
        .iter()
        .filter(|(_, trail)| resume::waits(host, trail.before.is_some()))
        .map(|(name, _)| name.clone())
        .collect()
}

impl Installer {
    /// Handshakes for what is active, without a change: whether it is served, and if not, nginx is told once more.
    pub(super) async fn survey_all(&mut self) {
        self.survey_due().await;
        self.reload_unserved().await;
    }

    async fn survey_due(&mut self) {
        let mut names: Vec<CertificateName> = self
            .states
            .iter()
            .filter(|(_, state)| state.needs_survey())
            .map(|(name, _)| name.clone())
            .collect();
        // Set anew below where there is something to wait for; left as it is, it would wake us without end.
        let postponed = self.postponed.take();
        if names.is_empty() {
            return;
        }
        let Some(server) = self.running().await else {
            for name in &names {
                self.seen(name, Vec::new());
            }
            return;
        };
        let changed = self
            .host
            .newest_change(self.live.root())
            .map(|edit| edit.at);
        let wait = postponed.map_or(FIRST_LOOK, |(_, wait)| (wait * 2).min(LAST_LOOK));
        if edit::in_progress(changed, server.master().and_then(Master::serving_since)) {
            // The files tell of listeners that nginx hasn't got yet: what was seen stays until it has.
            self.postponed = Some((Instant::now() + wait, wait));
            // Not for ever: what is to be tried again is, when the edit was waited for long enough.
            let waited = server
                .master()
                .is_none_or(|master| self.edit_in_progress(master).is_none());
            names.retain(|name| {
                self.states.get(name).is_some_and(|state| {
                    state.sightings.is_none() || (waited && state.is_due_again())
                })
            });
        }
        if names.is_empty() {
            return;
        }
        let mut found = match self.targets(&server, &names).await {
            Ok(targets) => self.survey(targets).await,
            // Which listeners there are can't be known now: what was seen of them stays, and nobody may tell us when
            // they can be.
            Err(_) => {
                self.postponed = Some((Instant::now() + wait, wait));
                names.retain(|name| {
                    self.states
                        .get(name)
                        .is_some_and(|state| state.sightings.is_none())
                });
                BTreeMap::new()
            }
        };
        for name in &names {
            self.seen(name, found.remove(name).unwrap_or_default());
        }
    }

    async fn running(&self) -> Option<Server> {
        let server = self.host.server().ok()?;
        server.runs().await.then_some(server)
    }

    fn seen(&mut self, name: &CertificateName, sightings: Vec<Sighting>) {
        if let Some(state) = self.states.get_mut(name) {
            state.sightings = Some((sightings, clock::now()));
            state.resurvey = false;
        }
    }

    /// What is active as it should be, but isn't known to be served, is tested, reloaded and confirmed.
    async fn reload_unserved(&mut self) {
        let mut trails = BTreeMap::new();
        let mut candidates = BTreeMap::new();
        let running = self.running().await.is_some();
        self.read_holds();
        let names: Vec<CertificateName> = self.states.keys().cloned().collect();
        for name in names {
            let Some((generation, served)) = self.active_and_served(&name, running) else {
                continue;
            };
            let Some(wanted) = self.wanted.get(&name).cloned() else {
                continue;
            };
            if self.is_held(&name) {
                continue;
            }
            if served {
                self.settle(&name, generation);
                continue;
            }
            if !self.is_time(&name).await {
                continue;
            }
            let before = self.unproven(&name, generation);
            let entry = self.ledger.entry(&name);
            let regressions = entry.map_or(0, |entry| entry.regressions(generation));
            let mut trail = Trail::new(generation, wanted, regressions);
            trail.found.activated = true;
            trail.found.resumed = before.is_none();
            trail.before = before;
            candidates.insert(
                name.clone(),
                install::Candidate {
                    progress: Progress::Active,
                    ever_real: true,
                    older_worthless: trail.before.is_none(),
                    verdict: None,
                },
            );
            trails.insert(name, trail);
        }
        if candidates.is_empty() {
            return;
        }
        let mut running = Running::new(Round::new(candidates), trails);
        self.baseline(&mut running).await;
        let held = held(&running);
        for name in &held {
            if let Some(trail) = running.trails.get_mut(name) {
                trail.found.activated = false;
            }
        }
        self.hold(&mut running, &held);
        self.publish();
        if held.len() == running.trails.len() {
            return;
        }
        if running.round.host == Host::Broken {
            // Whose fault it is will be known when they are gone.
            running.round.host = Host::Sound;
            for trail in running.trails.values_mut() {
                trail.found.host = Host::Sound;
            }
        }
        running.round.phase = Phase::Activated;
        self.run_round(running.round, running.trails).await;
    }

    /// The way back from a generation that a crash kept from being tested, where there is one that is worth going.
    fn unproven(&self, name: &CertificateName, generation: Generation) -> Option<Before> {
        let entry = self.ledger.entry(name)?;
        let (before, path) = match resume::way_back(entry.active(), generation)? {
            Back::To(active) => {
                let path = self.store.path(name, active);
                (Before::Link(path.clone()), path)
            }
            Back::KeptAside => {
                let path = self.live.kept_aside(name)?;
                (Before::Aside(path.clone()), path)
            }
        };
        let valid = state::leaf_in(&path).is_some_and(|leaf| leaf.is_valid_at(clock::now()));
        valid.then_some(before)
    }

    /// The active generation, if it is an issued one that nothing better is due for, and whether it is served.
    /// Where no nginx is `running`, none is.
    fn active_and_served(
        &self,
        name: &CertificateName,
        running: bool,
    ) -> Option<(Generation, bool)> {
        let state = self.states.get(name)?;
        let generation = state
            .disk
            .as_ref()?
            .active()
            .filter(|generation| !generation.is_none())?;
        if state.resurvey {
            return None;
        }
        let (sightings, _) = state.sightings.as_ref()?;
        let reloaded = self
            .ledger
            .entry(name)
            .and_then(|entry| entry.facts.reloaded)
            .map(|fact| Generation(fact.generation));
        let seen = sightings.iter().map(|sighting| sighting.seen(generation));
        let proven = reloaded == Some(generation);
        // What the operator's own command has to say isn't seen by handshakes.
        let asked = self.host.exec().is_some_and(|exec| exec.confirm.is_some());
        let served = running && served::is_known(seen, proven) && (proven || !asked);
        Some((generation, served))
    }

    /// Takes note that the active generation is served, where that isn't known yet.
    fn settle(&mut self, name: &CertificateName, generation: Generation) {
        let desired = self.wanted.get(name).map(|wanted| wanted.generation);
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        let behind = desired.is_some_and(|desired| desired > generation);
        // That a newer one failed isn't undone by going back.
        let failed = state.outcome.is_some_and(|(of, outcome)| {
            of > generation && matches!(outcome, Outcome::Rejected | Outcome::Regressed)
        });
        if behind || failed || state.outcome == Some((generation, Outcome::Converged)) {
            return;
        }
        state.outcome = Some((generation, Outcome::Converged));
        state.problem.clear();
        state.attempts = 0;
        state.retry_at = None;
        self.ledger_dirty |= self
            .ledger
            .entry_mut(name)
            .record_served(generation, fact(generation));
        self.prune(name);
    }
}
