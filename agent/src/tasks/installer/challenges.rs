//! Keeps the challenge map: what nginx answers to HTTP-01 for the names of this host. It is a file, so it goes on
//! working while agent or issuer is down.

use std::{io, path::Path, time::Duration};

use tokio::time::Instant;

use super::{Installer, host::RUN_LIMIT, round::WATCHED_RETRY, server::Server, state::State};
use crate::{
    clock,
    issuer::Desired,
    jitter,
    nginx::{Challenge, Master, Tested, challenge_map, reload},
    plan::{confirm, edit, outcome::Outcome, retry},
};

/// The map between passes.
#[derive(Default)]
pub(super) struct MapState {
    /// What nginx answers now, as far as we know.
    pub(super) applied: Option<Vec<Challenge>>,
    /// In the way; empty when nothing is.
    pub(super) problem: String,
    /// Said while nginx doesn't read the map at all; looked at in each pass.
    pub(super) left_out: String,
    /// Not before, unless another map is wanted.
    pub(super) retry_at: Option<Instant>,
    /// What was last tried.
    tried: Vec<Challenge>,
    /// In a row, without success.
    attempts: u32,
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
    /// The sentence: an operator's edit is in progress.
    Editing(String),
    /// The sentence in the way.
    Failed(String),
}

impl Installer {
    /// An empty map where there is none, so that a configuration that names its variable passes.
    pub(super) fn begin_map(&self) {
        let path = &self.host.settings().challenge_map;
        if self.host.exec().is_none()
            && !path.exists()
            && let Err(error) = challenge_map::write(path, &challenge_map::render(&[]))
        {
            tracing::warn!(path = %path.display(), %error, "the challenge map can't be written");
        }
    }

    /// Brings the map to what is desired, and nginx to the map.
    pub(super) async fn apply_challenges(&mut self, desired: &Desired) {
        if self.host.exec().is_some() {
            // How it answers is the operator's: there is nothing to keep.
            self.map.applied = Some(desired.challenges.clone());
            return;
        }
        let applied = self.map.applied.as_deref() == Some(desired.challenges.as_slice());
        // With a problem, what lies there may be another one that was tried meanwhile.
        let in_use = applied && self.map.problem.is_empty();
        if in_use && self.map_is_whole(&desired.challenges) {
            self.map.retry_at = self.map.retry_at.filter(|at| *at > Instant::now());
            return;
        }
        if self.map.tried != desired.challenges {
            self.map.tried.clone_from(&desired.challenges);
            self.map.attempts = 0;
            self.map.retry_at = None;
        }
        if self.map.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let (problem, wait) = match self.put_map(&desired.challenges).await {
            Put::Done => {
                self.map.problem.clear();
                if !in_use {
                    self.map.applied = Some(desired.challenges.clone());
                    self.map.attempts = 0;
                    self.map.retry_at = None;
                    return;
                }
                tracing::warn!("the challenge map was altered by another hand, and is put back");
                self.map.attempts += 1;
                // Should the other hand go on, nginx isn't reloaded as often as it likes.
                (String::new(), self.map_wait())
            }
            Put::Editing(problem) => (problem, Some(WATCHED_RETRY)),
            Put::Failed(problem) => {
                self.map.attempts += 1;
                (problem, self.map_wait())
            }
        };
        if self.map.problem != problem {
            tracing::warn!(problem, "the challenge map isn't in use yet");
        }
        self.map.problem = problem;
        self.map.retry_at = wait.map(|wait| Instant::now() + wait);
    }

    /// For a while: another hand's changes are put back at once again.
    pub(super) fn map_was_left_alone(&mut self) {
        if self.map.problem.is_empty() && self.map.retry_at.is_none() {
            self.map.attempts = 0;
        }
    }

    fn map_wait(&self) -> Option<Duration> {
        let ended = retry::Ended {
            outcome: Outcome::Held,
            new_workers: false,
            attempts: self.map.attempts,
        };
        retry::wait(ended, self.least_life(), jitter::fraction())
    }

    /// Whether the file says what it was made to say.
    fn map_is_whole(&self, challenges: &[Challenge]) -> bool {
        std::fs::read(&self.host.settings().challenge_map)
            .is_ok_and(|text| text == challenge_map::render(challenges).as_bytes())
    }

