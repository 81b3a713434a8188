//! Cuts agents off: killed before every call that changes something, on hosts that stand before the same work again and
//! again. Black box: real agents, nginx and strace; a checker of its own.
//!
//! ```text
//! scene    the work that is swept, in its order
//! stage    a host, and the way back to the instant before the work
//! record   one run under strace, as it is undisturbed
//! strace   how it is run, and what it tells of
//! call     a system call, and what it does to files
//! points   the calls before which an agent is killed
//! run      one point: restore, kill, check, start again, compare
//! checker  the old pair or the new is whole
//! tree     files of a host, to be compared
//! power_loss  whatever a loss of power could leave at any instant
//!   disk     a disk that may lose what wasn't forced to it
//! touched  what an agent may write to, and what else it did
//! ```

pub mod call;
pub mod checker;
mod disk;
pub mod points;
pub mod power_loss;
pub mod record;
pub mod run;
pub mod scene;
pub mod stage;
pub mod strace;
pub mod touched;
pub mod tree;

use std::fmt::Write as _;

use anyhow::Result;

use self::run::Tried;
pub use self::scene::{Play, Work};
use crate::World;

/// With these a call fails, besides being killed before it.
pub const ERRORS: [&str; 4] = ["EIO", "ENOSPC", "EROFS", "EACCES"];

/// How many points were tried, of how many, by work.
#[derive(Debug, Default)]
pub struct Tally {
    works: Vec<(&'static str, usize, usize)>,
    /// What didn't hold, and where.
    pub wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, work: Work, tried: Tried, of: usize, tell: &dyn Fn(&str)) {
        for missed in &tried.missed {
            tell(&format!("not tried, since it didn't come again: {missed}"));
        }
        for wrong in &tried.wrong {
            tell(&format!("WRONG: {wrong}"));
        }
        match self
            .works
            .iter_mut()
            .find(|(name, ..)| *name == work.name())
        {
            Some((_, all, known)) => {
                *all += tried.tried;
                *known += of;
            }
            None => self.works.push((work.name(), tried.tried, of)),
        }
        let named = |words| format!("{}: {words}", work.name());
        self.wrong.extend(tried.wrong.into_iter().map(named));
    }

    /// Of all work.
    pub fn tried(&self) -> usize {
        self.works.iter().map(|(_, tried, _)| tried).sum()
    }

    /// Of all work, with those that didn't come a second time.
    pub fn known(&self) -> usize {
        self.works.iter().map(|(_, _, of)| of).sum()
    }

    /// In words: `tried 9 points: install 4 of 4, roll-back 5 of 5`.
    pub fn words(&self) -> String {
        let mut words = format!("tried {} points:", self.tried());
        for (at, (work, tried, of)) in self.works.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(words, "{comma} {work} {tried} of {of}");
        }
        words
    }
}

/// A world whose hosts stand before their first install.
///
/// # Errors
/// When a part doesn't come up.
pub fn begin(name: &str) -> Result<Play> {
    Play::begin(World::start(name, &Play::settings())?)
}

/// Kills agents at every point of these works; with `errors` each call also fails once with each.
///
/// # Errors
/// When there is no recording to try points of. What doesn't hold is in the tally.
pub fn everywhere(
    play: &mut Play,
    works: &[Work],
    errors: &[&str],
    tell: &dyn Fn(&str),
) -> Result<(Tally, Tally)> {
    let (mut kills, mut failures) = (Tally::default(), Tally::default());
    play.all(works, |stages| {
        let recording = record::record(&mut stages[0])?;
        let work = stages[0].work;
        let points = &recording.points;
        tell(&format!("{}: {} points", work.name(), points.len()));
        let killed = run::each(
            stages,
            points,
            |point| (point, format!("killed at {point}")),
            |stage, point| run::kill_at(stage, point, &recording),
        );
        kills.add(work, killed, points.len(), tell);
        for error in errors {
            let failed = run::each(
                stages,
                points,
                |point| (point, format!("{error} at {point}")),
                |stage, point| run::fail_at(stage, point, error, &recording),
            );
            tell(&format!(
                "{}: {error} at {} points",
                work.name(),
                failed.tried
            ));
            failures.add(work, failed, points.len(), tell);
        }
        Ok(())
    })?;
    Ok((kills, failures))
}
