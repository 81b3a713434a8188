//! What wakes the installer, and what each waking means.

use std::{
    collections::{BTreeSet, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use certwell_proto::CertificateName;
use tokio::time::Instant;

use super::{
    Installer, asked_to_stop,
    server::Server,
    state::{OnDisk, State},
};
use crate::{
    clock, jitter,
    nginx::Ended,
    plan::{age, check, outcome::Outcome},
    tasks::watch_files::is_configuration,
};

/// A changed configuration brings a retry forward, but never sooner than this.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
/// What has just become old is looked at when it certainly is.
const AFTER_AGE: Duration = Duration::from_millis(10);

/// What woke it.
pub(super) enum Woken {
    Stop,
    Desired,
    Link,
    Files(HashSet<PathBuf>),
    MasterEnded,
    /// The post-install hook was run.
    Hook,
    Timer,
}

impl Installer {
    pub(super) async fn woken(&mut self) -> Woken {
        let timer = self
            .states
            .values()
            .filter_map(|state| state.retry_at)
            .chain(self.map.retry_at)
            .chain(self.postponed.map(|(at, _)| at))
            .chain(self.unsaved.as_ref().map(|(_, at)| *at))
            .chain(self.hold_ends)
            .chain(self.alarm_at)
            .chain(self.watched.look_at())
            .chain([self.next_check])
            .min()
            .unwrap_or(self.next_check);
        let session = self.session;
        // Nothing is lost in any arm: state is in watches, and paths are kept until they are taken.
        tokio::select! {
            () = asked_to_stop(&mut self.shutdown) => Woken::Stop,
            changed = self.desired.changed() => if changed.is_ok() { Woken::Desired } else { Woken::Stop },
            paths = self.watch.changes() => Woken::Files(paths),
            linked = self.link.wait_for(|link| link.session().is_some() && link.session() != session) => {
                if linked.is_ok() { Woken::Link } else { Woken::Stop }
            }
            () = ended(self.master.as_ref()) => {
                self.master = None;
                Woken::MasterEnded
            }
            changed = self.hook.changed() => if changed.is_ok() { Woken::Hook } else { Woken::Stop },
            () = tokio::time::sleep_until(timer) => Woken::Timer,
        }
    }

    /// What was to be tried when the pass `began` has been, or waits for something else than time. What became due
    /// meanwhile may not have been.
    pub(super) fn forget_past_retries(&mut self, began: Instant) {
        for state in self.states.values_mut() {
            if state.retry_at.is_some_and(|at| at <= began) {
                state.retry_at = None;
            }
        }
    }

    /// The slow check: everything is looked at again.
    pub(super) fn check_all(&mut self) {
        let now = clock::now();
        let remaining = self.observed.borrow().remaining(now);
        self.next_check = Instant::now() + check::wait(remaining, jitter::fraction());
        for state in self.states.values_mut() {
            state.disk = None;
            state.resurvey = true;
        }
        // Listeners that are configured no more are forgotten; the others are looked at now.
        self.healthy.clear();
        self.map_was_left_alone();
    }

    /// The agent's own alarm: without the issuer, what is served gets old. It is told when it begins, and `again` at each
    /// slow check.
    pub(super) fn raise_alarm(&mut self, again: bool) {
        let now = clock::now();
        let connected = self.link.borrow().connection.is_some();
        let lives = self.states.iter().filter_map(|(name, state)| {
            let (not_before, not_after) = state.disk.as_ref()?.validity?;
            Some((name, not_after, age::old_from(not_before, not_after)))
        });
        let (old, young): (Vec<_>, Vec<_>) = lives.partition(|(.., from)| *from < now);
        let alarmed: BTreeSet<CertificateName> = if connected {
            BTreeSet::new()
        } else {
            old.iter().map(|(name, ..)| (*name).clone()).collect()
        };
        for (name, not_after, _) in old {
            if alarmed.contains(name) && (again || !self.alarmed.contains(name)) {
                tracing::error!(
                    certificate = %name,
                    until = %not_after,
                    "the issuer is not reached, and less than a quarter of the life of what is served is left: see to the issuer"
                );
            }
        }
        if connected && !self.alarmed.is_empty() {
            tracing::info!("the issuer is reached again");
        }
        self.alarm_at = young
            .into_iter()
            .map(|(.., from)| from)
            .min()
            .map(|from| Instant::now() + from.duration_since(now).unsigned_abs() + AFTER_AGE);
        self.alarmed = alarmed;
    }

    /// What was seen may be served no more, or by another.
    pub(super) fn look_again(&mut self) {
        for state in self.states.values_mut() {
            state.resurvey = true;
        }
    }

    /// Waits for the end of the master that runs now.
    pub(super) fn watch_master(&mut self) {
        let server = self.host.server().ok();
        let Some(master) = server.as_ref().and_then(Server::master) else {
            self.master = None;
            return;
        };
        if self.master.as_ref().is_some_and(|of| of.is_of(master)) {
            return;
        }
        self.master = Ended::of(master)
            .inspect_err(|error| tracing::debug!(%error, pid = master.pid, "its end is noticed by the slow check alone"))
            .ok();
    }

    /// The directories that weren't watched before.
    pub(super) fn set_watches(&mut self) -> HashSet<PathBuf> {
        // Our own names first: what nginx reads may be the same directories by links.
        let mut directories = vec![
            self.live.root().to_owned(),
            self.config.state_directory.clone(),
            // Adopting a lineage, or giving it back, shows here.
            self.config.certbot_live_directory(),
        ];
        for (name, state) in &self.states {
            if let Some(generation) = state.disk.as_ref().and_then(OnDisk::active) {
                directories.push(self.store.path(name, generation));
            }
        }
        directories.extend(self.host.directories());
        self.watch.set(directories)
    }

    /// Whether any of it matters.
    pub(super) fn files_changed(&mut self, paths: &HashSet<PathBuf>) -> bool {
        let live = self.live.root().to_owned();
        let store = self.config.store_directory();
        let state = &self.config.state_directory;
        let settings = self.host.settings();
        let not: [&Path; 2] = [&settings.pid_file, &settings.challenge_map];
        let ours = |path: &PathBuf| path.starts_with(&live) || path.starts_with(&store);
        let configuration = paths
            .iter()
            .any(|path| !ours(path) && !path.starts_with(state) && is_configuration(path, &not));
        let holds = paths.contains(&self.config.holds_file());
        // Ours as well, and perhaps altered by another hand.
        let map = paths.contains(&settings.challenge_map);
        let ours = paths.iter().any(ours);
        if ours {
            for state in self.states.values_mut() {
                state.disk = None;
            }
        }
        let changed = configuration && self.host.configuration_changed();
        if changed {
            self.host.forget_refusal();
            // What nginx served worse than before waits out its pause: the few attempts are not for every edit.
            self.bring_forward(AFTER_CHANGE, |state| {
                !matches!(state.outcome, Some((_, Outcome::Regressed)))
            });
            if self.map.retry_at.is_some() {
                self.map.retry_at = Some(Instant::now() + AFTER_CHANGE);
            }
            // What is configured to be served may be other listeners now.
            self.look_again();
        }
        let certbot = self.config.certbot_live_directory();
        let adopted = paths.iter().any(|path| path.starts_with(&certbot));
        if adopted {
            // Listeners that name certbot's files may be ours now, or no more.
            self.look_again();
        }
        ours || holds || map || changed || adopted
    }

    /// Lets those that wait be tried in a moment.
    pub(super) fn bring_forward(&mut self, after: Duration, which: impl Fn(&State) -> bool) {
        let at = Instant::now() + after;
        for state in self.states.values_mut().filter(|state| which(state)) {
            state.retry_at = state.retry_at.map(|present| present.min(at));
        }
    }
}

/// Never, where no master is waited for.
async fn ended(master: Option<&Ended>) {
    match master {
        Some(master) => master.ended().await,
        None => std::future::pending().await,
    }
}
