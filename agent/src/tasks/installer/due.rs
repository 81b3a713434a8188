//! Which certificates a round is about, by what is on disk and what is wanted.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, Generation};
use tokio::time::Instant;

use super::{
    Installer, places,
    round::{Trail, WATCHED_RETRY},
    server::Server,
    state::Waiting,
};
use crate::{
    clock,
    disk::placeholder,
    plan::{
        admit,
        drift::{self, Action, Found},
        install::{Candidate, Progress, Round},
        outcome::Outcome,
    },
};

impl Installer {
    /// Installs what is due, in one round.
    pub(super) async fn install_due(&mut self) {
        let mut candidates = BTreeMap::new();
        let mut trails = BTreeMap::new();
        let names: Vec<CertificateName> = self.wanted.keys().cloned().collect();
        for name in names {
            self.judge_offer(&name);
            if let Some((candidate, trail)) = self.due(&name).await {
                candidates.insert(name.clone(), candidate);
                trails.insert(name, trail);
            }
        }
        if !candidates.is_empty() {
            self.run_round(Round::new(candidates), trails).await;
        }
    }

    fn action(&self, name: &CertificateName) -> Option<Action> {
        let wanted = self.wanted.get(name)?;
        let disk = self.states.get(name)?.disk.as_ref()?;
        let given_up = self
            .ledger
            .entry(name)
            .is_some_and(|entry| entry.rejected.contains_key(&wanted.generation.0));
        let rejected = given_up || !self.states.get(name)?.refusal.is_empty();
        let facts = drift::Facts {
            found: disk.found,
            desired: wanted.generation,
            desired_until: wanted.not_after,
            staged: disk.staged,
            rejected,
            reachable: self.link.borrow().connection.is_some(),
        };
        Some(drift::action(&facts, clock::now()))
    }

    /// Takes note of whether what is offered may be taken.
    fn judge_offer(&mut self, name: &CertificateName) {
        let refusal = self.admit(name).err().unwrap_or_default();
        let offered = self.wanted.get(name).map(|wanted| wanted.generation.0);
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        if state.refusal != refusal {
            if !refusal.is_empty() {
                tracing::warn!(certificate = %name, generation = offered, problem = refusal, "not taken");
            }
            state.refusal = refusal;
        }
    }

    /// What a round does about it, if anything is to be done now.
    async fn due(&mut self, name: &CertificateName) -> Option<(Candidate, Trail)> {
        if self.is_held(name) {
            return None;
        }
        let action = self.action(name)?;
        let (generation, progress) = match action {
            Action::Draw => (self.wanted.get(name)?.generation, Progress::Wanted),
            Action::Relink(generation) => (generation, Progress::Staged),
            Action::KeepForeign => {
                self.keep_foreign(name);
                return None;
            }
            Action::Nothing => {
                self.say_damage(name);
                return None;
            }
            Action::Placeholder => return None,
        };
        if !self.is_time(name).await {
            return None;
        }
        if action == Action::Draw && self.link.borrow().connection.is_none() {
            // Drawn as soon as there is a connection: nothing has failed.
            let state = self.states.get_mut(name)?;
            if state.problem.is_empty() {
                state.problem =
                    format!("generation {generation} is drawn when the issuer is reached");
            }
            return None;
        }
        let wanted = self.wanted.get(name)?.clone();
        let disk = self.states.get(name)?.disk.as_ref()?;
        let entry = self.ledger.entry(name);
        let candidate = Candidate {
            progress,
            ever_real: entry.is_some_and(|entry| entry.ever_real) && disk.is_there(),
            older_worthless: disk.worthless(clock::now()),
            verdict: None,
        };
        let regressions = entry.map_or(0, |entry| entry.regressions(generation));
        Some((candidate, Trail::new(generation, wanted, regressions)))
    }

    /// Whether its back-off is over; where it waits for the host, whether that has come about.
    pub(super) async fn is_time(&mut self, name: &CertificateName) -> bool {
        let Some(state) = self.states.get(name) else {
            return false;
        };
        let Some(retry_at) = state.retry_at else {
            return true;
        };
        if retry_at > Instant::now() {
            return false;
        }
        let server = self.host.server().ok();
        let still = match (state.waiting, &server) {
            (Waiting::Nothing, _) => false,
            (Waiting::Start, None) => true,
            (Waiting::Start, Some(server)) => !server.runs().await,
            (Waiting::Edit, server) => server
                .as_ref()
                .and_then(Server::master)
                .is_some_and(|master| self.edit_in_progress(master).is_some()),
        };
        if still && let Some(state) = self.states.get_mut(name) {
            state.retry_at = Some(Instant::now() + WATCHED_RETRY);
        }
        !still
    }

    /// What is active is damaged, and nothing that may be taken is on offer.
    fn say_damage(&mut self, name: &CertificateName) {
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        let Some(disk) = state.disk.as_ref().filter(|disk| !disk.damage.is_empty()) else {
            return;
        };
        let Found::Ours { generation, .. } = disk.found else {
            return;
        };
        let problem = format!(
            "generation {generation} is active and damaged ({}), and the issuer offers nothing that may be taken in its place",
            disk.damage
        );
        if state.problem != problem {
            tracing::error!(certificate = %name, generation = generation.0, problem, "can't be put back");
        }
        state.outcome = Some((generation, Outcome::Held));
        state.problem = problem;
    }