    async fn put_map(&mut self, challenges: &[Challenge]) -> Put {
        let path = self.host.settings().challenge_map.clone();
        let cannot = |error: &io::Error| {
            Put::Failed(format!(
                "the challenge map {} can't be written: {error}",
                path.display()
            ))
        };
        let old = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return cannot(&error),
        };
        let text = challenge_map::render(challenges);
        let changes = old.as_ref() != Some(&text);
        let running = self.host.find().ok();
        let running = running.and_then(|nginx| Some((nginx.master.clone()?, nginx)));
        let Some((master, nginx)) = running else {
            // It is read when nginx starts.
            return match challenge_map::write(&path, &text) {
                Ok(_) => Put::Done,
                Err(error) => cannot(&error),
            };
        };
        let stale = self.map.applied.is_none()
            && self
                .host
                .map_written()
                .zip(master.serving_since())
                .is_some_and(|(written, since)| written > since);
        if !changes && !stale && self.map.problem.is_empty() {
            return Put::Done;
        }
        if let Some(problem) = self.edit_in_progress(&master) {
            return Put::Editing(problem);
        }
        if let Err(error) = challenge_map::write(&path, &text) {
            return cannot(&error);
        }
        let server = Server::Nginx(Box::new(nginx));
        match self.host.test(&server).await {
            Ok(Tested::Passed { .. }) => {}
            Ok(Tested::Refused { words }) => {
                let before = match (self.map.applied.as_deref(), old) {
                    // Not what another hand made of it.
                    (Some(ours), _) => Some(challenge_map::render(ours)),
                    (None, old) => old,
                };
                if before.as_ref() == Some(&text) {
                    return Put::Failed(format!(
                        "nginx -t failed on the host's own config (not ours): {words}; will retry when the config changes"
                    ));
                }
                return self
                    .put_back(&path, before.as_deref(), &server, &words)
                    .await;
            }
            Err(problem) => return Put::Failed(problem),
        }
        self.reload_map(&master).await
    }

    async fn put_back(
        &mut self,
        path: &Path,
        before: Option<&str>,
        server: &Server,
        words: &str,
    ) -> Put {
        let restored = match before {
            Some(text) => challenge_map::write(path, text).map(|_| ()),
            None => std::fs::remove_file(path),
        };
        if let Err(error) = restored {
            return Put::Failed(format!(
                "nginx refuses the challenge map ({words}), and the old one can't be put back: {error}"
            ));
        }
        let whose = match self.host.test(server).await {
            Ok(Tested::Passed { .. }) => "nginx refuses the new challenge map",
            _ => "nginx -t failed on the host's own config (not ours)",
        };
        Put::Failed(format!(
            "{whose}: {words}; the old map is back, will retry when the config changes"
        ))
    }

    async fn reload_map(&mut self, master: &Master) -> Put {
        let settings = self.host.settings().clone();
        if let Err(error) = reload::reload(&settings, master, RUN_LIMIT).await {
            return Put::Failed(format!("the challenge map is written, but {error}"));
        }
        let deadline = Instant::now() + confirm::deadline(self.host.test_took);
        match reload::wait_for_new_workers(&settings, master, deadline).await {
            Ok(reload::Waited::New(_)) => Put::Done,
            Ok(reload::Waited::Old) => Put::Failed(
                "the challenge map is written, but nginx keeps its old workers after a reload; see its error log".into(),
            ),
            Ok(reload::Waited::Gone) => Put::Failed("nginx stopped while it was to reload".into()),
            Err(error) => Put::Failed(error.to_string()),
        }
    }

    /// The sentence, while an operator's edit makes us wait.
    pub(super) fn edit_in_progress(&self, master: &Master) -> Option<String> {
        let edit = self.host.newest_change(self.live.root())?;
        let until = edit::hold_until(
            Some(edit.at),
            master.serving_since(),
            self.config.edit_hold,
            self.least_life(),
            clock::now(),
        )?;
        Some(format!(
            "{} was changed after nginx began to serve, so an edit seems to be in progress: test it and reload nginx, or wait until {until:.0}",
            edit.file.display()
        ))
    }

    /// The life left of what is active, of the certificate that has the least; none where one has nothing valid.
    fn least_life(&self) -> Duration {
        let now = clock::now();
        let life = |state: &State| {
            let validity = state.disk.as_ref().and_then(|disk| disk.validity);
            validity.map_or(Duration::ZERO, |(_, not_after)| {
                clock::until(now, not_after)
            })
        };
        self.states.values().map(life).min().unwrap_or_default()
    }
}
