//! How long steps take: a histogram for each step and result, kept by those who perform them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::text::Family;

/// Upper bounds of the buckets, in seconds: from a handshake on this host to a CA that takes its time.
pub const BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// One more than buckets: the last is for what took longer than any.
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    /// Seconds.
    pub(crate) sum: f64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BUCKETS.partition_point(|limit| *limit < seconds);
        self.counts[at] += 1;
        self.sum += seconds;
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Which step, and how it ended.
type Step = (&'static str, &'static str);

/// A handle on the histograms of all steps of one kind of work; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Timings(Arc<Mutex<BTreeMap<Step, Histogram>>>);

impl Timings {
    /// Counts a step that has ended.
    pub fn observe(&self, step: &'static str, result: &'static str, took: Duration) {
        self.held().entry((step, result)).or_default().observe(took);
    }

    /// Writes them, with the labels `step` and `result`.
    pub fn write(&self, family: &mut Family<'_>) {
        for ((step, result), histogram) in self.held().iter() {
            family.buckets(&[("step", step), ("result", result)], histogram);
        }
    }

    /// Held for the moment of one addition: there is nothing in it to wait for.
    fn held(&self) -> MutexGuard<'_, BTreeMap<Step, Histogram>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
