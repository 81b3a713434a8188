//! The steps that all due certificates take together: baseline, activate, test, reload, confirm, and the way back.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, Generation};
use tokio::time::Instant;

use super::{
    Installer, confirm,
    look::Confirmed,
    places,
    round::{Running, active, advance, fact},
    server::Server,
    start::Watched,
};
use crate::{
    disk::Before,
    nginx::{Tested, dump::DumpError},
    plan::{
        confirm::Verdict,
        install::{Host, Phase, Progress},
    },
};

/// So many handshakes before an activation cost next to nothing.
const CHEAP_SURVEY: usize = 32;
/// A look at the listeners is good for so long.
const FRESH: std::time::Duration = std::time::Duration::from_secs(1);

impl Installer {
    pub(super) async fn baseline(&mut self, running: &mut Running) -> bool {
        let names: Vec<CertificateName> = running.trails.keys().cloned().collect();
        let server = self.host.server();
        let (host, host_words) = match &server {
            Err(error) => (Host::Absent, error.to_string()),
            Ok(server) => self.look_at_host(server, &names).await,
        };
        running.round.host = host;
        running.host_words = host_words;
        for trail in running.trails.values_mut() {
            trail.found.host = host;
            if host == Host::Absent {
                // Said even where it doesn't stop an install.
                trail.why.clone_from(&running.host_words);
            }
        }
        if let (Host::Sound, Ok(server)) = (host, server) {
            self.hold_unreadable(running, &server).await;
        }
        true
    }

    async fn look_at_host(&mut self, server: &Server, names: &[CertificateName]) -> (Host, String) {
        if !server.runs().await {
            let name = self.host.speech().name;
            return (Host::Stopped, format!("{name} is not running"));
        }
        if let Err(words) = self.takes_its_configuration(server).await {
            return (Host::Broken, words);
        }
        if let Some(problem) = server
            .master()
            .and_then(|master| self.edit_in_progress(master))
        {
            return (Host::Editing, problem);
        }
        self.survey_before(server, names).await;
        (Host::Sound, String::new())
    }

    /// Whether it would load its configuration as it is; else why not.
    async fn takes_its_configuration(&mut self, server: &Server) -> Result<(), String> {
        match server {
            Server::Nginx(nginx) => match self.host.parsed(nginx).await {
                Ok(_) => Ok(()),
                Err(DumpError::Refused { words }) => Err(words),
                Err(error) => Err(error.to_string()),
            },
            Server::Exec(_) => match self.host.test(server).await? {
                Tested::Passed { .. } => Ok(()),
                Tested::Refused { words } => Err(words),
            },
        }
    }

    /// What is healthy before anything is touched, to know later what got worse.
    pub(super) async fn survey_before(&mut self, server: &Server, names: &[CertificateName]) {
        if self.surveyed_at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let Ok(mut targets) = self.targets(server, names).await else {
            return;
        };
        if targets.len() > CHEAP_SURVEY {
            targets.retain(|target| !self.healthy.contains_key(&confirm::key(target)));
        }
        self.survey(targets).await;
        self.surveyed_at = Some(Instant::now());
    }

    /// Whether any was activated.
    pub(super) fn activate(&mut self, running: &mut Running, names: &[CertificateName]) -> bool {
        if let Err(problem) = self.begin_activation() {
            for name in names {
                if let Some(trail) = running.trails.get_mut(name) {
                    trail.stop(problem.clone());
                }
                self.conclude(running, name);
            }
            return false;
        }
        self.ledger_dirty = false;
        self.unsaved = None;
        self.host.forget_refusal();
        let mut any = false;
        for name in names {
            let Some(trail) = running.trails.get_mut(name) else {
                continue;
            };
            match self.live.activate(name, trail.generation, &self.store) {
                Ok(before) => {
                    tracing::info!(certificate = %name, generation = trail.generation.0, "activated");
                    trail.before = Some(before);
                    trail.found.activated = true;
                    self.note_active(name, trail.generation);
                    advance(&mut running.round, name, Progress::Active);
                    any = true;
                }
                Err(error) => {
                    trail.stop(error.to_string());
                    self.conclude(running, name);
                }
            }
        }
        any
    }

    fn begin_activation(&mut self) -> Result<(), String> {
        places::make_ready(&self.live, &self.config).map_err(|error| error.to_string())?;
        let before = self.ledger.activation.clone();
        if let Some(activation) = self.activation() {
            self.ledger.activation = Some(activation);
            self.ledger_dirty = true;
        }
        // What is about to be active is in the ledger first: a crash right after must not make it look altered.
        if self.ledger_dirty
            && let Err(error) = self.ledger.save(&self.config.ledger_file())
        {
            self.ledger.activation = before;
            return Err(error.to_string());
        }
        if self.ledger.activation != before {
            self.watched = Watched::default();
        }
        Ok(())
    }

    fn note_active(&mut self, name: &CertificateName, generation: Generation) {
        let entry = self.ledger.entry_mut(name);
        entry.active = Some(generation.0);
        entry.facts.installed = Some(fact(generation));
        self.ledger_dirty = true;
        if let Some(state) = self.states.get_mut(name) {
            state.disk = None;
        }
    }

