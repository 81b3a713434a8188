//! Owns the disk and nginx: brings this host to the desired state, proves it, and keeps it there. All that it changes
//! on disk, it changes on this one thread, step by step.
//!
//! ```text
//! host        what is known of nginx, asked anew only when it may have changed
//! server      nginx or another: two ways to answer the same questions
//! start       an nginx that failed right after an activation
//! state       one certificate between rounds; how it looks on disk
//!   foreign   what lies there of another hand
//! due         which certificates a round is about
//! places      whether keys can be put where they belong
//! hands       what a person keeps our hands off
//! round       performs the plan's steps
//! prepare     the steps of one certificate alone
//! switch      the steps of all together, and the way back
//! survey      looking again at what is active
//! confirm     handshakes until there is a verdict
//!   look        what each handshake showed, over the time of confirming
//! challenges  the map of HTTP-01 answers
//! wake        what wakes it, and what that means
//! words       the one sentence in the way of a certificate
//! ```

mod challenges;
mod confirm;
mod due;
mod foreign;
mod hands;
mod host;
mod look;
pub mod places;
mod prepare;
mod round;
mod server;
mod start;
mod state;
mod survey;
mod switch;
mod wake;
mod words;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use certwell_metrics::Timings;
use certwell_proto::{CertificateName, v1};
use tokio::{sync::watch, time::Instant};

pub use self::host::HostFacts;
use self::{challenges::MapState, confirm::TargetKey, host::HostView, state::State, wake::Woken};
use super::{
    Shutdown, asked_to_stop,
    connection::Link,
    observed::Observed,
    post_install::{Problems, with_hook},
    watch_files::FileWatch,
};
use crate::{
    clock,
    config::Config,
    disk::{
        Ledger, LiveDirectory, Permissions, Store, durable::DiskError, ledger::LedgerError,
        permissions::PermissionError,
    },
    issuer::{Desired, Wanted},
    jitter,
    nginx::{Ended, candidate},
    plan::{admit, check, drift::Found, outcome::Outcome},
};

/// What can't be looked at, or written down, is tried again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// What the installer is made of and talks to.
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// The binary that is run to parse `nginx -T`.
    pub agent: PathBuf,
    /// What the issuer wants.
    pub desired: watch::Receiver<Option<Arc<Desired>>>,
    /// Through which bundles are fetched.
    pub link: watch::Receiver<Link>,
    /// What is so.
    pub observed: watch::Sender<Observed>,
    /// What is known of nginx.
    pub facts: watch::Sender<HostFacts>,
    /// What stands in the way of the post-install hook.
    pub hook: watch::Receiver<Problems>,
    /// How long its steps take.
    pub steps: Timings,
    /// The end.
    pub shutdown: Shutdown,
}

/// The task.
pub struct Installer {
    config: Arc<Config>,
    store: Store,
    live: LiveDirectory,
    ledger: Ledger,
    ledger_dirty: bool,
    /// Why it isn't saved, and when that is tried again.
    unsaved: Option<(String, Instant)>,
    host: HostView,
    map: MapState,
    wanted: BTreeMap<CertificateName, Wanted>,
    states: BTreeMap<CertificateName, State>,
    /// Whether a listener served any leaf when it was last looked at.
    healthy: HashMap<TargetKey, bool>,
    info: v1::HostInfo,
    watch: FileWatch,
    /// The master whose end is waited for.
    master: Option<Ended>,
    next_check: Instant,
    /// What gets old without the issuer, as it was last told.
    alarmed: BTreeSet<CertificateName>,
    /// When the next one gets old.
    alarm_at: Option<Instant>,
    /// When the listeners were last looked at before an activation.
    surveyed_at: Option<Instant>,
    /// The connection at the last pass.
    session: Option<i64>,
    /// Until when a look at them is put off, and by how much.
    postponed: Option<(Instant, Duration)>,
    /// When the next hold by hand lapses.
    hold_ends: Option<Instant>,
    desired: watch::Receiver<Option<Arc<Desired>>>,
    link: watch::Receiver<Link>,
    observed: watch::Sender<Observed>,
    facts: watch::Sender<HostFacts>,
    hook: watch::Receiver<Problems>,
    steps: Timings,
    /// nginx since the last activation.
    watched: start::Watched,
    shutdown: Shutdown,
}