    fn keep_foreign(&mut self, name: &CertificateName) {
        let path = self.live.path(name);
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        let until = state.disk.as_ref().and_then(|disk| match disk.found {
            Found::Foreign { valid_until } => valid_until,
            _ => None,
        });
        let Some(until) = until else { return };
        let path = path.display();
        let problem = if until > clock::now() {
            format!(
                "{path} holds another hand's certificate that is valid until {until}, later than ours; it stays: move it away to have ours"
            )
        } else {
            format!(
                "{path} holds another hand's certificate that expired at {until}, as ours did earlier (is this machine's clock right?); it stays: move it away to have ours"
            )
        };
        if state.problem != problem {
            tracing::warn!(certificate = %name, problem, "kept");
        }
        let generation = self
            .wanted
            .get(name)
            .map_or(Generation::NONE, |wanted| wanted.generation);
        state.outcome = Some((generation, Outcome::Held));
        state.problem = problem;
    }

    fn admit(&self, name: &CertificateName) -> Result<(), String> {
        let Some(wanted) = self.wanted.get(name) else {
            return Ok(());
        };
        let highest = self
            .ledger
            .entry(name)
            .and_then(|entry| entry.highest.as_ref());
        let present = self.ledger.lineage().map(|lineage| lineage.id.to_string());
        let known = admit::Known {
            highest: highest.map_or(Generation::NONE, |highest| Generation(highest.generation)),
            fingerprints: highest
                .map(crate::disk::ledger::Highest::leaves)
                .unwrap_or_default(),
            other_lineage: highest.is_some_and(|highest| highest.lineage != present),
            worthless: self
                .states
                .get(name)
                .and_then(|state| state.disk.as_ref())
                .is_none_or(|disk| disk.worthless(clock::now())),
        };
        admit::generation(&known, wanted.generation, &wanted.fingerprints)
            .map_err(|refusal| refusal.to_string())
    }

    /// Where nothing is at `live/NAME` after all, our best that is whole on disk goes there, else the placeholder, so
    /// that nginx can start.
    pub(super) fn fill_gaps(&mut self) {
        let names: Vec<CertificateName> = self.wanted.keys().cloned().collect();
        for name in names {
            let Some(disk) = self.states.get(&name).and_then(|state| state.disk.as_ref()) else {
                continue;
            };
            let staged = disk.staged;
            let gap = disk.found == Found::Nothing && self.live_is_absent(&name);
            let placeholder = self.action(&name) == Some(Action::Placeholder) || gap;
            if !placeholder || self.is_held(&name) {
                continue;
            }
            let put = match staged.filter(|_| gap) {
                Some(generation) => self.put_staged(&name, generation),
                None => self.put_placeholder(&name),
            };
            if let Err(problem) = put {
                tracing::warn!(certificate = %name, problem, "nothing is put there");
                // What keeps the certificate itself away is what a person has to see to.
                if let Some(state) = self.states.get_mut(&name).filter(|s| s.problem.is_empty()) {
                    state.problem = problem;
                }
            }
        }
        self.look_at_disk();
    }

    /// Whether it is served is looked at later, as after a start.
    fn put_staged(&mut self, name: &CertificateName, generation: Generation) -> Result<(), String> {
        places::make_ready(&self.live, &self.config).map_err(|e| e.to_string())?;
        self.live
            .activate(name, generation, &self.store)
            .map_err(|e| e.to_string())?;
        self.host.forget_refusal();
        self.ledger.entry_mut(name).active = Some(generation.0);
        self.ledger_dirty = true;
        if let Some(state) = self.states.get_mut(name) {
            state.disk = None;
            state.resurvey = true;
        }
        tracing::info!(certificate = %name, generation = generation.0, "put back where nothing was");
        Ok(())
    }

    fn live_is_absent(&self, name: &CertificateName) -> bool {
        std::fs::symlink_metadata(self.live.path(name))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }

    fn put_placeholder(&mut self, name: &CertificateName) -> Result<(), String> {
        let Some(wanted) = self.wanted.get(name) else {
            return Ok(());
        };
        places::make_ready(&self.live, &self.config).map_err(|e| e.to_string())?;
        let bundle = placeholder::make(name, &wanted.identifiers, clock::now())
            .map_err(|e| e.to_string())?;
        let record = self.store.stage(&bundle).map_err(|e| e.to_string())?;
        let lineage = self.ledger.lineage().map(|lineage| lineage.id.to_string());
        let entry = self.ledger.entry_mut(name);
        entry.record_staged(Generation::NONE, record, lineage);
        entry.active = Some(0);
        self.ledger_dirty = true;
        self.save();
        self.live
            .activate(name, Generation::NONE, &self.store)
            .map_err(|e| e.to_string())?;
        self.host.forget_refusal();
        if let Some(state) = self.states.get_mut(name) {
            state.disk = None;
        }
        tracing::info!(certificate = %name, "a self-signed placeholder is in place until the first certificate comes");
        Ok(())
    }
}
