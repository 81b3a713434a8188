//! What a person keeps our hands off.

use certwell_proto::CertificateName;
use tokio::time::Instant;

use super::{Installer, round::finish, state::Waiting};
use crate::{
    clock,
    disk::holds::Holds,
    plan::{
        hold::{self, ByHand},
        install::{Progress, Round},
    },
};

impl Installer {
    /// Takes note of what is held now. What is held no more goes on at once, as if it had just come.
    pub(super) fn read_holds(&mut self) {
        let now = clock::now();
        let holds = Holds::read(&self.config.holds_file());
        for (name, state) in &mut self.states {
            let by_hand = hold::of(&holds, name, now);
            if state.by_hand == by_hand {
                continue;
            }
            match &by_hand {
                Some(ByHand::Asked(hold)) => {
                    tracing::info!(certificate = %name, until = %hold.until, "held by hand");
                }
                Some(ByHand::Unreadable(problem)) => {
                    tracing::error!(certificate = %name, problem, "held, since holds can't be read");
                }
                None => {
                    tracing::info!(certificate = %name, "held no more");
                    state.disk = None;
                    // In the midst of a pass it is too late for this one.
                    state.retry_at = Some(Instant::now());
                    state.attempts = 0;
                    state.waiting = Waiting::Nothing;
                    state.resurvey = true;
                }
            }
            state.by_hand = by_hand;
        }
        self.hold_ends =
            hold::next_end(&holds, now).map(|until| Instant::now() + clock::until(now, until));
    }

    pub(super) fn is_held(&self, name: &CertificateName) -> bool {
        self.states
            .get(name)
            .is_some_and(|state| state.by_hand.is_some())
    }

    /// Takes those out of a round of which nothing was touched yet, and that are held since it began.
    pub(super) fn leave_out_held(&mut self, round: &mut Round) {
        self.read_holds();
        let held: Vec<CertificateName> = round
            .certificates
            .iter()
            .filter(|(name, c)| c.progress < Progress::Active && self.is_held(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in held {
            finish(round, &name);
        }
    }
}