    pub(super) async fn test(&mut self, running: &mut Running, again: bool) -> bool {
        let going_back = running.round.phase == Phase::RegressedRolledBack;
        let tested = match self.host.server() {
            Ok(server) => self.host.test(&server).await,
            Err(error) => Err(error.to_string()),
        };
        // A test that couldn't be made says nothing of the certificates: they go back, and nothing is counted.
        let (answer, why) = match tested {
            Ok(Tested::Passed { .. }) => (Some(true), String::new()),
            Ok(Tested::Refused { words }) => (Some(false), words),
            Err(problem) => (None, problem),
        };
        let passed = answer == Some(true);
        if again && !passed {
            running.host_words.clone_from(&why);
        }
        for (name, trail) in active(&running.round, &mut running.trails) {
            let went_back = going_back && trail.found.verdict == Some(Verdict::Regressed);
            if again || went_back {
                trail.found.tested_again = answer;
            } else if !going_back {
                trail.found.tested = answer;
                if passed {
                    self.ledger.entry_mut(name).facts.tested = Some(fact(trail.generation));
                    self.ledger_dirty = true;
                }
            }
            if !passed {
                trail.why.clone_from(&why);
            }
        }
        passed
    }

    pub(super) async fn reload(&mut self, running: &mut Running) -> bool {
        let going_back = running.round.phase == Phase::RegressedTested;
        let server = self.host.server().map_err(|error| error.to_string());
        let asked = match &server {
            Ok(server) => server.reload(self.host.settings()).await,
            Err(problem) => Err(problem.clone()),
        };
        running.before_reload = server.ok();
        if !going_back {
            for (_, trail) in active(&running.round, &mut running.trails) {
                trail.found.reloaded = Some(asked.is_ok());
                if let Err(why) = &asked {
                    trail.why.clone_from(why);
                }
            }
        } else if let Err(problem) = &asked {
            tracing::error!(problem, "the server can't be told to go back");
        }
        asked.is_ok()
    }

    pub(super) async fn confirm_names(
        &mut self,
        running: &mut Running,
        names: &[CertificateName],
    ) -> bool {
        let generations: BTreeMap<CertificateName, Generation> = names
            .iter()
            .filter_map(|name| running.trails.get(name).map(|trail| (name, trail)))
            .filter(|(_, trail)| trail.found.reloaded == Some(true))
            .map(|(name, trail)| (name.clone(), trail.generation))
            .collect();
        let Some(before) = running
            .before_reload
            .clone()
            .filter(|_| !generations.is_empty())
        else {
            return true;
        };
        let confirmed = self.confirm(&generations, &before).await;
        for (
            name,
            Confirmed {
                verdict,
                sightings,
                why,
                new_workers,
            },
        ) in confirmed
        {
            let Some(trail) = running.trails.get_mut(&name) else {
                continue;
            };
            trail.found.verdict = Some(verdict);
            trail.why = why;
            trail.new_workers = new_workers;
            trail.sightings = Some(sightings);
            if let Some(candidate) = running.round.certificates.get_mut(&name) {
                candidate.verdict = Some(verdict);
            }
            if verdict == Verdict::Converged {
                self.ledger.entry_mut(&name).facts.reloaded = Some(fact(trail.generation));
                self.ledger_dirty = true;
            }
        }
        true
    }

    pub(super) fn roll_back(&mut self, running: &mut Running, names: &[CertificateName]) -> bool {
        let joint = running.round.phase == Phase::TestFailed && names.len() > 1;
        for name in names {
            let Some(trail) = running.trails.get_mut(name) else {
                continue;
            };
            let Some(before) = trail.before.take() else {
                continue;
            };
            match self.live.roll_back(name, &before) {
                Ok(()) => {
                    tracing::warn!(certificate = %name, generation = trail.generation.0, problem = trail.why, "rolled back");
                }
                Err(error) => {
                    tracing::error!(certificate = %name, generation = trail.generation.0, %error, "can't be rolled back");
                    trail.why = format!("{}; and it can't be rolled back: {error}", trail.why);
                }
            }
            if joint {
                trail.found.activated = false;
                trail.found.tested = None;
                trail.why.clear();
            }
            let entry = self.ledger.entry_mut(name);
            entry.active = match &before {
                Before::Link(target) => self
                    .store
                    .generation_at(name, target)
                    .map(|generation| generation.0),
                Before::Nothing | Before::Aside(_) => None,
            };
            entry.facts.installed = entry
                .active
                .filter(|active| *active > 0)
                .map(|active| fact(Generation(active)));
            self.ledger_dirty = true;
            if let Some(state) = self.states.get_mut(name) {
                state.disk = None;
            }
        }
        true
    }

    pub(super) fn hold(&mut self, running: &mut Running, names: &[CertificateName]) {
        for name in names {
            if let Some(trail) = running.trails.get_mut(name) {
                trail.why.clone_from(&running.host_words);
            }
            self.conclude(running, name);
        }
    }
}
