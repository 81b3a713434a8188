//! Cuts agents off: killed before every call that changes something, on hosts that stand before the same work again and
//! again. Black box: real agents, nginx and strace; a checker of its own.
//!
//! ```text
//! scene    the work that is swept, and the way back to the instant before it
//! record   one run under strace, as it is undisturbed
//! strace   what strace tells of, and what that does to files
//! points   the calls before which an agent is killed
//! run      one point: restore, kill, check, start again, compare
//! checker  the old pair or the new is whole
//! tree     files of a host, to be compared
//! power_loss  whatever a loss of power could leave at any instant
//!   disk     a disk that may lose what wasn't forced to it
//! touched  what an agent may write to, and what else it did
//! ```

pub mod checker;
mod disk;
pub mod points;
pub mod power_loss;
pub mod record;
pub mod run;
pub mod scene;
pub mod strace;
pub mod touched;
pub mod tree;

use std::fmt::Write as _;

use anyhow::Result;

pub use self::scene::{Play, Work};
use crate::World;

/// How many points were tried, of how many, by work.
#[derive(Debug, Default)]
pub struct Tally(Vec<(&'static str, usize, usize)>);

impl Tally {
    /// Adds what was tried of one work.
    pub fn add(&mut self, work: &'static str, tried: usize, of: usize) {
        self.0.push((work, tried, of));
    }

    /// Of all work.
    pub fn tried(&self) -> usize {
        self.0.iter().map(|(_, tried, _)| tried).sum()
    }

    /// Of all work, with those that didn't come a second time.
    pub fn known(&self) -> usize {
        self.0.iter().map(|(_, _, of)| of).sum()
    }

    /// In words: `tried 9 points: install 4 of 4, roll-back 5 of 5`.
    pub fn words(&self) -> String {
        let mut words = format!("tried {} points:", self.tried());
        for (at, (work, tried, of)) in self.0.iter().enumerate() {
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

/// Kills agents at every point of these works.
///
/// # Errors
/// The first point at which something doesn't hold.
pub fn kill_everywhere(play: &mut Play, works: &[Work], tell: &dyn Fn(&str)) -> Result<Tally> {
    let mut tally = Tally::default();
    play.all(works, |stages| {
        let recording = record::record(&mut stages[0])?;
        let work = stages[0].work.name();
        tell(&format!("{work}: {} points", recording.points.len()));
        let tried = run::each(stages, &recording.points, |stage, point| {
            run::kill_at(stage, point, &recording)
        })?;
        tally.add(work, tried, recording.points.len());
        Ok(())
    })?;
    Ok(tally)
}