/// Why the installer can't begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Directories that keys can't be trusted to.
    #[error(transparent)]
    Permission(#[from] PermissionError),
    /// Directories that can't be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The ledger can't be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Installer {
    /// Opens what is on disk, looks at it, and publishes that.
    ///
    /// # Errors
    /// When directories or ledger can't be used.
    pub fn open(parts: Parts, info: v1::HostInfo) -> Result<Self, OpenError> {
        let Parts {
            config,
            agent,
            desired,
            link,
            observed,
            facts,
            hook,
            steps,
            shutdown,
        } = parts;
        let permissions = Permissions::new(config.file_group.as_deref())?;
        permissions.make_directory(&config.state_directory)?;
        let store = Store::open(config.store_directory(), permissions)?;
        let live = LiveDirectory::open(config.live_directory.clone())?;
        places::check(&config)?;
        let ledger = Ledger::load(&config.ledger_file())?;
        let watched = start::Watched::begin(ledger.activation.as_ref());
        candidate::sweep(&config.state_directory);
        let mut installer = Self {
            host: HostView::new(config.nginx.clone(), config.exec.clone(), agent),
            config,
            store,
            live,
            ledger,
            ledger_dirty: false,
            unsaved: None,
            map: MapState::default(),
            wanted: BTreeMap::new(),
            states: BTreeMap::new(),
            healthy: HashMap::new(),
            info,
            watch: FileWatch::new(),
            master: None,
            next_check: Instant::now() + check::wait(None, jitter::fraction()),
            alarmed: BTreeSet::new(),
            alarm_at: None,
            surveyed_at: None,
            session: None,
            postponed: None,
            hold_ends: None,
            desired,
            link,
            observed,
            facts,
            hook,
            steps,
            watched,
            shutdown,
        };
        installer.begin_map();
        installer.adopt_desired();
        installer.read_holds();
        installer.look_at_disk();
        installer.publish();
        Ok(installer)
    }

    /// The newest lineage that the ledger knows.
    pub fn lineage(&self) -> Option<certwell_proto::Lineage> {
        self.ledger.lineage()
    }

    /// Until shutdown.
    pub async fn run(mut self) {
        // What changes during the first pass, which may take long, is noticed after it.
        self.set_watches();
        loop {
            self.pass().await;
            let fresh = self.set_watches();
            self.watch_master();
            // What changed there before it was watched.
            if !fresh.is_empty() && self.files_changed(&fresh) {
                continue;
            }
            loop {
                match self.woken().await {
                    Woken::Stop => return,
                    Woken::Desired | Woken::Timer => {}
                    Woken::Link => self.bring_forward(Duration::ZERO, |state| {
                        state
                            .outcome
                            .is_some_and(|(_, outcome)| outcome == Outcome::Held)
                    }),
                    Woken::Files(mut paths) => {
                        if self.watch.is_doubtful() {
                            paths.extend(self.set_watches());
                        }
                        // A log beside the configuration is written all the time.
                        if !self.files_changed(&paths) {
                            continue;
                        }
                    }
                    Woken::MasterEnded => self.look_again(),
                    Woken::Hook => {
                        self.publish();
                        continue;
                    }
                }
                break;
            }
        }
    }

    /// Brings the host nearer to the desired state, as far as it goes now.
    async fn pass(&mut self) {
        tracing::debug!("a pass");
        self.session = self.link.borrow_and_update().session();
        let began = Instant::now();
        let desired = self.adopt_desired();
        let checking = Instant::now() >= self.next_check;
        if checking {
            self.check_all();
        }
        self.read_holds();
        self.start_failed().await;
        let Some(desired) = desired else {
            self.look_at_disk();
            self.raise_alarm(checking);
            self.save();
            return;
        };
        // What is wanted is known from here on, however long it takes.
        self.publish();
        self.apply_challenges(&desired).await;
        self.publish_facts().await;
        self.look_at_disk();
        self.install_due().await;
        self.read_holds();
        self.fill_gaps();
        self.survey_all().await;
        self.raise_alarm(checking);
        self.save();
        // What nginx reads is asked first: it tells whether the map is included.
        self.publish_facts().await;
        self.publish();
        self.forget_past_retries(began);
        // A short-lived certificate has come since the check was set.
        let remaining = self.observed.borrow().remaining(clock::now());
        let soonest = Instant::now() + check::wait(remaining, jitter::fraction());
        self.next_check = self.next_check.min(soonest);
    }

    /// What is desired; nothing where it is of a lineage that a newer one has replaced, as a kept file may be.
    fn adopt_desired(&mut self) -> Option<Arc<Desired>> {
        let desired = self.desired.borrow_and_update().clone()?;
        if let Err(refusal) = admit::lineage(self.ledger.lineage(), desired.lineage) {
            tracing::warn!(problem = %refusal, "the desired state is dropped");
            return None;
        }
        if self.ledger.lineage() != Some(desired.lineage) {
            self.ledger.set_lineage(desired.lineage);
            self.ledger_dirty = true;
        }
        self.states
            .retain(|name, _| desired.certificates.contains_key(name));
        for (name, wanted) in &desired.certificates {
            let state = self.states.entry(name.clone()).or_default();
            let before = self.wanted.get(name);
            if before.map(|before| before.generation) != Some(wanted.generation) {
                // A new generation is a new beginning.
                state.attempts = 0;
                state.retry_at = None;
            }
            if before != Some(wanted) {
                state.disk = None;
            }
        }
        self.wanted.clone_from(&desired.certificates);
        Some(desired)
    }

    fn look_at_disk(&mut self) {
        for (name, wanted) in &self.wanted {
            let Some(state) = self.states.get_mut(name) else {
                continue;
            };
            if state.disk.is_some() {
                continue;
            }
            let held = state.by_hand.is_some();
            match state::look(name, wanted, held, &self.live, &self.store, &self.ledger) {
                Ok(disk) => {
                    if !disk.damage.is_empty() {
                        tracing::warn!(certificate = %name, problem = disk.damage, "what is on disk isn't what was put there");
                    }
                    // While it is held, what lies there may come and go.
                    if !held && matches!(disk.found, Found::Nothing | Found::Foreign { .. }) {
                        self.ledger_dirty |= self.ledger.entry_mut(name).active.take().is_some();
                    }
                    state.disk = Some(disk);
                }
                Err(error) => {
                    tracing::warn!(certificate = %name, %error, "can't be looked at");
                    state.outcome = Some((wanted.generation, Outcome::Held));
                    state.problem = error.to_string();
                    state.retry_at = Some(Instant::now() + LOOK_AGAIN);
                }
            }
        }
    }

    fn save(&mut self) {
        if !self.ledger_dirty {
            self.unsaved = None;
            return;
        }
        match self.ledger.save(&self.config.ledger_file()) {
            Ok(()) => {
                self.ledger_dirty = false;
                self.unsaved = None;
            }
            Err(error) => {
                tracing::error!(%error, "the ledger isn't saved; it is tried again");
                let problem = format!("what was done isn't written down: {error}");
                self.unsaved = Some((problem, Instant::now() + LOOK_AGAIN));
            }
        }
    }

    fn publish(&self) {
        let hook = self.hook.borrow();
        let certificates = self
            .wanted
            .iter()
            .filter_map(|(name, wanted)| {
                let state = self.states.get(name)?;
                let mut seen = state::observed(name, wanted, state, self.ledger.entry(name));
                let sentence = std::mem::take(&mut seen.report.problem);
                seen.report.problem = with_hook(sentence, seen.active, hook.get(name));
                Some((name.clone(), seen))
            })
            .collect();
        let observed = Observed {
            certificates,
            host_problem: self.in_the_way().to_owned(),
            nginx_started_ms: (self.ledger.activation.as_ref()).and_then(|of| of.started_ms),
            info: self.info.clone(),
        };
        self.observed.send_if_modified(|present| {
            let news = *present != observed;
            if news {
                *present = observed;
            }
            news
        });
    }

    /// Of the whole host.
    fn in_the_way(&self) -> &str {
        if !self.watched.told().is_empty() {
            return self.watched.told();
        }
        match (self.map.in_the_way(), &self.unsaved) {
            ("", Some((problem, _))) => problem,
            (map, _) => map,
        }
    }

    /// Asks nginx what it serves, if that may have changed, and tells the other tasks.
    async fn publish_facts(&mut self) {
        if self.host.exec().is_some() {
            // What it is configured to serve isn't known, and needn't be.
            self.tell_facts(HostFacts {
                answers: self.map.applied.clone(),
                ..HostFacts::default()
            });
            return;
        }
        let (parsed, problem) = match self.host.find() {
            Ok(nginx) => match self.host.parsed(&nginx).await {
                Ok(parsed) => (Some(parsed), String::new()),
                Err(error) => (None, error.to_string()),
            },
            Err(error) => (None, error.to_string()),
        };
        let answers = self.map.applied.as_ref().is_some_and(|map| !map.is_empty());
        self.map.left_out = if answers && self.host.reads_map() == Some(false) {
            format!(
                "nginx's configuration doesn't include {}: HTTP-01 can't be answered; include it at http level, as /etc/nginx/conf.d/*.conf are",
                self.host.settings().challenge_map.display()
            )
        } else {
            String::new()
        };
        self.tell_facts(HostFacts {
            answers: self.map.applied.clone(),
            parsed,
            problem,
        });
    }

    fn tell_facts(&self, facts: HostFacts) {
        self.facts.send_if_modified(|present| {
            let news = *present != facts;
            if news {
                *present = facts;
            }
            news
        });
    }
}
