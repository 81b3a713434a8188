//! Performs the plan's steps of one round, and writes down what each found.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use certwell_proto::{
    Bundle, CertificateName, Generation,
    bundle::{BundleError, Expected},
    v1,
};
use tokio::time::Instant;

use super::{Installer, asked_to_stop, confirm::Confirmed, host::RUN_LIMIT, words};
use crate::{
    clock,
    disk::{Before, ledger::Fact},
    issuer::{Wanted, connection},
    jitter,
    nginx::{Master, Nginx, Tested, candidate, dump::DumpError, reload},
    plan::{
        confirm::Verdict,
        install::{self, Host, Phase, Progress, Round, Step},
        outcome::{self, Found, Outcome},
        retry,
        served::Sighting,
    },
};

/// For one bundle over the wire.
const FETCH_LIMIT: Duration = Duration::from_secs(30);
/// While nginx isn't running it is looked for so often.
pub(super) const STOPPED_RETRY: Duration = Duration::from_secs(5);
/// So many handshakes before an activation cost next to nothing.
const CHEAP_SURVEY: usize = 32;

/// What one certificate has left on its way through a round.
pub(super) struct Trail {
    generation: Generation,
    wanted: Wanted,
    bundle: Option<Bundle>,
    before: Option<Before>,
    found: Found,
    why: String,
    sightings: Option<Vec<Sighting>>,
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
        }
    }

    /// Something of this host stands in the way.
    fn stop(&mut self, why: String) {
        self.found.stopped_early = true;
        self.why = why;
    }
}

/// A round under way.
struct Running {
    round: Round,
    trails: BTreeMap<CertificateName, Trail>,
    nginx: Option<Nginx>,
    /// The master as it was when the reload was asked for.
    before_reload: Option<Master>,
    /// Words of the host's own failure.
    host_words: String,
}

