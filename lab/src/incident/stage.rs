//! What an act plays on: the fleet, whoever hears of what happens, and the figures that come out.

use anyhow::{Result, ensure};

use crate::debian::Fleet;

/// One figure of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// With its unit.
    pub value: String,
}

/// A fleet under replay.
pub struct Stage<'a> {
    /// Set up, and serving.
    pub fleet: &'a mut Fleet,
    /// Of the act that is played.
    pub figures: Vec<Figure>,
    teller: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Stage<'a> {
    /// Of this fleet; `teller` hears each line.
    pub fn new(fleet: &'a mut Fleet, teller: &'a (dyn Fn(&str) + Sync)) -> Self {
        Self {
            fleet,
            figures: Vec::new(),
            teller,
        }
    }

    /// Tells what happens.
    pub fn tell(&self, line: impl AsRef<str>) {
        (self.teller)(line.as_ref());
    }

    /// Keeps a figure, and tells it.
    pub fn figure(&mut self, what: &str, value: impl ToString) {
        let value = value.to_string();
        self.tell(format!("{what}: {value}"));
        self.figures.push(Figure {
            what: what.to_owned(),
            value,
        });
    }

    /// Keeps a figure that must be nought.
    ///
    /// # Errors
    /// When it isn't.
    pub fn none(&mut self, what: &str, count: usize) -> Result<()> {
        self.figure(what, count);
        ensure!(count == 0, "{what}: {count}");
        Ok(())
    }
}
