//! Keeps the inventory of this host for the issuer: gathered when nginx's configuration, a certificate's file or certbot's
//! directory changed, else slowly; published only when it says something else than before.
//!
//! nginx isn't asked for its configuration here: the installer knows it. Files are read on a thread that ends, so that
//! nothing waits for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use certwell_proto::{CertificateName, v1};
use tokio::{sync::watch, time::Instant};

use super::{
    Shutdown, asked_to_stop,
    installer::HostFacts,
    observed::Observed,
    watch_files::{FileWatch, is_configuration},
};
use crate::{
    clock,
    config::Config,
    disk::durable::DiskError,
    inventory::{on_disk, see},
    jitter,
    nginx::{CertificateSource, Nginx, Parsed},
    plan::inventory::{
        Facts, rows,
        told::{is_unsettled, own_served, told, wait},
    },
};

/// Changes that come together are gathered together, and installs come first.
const SETTLE: Duration = Duration::from_secs(2);
/// At the start, until nginx's configuration is known.
const FIRST: Duration = Duration::from_secs(10);
/// Directories that are watched; changes in others are noticed by the slow look.
const WATCHED: usize = 256;

/// What is told of a host without nginx.
const NOT_NGINX: &str =
    "its server is not nginx: which certificates it uses besides certwell's is not known";

/// The task.
pub struct InventoryTask {
    /// Where things are.
    pub config: Arc<Config>,
    /// What the installer knows of nginx.
    pub host: watch::Receiver<HostFacts>,
    /// What is active of certwell's.
    pub observed: watch::Receiver<Observed>,
    /// The latest; `None` until it was gathered.
    pub inventory: watch::Sender<Option<Arc<v1::Inventory>>>,
    /// The end.
    pub shutdown: Shutdown,
}

/// What of the other tasks' knowledge an inventory depends on.
#[derive(Default, PartialEq)]
struct Known {
    parsed: Option<Arc<Parsed>>,
    problem: String,
    /// What is active, and what of it is served.
    active: BTreeMap<CertificateName, (Option<u64>, Option<u64>)>,
}

impl Known {
    /// Whether what is active of a certificate is what is served, as the installer last saw it.
    fn serves(&self, name: &str) -> Option<bool> {
        let name = name.parse::<CertificateName>().ok()?;
        let (active, served) = self.active.get(&name)?;
        Some(active.is_some() && active == served)
    }
}

impl InventoryTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let mut watch = FileWatch::new();
        let mut shutdown = self.shutdown.clone();
        let mut known = Known::default();
        let mut unsettled = 0;
        let mut due = Instant::now() + FIRST;
        loop {
            // Cancel-safe: states are in watches, and paths are kept until they are taken.
            let changed = tokio::select! {
                () = asked_to_stop(&mut shutdown) => return,
                changed = self.host.changed() => if changed.is_ok() { self.is_news(&known) } else { return },
                changed = self.observed.changed() => if changed.is_ok() { self.is_news(&known) } else { return },
                paths = watch.changes() => self.matters(&paths),
                () = tokio::time::sleep_until(due) => {
                    known = self.known();
                    // A gathering that is cut short has told nobody.
                    tokio::select! {
                        () = asked_to_stop(&mut shutdown) => return,
                        () = self.gather(&known, &mut watch) => {}
                    }
                    let present = self.inventory.borrow().clone();
                    unsettled = match present {
                        Some(inventory) if is_unsettled(&inventory) => unsettled + 1,
                        _ => 0,
                    };
                    let remaining = self.observed.borrow().remaining(clock::now());
                    due = Instant::now() + wait(unsettled, remaining, jitter::fraction());
                    false
                }
            };
            if changed {
                unsettled = 0;
                due = due.min(Instant::now() + SETTLE);
            }
        }
    }

    fn known(&mut self) -> Known {
        let host = self.host.borrow_and_update();
        let observed = self.observed.borrow_and_update();
        let active = observed.certificates.iter().map(|(name, certificate)| {
            let served = certificate.report.served.as_ref();
            let served = served.and_then(|served| served.generation);
            (name.clone(), (certificate.active, served))
        });
        Known {
            parsed: host.parsed.clone(),
            problem: host.problem.clone(),
            active: active.collect(),
        }
    }

    fn is_news(&mut self, before: &Known) -> bool {
        self.known() != *before
    }

    /// Whether a change can be one of a certificate, or of certbot's configuration.
    fn matters(&self, paths: &std::collections::HashSet<PathBuf>) -> bool {
        let nginx = &self.config.nginx;
        let not: [&Path; 2] = [&nginx.pid_file, &nginx.challenge_map];
        paths.iter().any(|path| is_configuration(path, &not))
    }

    async fn gather(&self, known: &Known, watch: &mut FileWatch) {
        let parsed = known.parsed.clone().unwrap_or_default();
        let (is_known, problem) = match (&self.config.exec, &known.parsed) {
            (Some(_), _) => (false, NOT_NGINX.to_owned()),
            (None, Some(_)) => (true, String::new()),
            (None, None) => (false, known.problem.clone()),
        };
        let inventory = match self.look(&parsed).await {
            Ok(facts) => {
                watch.set(self.directories(&facts));
                let rows = rows(&facts, clock::now());
                let mut inventory = told(&rows, is_known, &problem, clock::now());
                if self.config.exec.is_some() {
                    own_served(&mut inventory, |name| known.serves(name));
                }
                inventory
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the inventory can't be gathered; it is tried again"
                );
                told(&[], false, &error.to_string(), clock::now())
            }
        };
        self.inventory.send_if_modified(|present| {
            let news = present.as_ref().is_none_or(|present| {
                let same_time = v1::Inventory {
                    at_ms: present.at_ms,
                    ..inventory.clone()
                };
                **present != same_time
            });
            if news {
                *present = Some(Arc::new(inventory));
            }
            news
        });
    }

    async fn look(&self, parsed: &Arc<Parsed>) -> Result<Facts, DiskError> {
        let (config, read) = (self.config.clone(), parsed.clone());
        let reading = tokio::task::spawn_blocking(move || on_disk(&config, &read));
        let mut facts = reading.await.map_err(|error| {
            DiskError::about("reading", &self.config.certbot_directory)(std::io::Error::other(
                error,
            ))
        })??;
        let running =
            Nginx::find(&self.config.nginx, clock::now()).is_ok_and(|nginx| nginx.master.is_some());
        if running {
            see(&mut facts.uses, &parsed.servers, &facts.files).await;
        }
        Ok(facts)
    }

    /// Where certificates and certbot's configuration lie; certwell's own changes are known.
    fn directories(&self, facts: &Facts) -> Vec<PathBuf> {
        let certbot = &self.config.certbot_directory;
        let first = [
            certbot.clone(),
            self.config.certbot_live_directory(),
            certbot.join("renewal"),
        ];
        let files = facts.uses.iter().filter_map(|used| match &used.source {
            CertificateSource::File(path) => path.parent().map(Path::to_owned),
            _ => None,
        });
        let own = &self.config.live_directory;
        let beside: BTreeSet<PathBuf> = files.filter(|path| !path.starts_with(own)).collect();
        first.into_iter().chain(beside).take(WATCHED).collect()
    }
}