impl Installer {
    /// A whole round. Between activate and confirm it can't be stopped.
    pub(super) async fn run_round(
        &mut self,
        round: Round,
        trails: BTreeMap<CertificateName, Trail>,
    ) {
        let mut running = Running {
            round,
            trails,
            nginx: None,
            before_reload: None,
            host_words: String::new(),
        };
        loop {
            let safe = running.round.phase == Phase::Preparing;
            if safe && *self.shutdown.borrow() {
                return;
            }
            let step = install::next(&running.round);
            tracing::debug!(?step, "step");
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
                    self.publish();
                    true
                }
                Step::Done => return,
            };
            install::after(&mut running.round, &step, passed);
        }
    }

    /// Handshakes for what is active, without a change: whether it is served, and if not, nginx is told once more.
    pub(super) async fn survey_all(&mut self) {
        let names: Vec<CertificateName> = self
            .states
            .iter()
            .filter(|(_, state)| state.sightings.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        let Ok(nginx) = self.host.find() else { return };
        if nginx.master.is_none() {
            for name in &names {
                self.seen(name, Vec::new());
            }
        } else if !names.is_empty()
            && let Ok(targets) = self.targets(&nginx, &names).await
        {
            let mut found = self.survey(targets).await;
            for name in &names {
                self.seen(name, found.remove(name).unwrap_or_default());
            }
        }
        self.reload_unserved().await;
    }

    fn seen(&mut self, name: &CertificateName, sightings: Vec<Sighting>) {
        if let Some(state) = self.states.get_mut(name) {
            state.sightings = Some((sightings, clock::now()));
        }
    }

    /// What is active as it should be, but isn't known to be served, is tested, reloaded and confirmed.
    async fn reload_unserved(&mut self) {
        let mut trails = BTreeMap::new();
        let mut candidates = BTreeMap::new();
        let names: Vec<CertificateName> = self.states.keys().cloned().collect();
        for name in names {
            let Some((generation, served)) = self.active_and_served(&name) else {
                continue;
            };
            let Some(wanted) = self.wanted.get(&name).cloned() else {
                continue;
            };
            if served {
                self.settle(&name, generation);
                continue;
            }
            if !self.is_time_for(&name) {
                continue;
            }
            let mut trail = Trail::new(generation, wanted, 0);
            trail.found.activated = true;
            trail.found.resumed = true;
            trails.insert(name.clone(), trail);
            candidates.insert(
                name,
                install::Candidate {
                    progress: Progress::Active,
                    ever_real: true,
                    older_worthless: true,
                    verdict: None,
                },
            );
        }
        if candidates.is_empty() {
            return;
        }
        let mut running = Running {
            round: Round::new(candidates),
            trails,
            nginx: None,
            before_reload: None,
            host_words: String::new(),
        };
        self.baseline(&mut running).await;
        let names: Vec<CertificateName> = running.trails.keys().cloned().collect();
        if matches!(
            running.round.host,
            Host::Broken | Host::Editing | Host::Absent | Host::Unknown
        ) {
            for trail in running.trails.values_mut() {
                trail.found.activated = false;
            }
            self.hold(&mut running, &names);
            self.publish();
            return;
        }
        running.round.phase = Phase::Activated;
        self.run_round(running.round, running.trails).await;
    }

    /// The active generation, if it is an issued one that nothing better is due for, and whether it is served.
    fn active_and_served(&self, name: &CertificateName) -> Option<(Generation, bool)> {
        let state = self.states.get(name)?;
        let generation = state
            .disk
            .as_ref()?
            .active()
            .filter(|generation| !generation.is_none())?;
        let (sightings, _) = state.sightings.as_ref()?;
        let served = sightings.iter().all(|sighting| {
            use crate::plan::confirm::Seen;
            matches!(sighting.seen(generation), Seen::New | Seen::Exempt)
        });
        let converged = state
            .outcome
            .is_some_and(|(of, outcome)| of == generation && outcome == Outcome::Converged);
        // Without a listener only new workers could tell; what was once converged stays so.
        let known = !sightings.is_empty() || converged;
        Some((generation, served && known))
    }

    fn is_time_for(&self, name: &CertificateName) -> bool {
        self.states
            .get(name)
            .is_some_and(|state| state.retry_at.is_none_or(|at| at <= Instant::now()))
    }

    /// Takes note that the active generation is served, where that isn't known yet.
    fn settle(&mut self, name: &CertificateName, generation: Generation) {
        let desired = self.wanted.get(name).map(|wanted| wanted.generation);
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        let behind = desired.is_some_and(|desired| desired > generation);
        if behind || state.outcome == Some((generation, Outcome::Converged)) {
            return;
        }
        state.outcome = Some((generation, Outcome::Converged));
        state.problem.clear();
        state.attempts = 0;
        state.retry_at = None;
        let now = fact(generation);
        let facts = &mut self.ledger.entry_mut(name).facts;
        // It is served, so it was installed, tested and reloaded, even where a crash kept that from being noted.
        for one in [&mut facts.installed, &mut facts.tested, &mut facts.reloaded] {
            if one.is_none_or(|fact| fact.generation != generation.0) {
                *one = Some(now);
                self.ledger_dirty = true;
            }
        }
    }

    async fn fetch(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let Some(connection) = self.link.borrow().connection.clone() else {
            trail.stop("the issuer is not reached".into());
            self.conclude(running, name);
            return false;
        };
        let request = v1::FetchRequest {
            certificate: name.to_string(),
            generation: trail.generation.0,
        };
        let mut fleet = connection.fleet();
        let answered = tokio::select! {
            // Nothing was touched yet.
            () = asked_to_stop(&mut self.shutdown) => return finish(&mut running.round, name),
            answered = tokio::time::timeout(FETCH_LIMIT, fleet.fetch(request)) => answered,
        };
        let bundle = match answered {
            Err(_) => Err("the issuer didn't answer the fetch in time".to_owned()),
            Ok(Err(status)) => Err(format!(
                "it can't be fetched: {}",
                connection::words(&status)
            )),
            Ok(Ok(response)) => Bundle::try_from(response.into_inner())
                .map_err(|error| format!("the bundle can't be read: {error}")),
        };
        let bundle = bundle.and_then(|bundle| {
            let as_announced = bundle.certificate == *name
                && bundle.generation == trail.generation
                && bundle.fingerprints() == trail.wanted.fingerprints;
            if as_announced {
                Ok(bundle)
            } else {
                Err("the issuer sent another bundle than it announced".into())
            }
        });
        match bundle {
            Ok(bundle) => {
                trail.bundle = Some(bundle);
                self.ledger.entry_mut(name).facts.fetched = Some(fact(trail.generation));
                self.ledger_dirty = true;
                advance(&mut running.round, name, Progress::Fetched);
            }
            Err(why) => {
                trail.stop(why);
                self.conclude(running, name);
            }
        }
        true
    }

    fn verify(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let expected = Expected {
            identifiers: &trail.wanted.identifiers,
            roots: &trail.wanted.roots,
            now: clock::now(),
        };
        let pairs = trail
            .bundle
            .as_ref()
            .map(|bundle| bundle.key_pairs.as_slice())
            .unwrap_or_default();
        let wrong = pairs.iter().find_map(|pair| pair.verify(&expected).err());
        match wrong {
            None => {
                trail.found.verified = Some(true);
                advance(&mut running.round, name, Progress::Verified);
            }
            // Dates are judged by this host's clock, which may be the one that is wrong: the generation isn't.
            Some(error @ (BundleError::NotYetValid(_) | BundleError::Expired(_))) => {
                trail.stop(error.to_string());
                self.conclude(running, name);
            }
            Some(error) => {
                trail.found.verified = Some(false);
                trail.why = error.to_string();
                self.conclude(running, name);
            }
        }
        true
    }

    fn stage(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let Some(bundle) = trail.bundle.take() else {
            return finish(&mut running.round, name);
        };
        match self.store.stage(&bundle) {
            Ok(record) => {
                let lineage = self.ledger.lineage().map(|lineage| lineage.id.to_string());
                self.ledger
                    .entry_mut(name)
                    .record_staged(trail.generation, record, lineage);
                self.ledger_dirty = true;
                advance(&mut running.round, name, Progress::Staged);
            }
            Err(error) => {
                trail.stop(if error.is_full() {
                    format!("the disk is full: {error}")
                } else {
                    error.to_string()
                });
                self.conclude(running, name);
            }
        }
        true
    }

    async fn test_candidate(&mut self, running: &mut Running, name: &CertificateName) -> bool {
        let Some(trail) = running.trails.get_mut(name) else {
            return finish(&mut running.round, name);
        };
        let Ok(nginx) = self.host.find() else {
            // No nginx to ask: the plan goes on without.
            advance(&mut running.round, name, Progress::Ready);
            return true;
        };
        let pairs = self.staged_pairs(name, trail.generation);
        let tested = candidate::test(
            &nginx.invocation,
            &pairs,
            &self.config.state_directory,
            RUN_LIMIT,
        )
        .await;
        match tested {
            Ok(Tested::Passed { .. }) => {
                trail.found.candidate = Some(true);
                advance(&mut running.round, name, Progress::Ready);
            }
            Ok(Tested::Refused { words }) => {
                trail.found.candidate = Some(false);
                trail.why = words;
                self.conclude(running, name);
            }
            Err(error) => {
                trail.stop(error.to_string());
                self.conclude(running, name);
            }
        }
        true
    }

    fn staged_pairs(
        &self,
        name: &CertificateName,
        generation: Generation,
    ) -> Vec<(PathBuf, PathBuf)> {
        let directory = self.store.path(name, generation);
        let files = self
            .ledger
            .entry(name)
            .and_then(|entry| entry.staged.get(&generation.0))
            .map(|record| &record.files);
        files
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter_map(|file| Some((file, file.strip_prefix("fullchain")?)))
            .map(|(file, suffix)| {
                (
                    directory.join(file),
                    directory.join(format!("privkey{suffix}")),
                )
            })
            .collect()
    }

    async fn baseline(&mut self, running: &mut Running) -> bool {
        let names: Vec<CertificateName> = running.trails.keys().cloned().collect();
        let (host, host_words) = match self.host.find() {
            Err(error) => (Host::Absent, error.to_string()),
            Ok(nginx) => {
                let found = self.look_at_host(&nginx, &names).await;
                running.nginx = Some(nginx);
                found
            }
        };
        running.round.host = host;
        running.host_words = host_words;
        for trail in running.trails.values_mut() {
            trail.found.host = host;
        }
        true
    }

    async fn look_at_host(&mut self, nginx: &Nginx, names: &[CertificateName]) -> (Host, String) {
        let Some(master) = &nginx.master else {
            return (Host::Stopped, "nginx is not running".into());
        };
        match self.host.parsed(nginx).await {
            Ok(_) => {}
            Err(DumpError::Refused { words }) => return (Host::Broken, words),
            Err(error) => return (Host::Broken, error.to_string()),
        }
        if let Some(problem) = self.edit_in_progress(master) {
            return (Host::Editing, problem);
        }
        if let Ok(targets) = self.targets(nginx, names).await {
            let known: BTreeSet<usize> = targets
                .iter()
                .enumerate()
                .filter(|(_, target)| self.healthy.contains_key(&super::confirm::key(target)))
                .map(|(at, _)| at)
                .collect();
            let cheap = targets.len() <= CHEAP_SURVEY;
            let unknown = targets
                .into_iter()
                .enumerate()
                .filter(|(at, _)| cheap || !known.contains(at))
                .map(|(_, t)| t);
            self.survey(unknown.collect()).await;
        }
        (Host::Sound, String::new())
    }

    /// Whether any was activated.
    fn activate(&mut self, running: &mut Running, names: &[CertificateName]) -> bool {
        // What is about to be active is in the ledger first: a crash right after must not make it look altered.
        if let Err(error) = self.ledger.save(&self.config.ledger_file()) {
            for name in names {
                if let Some(trail) = running.trails.get_mut(name) {
                    trail.stop(error.to_string());
                }
                self.conclude(running, name);
            }
            return false;
        }
        self.ledger_dirty = false;
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

    fn note_active(&mut self, name: &CertificateName, generation: Generation) {
        let entry = self.ledger.entry_mut(name);
        entry.active = Some(generation.0);
        entry.facts.installed = Some(fact(generation));
        self.ledger_dirty = true;
        if let Some(state) = self.states.get_mut(name) {
            state.disk = None;
        }
    }

    async fn test(&mut self, running: &mut Running, again: bool) -> bool {
        let going_back = running.round.phase == Phase::RegressedRolledBack;
        let tested = match self.host.find() {
            Ok(nginx) => self
                .host
                .test(&nginx)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let (passed, why) = match tested {
            Ok(Tested::Passed { .. }) => (true, String::new()),
            Ok(Tested::Refused { words }) => (false, words),
            Err(problem) => (false, problem),
        };
        for (name, trail) in active(&running.round, &mut running.trails) {
            if again {
                trail.found.tested_again = Some(passed);
            } else if !going_back {
                trail.found.tested = Some(passed);
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

    async fn reload(&mut self, running: &mut Running) -> bool {
        let going_back = running.round.phase == Phase::RegressedTested;
        let master = self.host.find().ok().and_then(|nginx| nginx.master);
        let asked = match &master {
            Some(master) => reload::reload(self.host.settings(), master, RUN_LIMIT)
                .await
                .map_err(|error| error.to_string()),
            None => Err("nginx stopped before it could be told".into()),
        };
        running.before_reload = master;
        if !going_back {
            for (_, trail) in active(&running.round, &mut running.trails) {
                trail.found.reloaded = Some(asked.is_ok());
                if let Err(why) = &asked {
                    trail.why.clone_from(why);
                }
            }
        } else if let Err(problem) = &asked {
            tracing::error!(problem, "nginx can't be told to go back");
        }
        asked.is_ok()
    }

    async fn confirm_names(&mut self, running: &mut Running, names: &[CertificateName]) -> bool {
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
            },
        ) in confirmed
        {
            let Some(trail) = running.trails.get_mut(&name) else {
                continue;
            };
            trail.found.verdict = Some(verdict);
            trail.why = why;
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

    fn roll_back(&mut self, running: &mut Running, names: &[CertificateName]) -> bool {
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
                    tracing::error!(certificate = %name, %error, "can't be rolled back");
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
                Before::Nothing | Before::Directory(_) => None,
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

    fn hold(&mut self, running: &mut Running, names: &[CertificateName]) {
        for name in names {
            if let Some(trail) = running.trails.get_mut(name) {
                trail.why.clone_from(&running.host_words);
            }
            self.conclude(running, name);
        }
    }

    /// Writes down how it ended, and when it is tried again.
    fn conclude(&mut self, running: &mut Running, name: &CertificateName) {
        finish(&mut running.round, name);
        let Some(trail) = running.trails.get_mut(name) else {
            return;
        };
        let outcome = outcome::outcome(&trail.found);
        let generation = trail.generation;
        let entry = self.ledger.entry_mut(name);
        let active = entry.active();
        let problem = words::problem(outcome, &trail.found, generation, active, &trail.why);
        match outcome {
            Outcome::Converged => {
                entry.ever_real = true;
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
        if outcome == Outcome::Converged
            && let Ok(removed) = self.store.prune(name, Some(generation), generation)
        {
            for gone in removed {
                entry.staged.remove(&gone.0);
            }
        }
        self.look_at_disk();
        let now = clock::now();
        let Some(state) = self.states.get_mut(name) else {
            return;
        };
        state.outcome = Some((generation, outcome));
        state.problem = problem;
        state.nginx_stopped = trail.found.host == Host::Stopped;
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
        state.retry_at =
            retry::wait(outcome, state.attempts, remaining, jitter::fraction()).map(|wait| {
                let wait = if state.nginx_stopped {
                    wait.min(STOPPED_RETRY)
                } else {
                    wait
                };
                Instant::now() + wait
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
}

fn fact(generation: Generation) -> Fact {
    Fact {
        generation: generation.0,
        at_ms: clock::now().as_millisecond(),
    }
}

fn advance(round: &mut Round, name: &CertificateName, progress: Progress) {
    if let Some(candidate) = round.certificates.get_mut(name) {
        candidate.progress = progress;
    }
}

/// Over for it in this round; the value is what a step without a result passes on.
fn finish(round: &mut Round, name: &CertificateName) -> bool {
    advance(round, name, Progress::Finished);
    true
}

fn active<'a>(
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
