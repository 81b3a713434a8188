//! An nginx that failed right after an activation of ours is started once.

use tokio::time::Instant;

use super::{Installer, server::Server};
use crate::{
    nginx::Tested,
    outside,
    plan::start::{self, Facts, Step, Unit},
};

/// The last activation before which nginx ran as a unit, and what came of nginx since.
pub(super) struct Watched {
    unit: String,
    activated: Instant,
    gone: Option<Instant>,
    /// When it is looked at again.
    look_at: Option<Instant>,
    /// It was started for this activation.
    started: bool,
}

impl Watched {
    /// When it is to be looked at without being woken.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Installer {
    /// Something is about to be activated: with nginx as it runs now.
    pub(super) fn note_activation(&mut self) {
        let Ok(server) = self.host.server() else {
            return;
        };
        // While it doesn't run, the activation before is the one that counts.
        let Some(unit) = server
            .master()
            .and_then(|master| outside::own_unit_of(master.pid))
        else {
            return;
        };
        self.watched = Some(Watched {
            unit,
            activated: Instant::now(),
            gone: None,
            look_at: None,
            started: false,
        });
        self.failed_again.clear();
    }

    /// Sees to nginx since the last activation.
    pub(super) async fn start_failed(&mut self) {
        let server = self.host.server().ok();
        let runs = server.as_ref().and_then(Server::master).is_some();
        if runs {
            self.failed_again.clear();
        }
        let mut unit = None;
        let mut tested = None;
        loop {
            let Some(watched) = &mut self.watched else {
                return;
            };
            watched.look_at = None;
            let now = Instant::now();
            if !runs {
                watched.gone.get_or_insert(now);
            } else {
                watched.gone = None;
            }
            let step = start::next(&Facts {
                allowed: self.config.start_after_failure && !watched.started,
                runs,
                age: now.duration_since(watched.activated),
                gone_after: watched
                    .gone
                    .map(|gone| gone.duration_since(watched.activated)),
                unit,
                tested,
            });
            match step {
                Step::Forget => {
                    self.watched = None;
                    return;
                }
                Step::Wait => return,
                Step::LookAgain(after) => {
                    watched.look_at = Some(now + after);
                    return;
                }
                Step::Ask => {
                    let state = outside::active_state(&watched.unit).await;
                    unit = Some(Unit::of(&state.unwrap_or_default()));
                }
                Step::Test => {
                    let answer = match &server {
                        Some(server) => self.host.test(server).await,
                        None => return,
                    };
                    tested = Some(matches!(answer, Ok(Tested::Passed { .. })));
                }
                Step::Start => {
                    watched.started = true;
                    let unit = watched.unit.clone();
                    self.start_once(&unit).await;
                    return;
                }
            }
        }
    }

    async fn start_once(&mut self, unit: &str) {
        match outside::start(unit).await {
            Ok(()) => tracing::warn!(
                unit,
                "nginx failed within a minute after an activation, and its test passes: it was started"
            ),
            Err(why) => {
                self.failed_again = format!(
                    "nginx failed within a minute after a certificate was activated, though its test passes now; the agent started {unit} once, and it failed again: {why}; see journalctl -u {unit}, and start it"
                );
                tracing::error!(unit, problem = self.failed_again, "nginx can't be started");
            }
        }
    }
}
