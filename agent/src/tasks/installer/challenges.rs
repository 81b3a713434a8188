//! Keeps the challenge map: what nginx answers to HTTP-01 for the names of this host. It is a file, so it goes on
//! working while agent or issuer is down.

use std::{io, path::Path, time::Duration};

use tokio::time::Instant;

use super::{Installer, host::RUN_LIMIT};
use crate::{
    clock,
    issuer::Desired,
    nginx::{Challenge, Master, Nginx, Tested, challenge_map, reload},
    plan::{confirm, edit},
};

/// After a failure, unless the configuration changes before.
const RETRY: Duration = Duration::from_secs(30);
/// While an operator's edit is in progress.
const EDIT_RETRY: Duration = Duration::from_secs(5);

/// The map between passes.
#[derive(Default)]
pub(super) struct MapState {
    /// What nginx answers now, as far as we know.
    pub(super) applied: Option<Vec<Challenge>>,
    /// In the way; empty when nothing is.
    pub(super) problem: String,
    /// Said while nginx doesn't read the map at all; looked at in each pass.
    pub(super) left_out: String,
    /// Not before.
    pub(super) retry_at: Option<Instant>,
}

impl MapState {
    /// The sentence that is told.
    pub(super) fn in_the_way(&self) -> &str {
        if self.problem.is_empty() {
            &self.left_out
        } else {
            &self.problem
        }
    }
}

/// What came of an attempt.
enum Put {
    Done,
    Later(String, Duration),
}

impl Installer {
    /// An empty map where there is none, so that a configuration that names its variable passes.
    pub(super) fn begin_map(&self) {
        let path = &self.host.settings().challenge_map;
        if !path.exists()
            && let Err(error) = challenge_map::write(path, &challenge_map::render(&[]))
        {
            tracing::warn!(path = %path.display(), %error, "the challenge map can't be written");
        }
    }

    /// Brings the map to what is desired, and nginx to the map.
    pub(super) async fn apply_challenges(&mut self, desired: &Desired) {
        if self.map.applied.as_deref() == Some(desired.challenges.as_slice())
            || self.map.retry_at.is_some_and(|at| at > Instant::now())
        {
            return;
        }
        match self.put_map(&desired.challenges).await {
            Put::Done => {
                self.map.applied = Some(desired.challenges.clone());
                self.map.problem.clear();
                self.map.retry_at = None;
            }
            Put::Later(problem, wait) => {
                tracing::warn!(problem, "the challenge map isn't in use yet");
                self.map.problem = problem;
                self.map.retry_at = Some(Instant::now() + wait);
            }
        }
    }

    async fn put_map(&mut self, challenges: &[Challenge]) -> Put {
        let path = self.host.settings().challenge_map.clone();
        let cannot = |error: &io::Error| {
            Put::Later(
                format!(
                    "the challenge map {} can't be written: {error}",
                    path.display()
                ),
                RETRY,
            )
        };
        let old = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return cannot(&error),
        };
        let changed = match challenge_map::write(&path, &challenge_map::render(challenges)) {
            Ok(changed) => changed,
            Err(error) => return cannot(&error),
        };
        let Ok(nginx) = self.host.find() else {
            return Put::Done;
        };
        let Some(master) = nginx.master.clone() else {
            return Put::Done;
        };
        let stale = self.map.applied.is_none()
            && self
                .host
                .map_written()
                .zip(master.serving_since())
                .is_some_and(|(written, since)| written > since);
        if !changed && !stale && self.map.problem.is_empty() {
            return Put::Done;
        }
        match self.host.test(&nginx).await {
            Ok(Tested::Passed { .. }) => {}
            Ok(Tested::Refused { words }) => {
                return self
                    .put_back(&path, old.as_deref(), changed, &nginx, &words)
                    .await;
            }
            Err(error) => return Put::Later(error.to_string(), RETRY),
        }
        if let Some(problem) = self.edit_in_progress(&master) {
            return Put::Later(problem, EDIT_RETRY);
        }
        self.reload_map(&master).await
    }

    async fn put_back(
        &mut self,
        path: &Path,
        old: Option<&str>,
        changed: bool,
        nginx: &Nginx,
        words: &str,
    ) -> Put {
        if !changed {
            return Put::Later(
                format!(
                    "nginx -t failed on the host's own config (not ours): {words}; HTTP-01 is answered as before, will retry when the config changes"
                ),
                RETRY,
            );
        }
        let restored = match old {
            Some(text) => challenge_map::write(path, text).map(|_| ()),
            None => std::fs::remove_file(path),
        };
        if let Err(error) = restored {
            return Put::Later(
                format!(
                    "nginx refuses the challenge map ({words}), and the old one can't be put back: {error}"
                ),
                RETRY,
            );
        }
        let whose = match self.host.test(nginx).await {
            Ok(Tested::Passed { .. }) => "nginx refuses the new challenge map",
            _ => "nginx -t failed on the host's own config (not ours)",
        };
        Put::Later(
            format!("{whose}: {words}; the old map is back, will retry when the config changes"),
            RETRY,
        )
    }

    async fn reload_map(&mut self, master: &Master) -> Put {
        let settings = self.host.settings().clone();
        if let Err(error) = reload::reload(&settings, master, RUN_LIMIT).await {
            return Put::Later(format!("the challenge map is written, but {error}"), RETRY);
        }
        let deadline = Instant::now() + confirm::deadline(self.host.test_took);
        match reload::wait_for_new_workers(&settings, master, deadline).await {
            Ok(reload::Waited::New(_)) => Put::Done,
            Ok(reload::Waited::Old) => Put::Later(
                "the challenge map is written, but nginx keeps its old workers after a reload; see its error log".into(),
                RETRY,
            ),
            Ok(reload::Waited::Gone) => Put::Later("nginx stopped while it was to reload".into(), RETRY),
            Err(error) => Put::Later(error.to_string(), RETRY),
        }
    }

    /// The sentence, while an operator's edit makes us wait.
    pub(super) fn edit_in_progress(&self, master: &Master) -> Option<String> {
        let edit = self.host.newest_change(self.live.root())?;
        let now = clock::now();
        let remaining = self
            .states
            .values()
            .map(|state| state.disk.as_ref().and_then(|disk| disk.validity))
            .map(|validity| {
                validity.map_or(Duration::ZERO, |(_, not_after)| {
                    clock::until(now, not_after)
                })
            })
            .min()
            .unwrap_or_default();
        let until = edit::hold_until(
            Some(edit.at),
            master.serving_since(),
            self.config.edit_hold,
            remaining,
            now,
        )?;
        Some(format!(
            "{} was changed after nginx began to serve, so an edit seems to be in progress: test it and reload nginx, or wait until {until}",
            edit.file.display()
        ))
    }
}
