//! What agents have written down: which generations they ever had, by their ledgers, and what they said, by their
//! journals.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::debian::{Fleet, Machine};

const LEDGER: &str = "/var/lib/certwell-agent/ledger.json";
/// Between two looks at all of them.
const PAUSE: Duration = Duration::from_millis(100);

/// The active and the highest generation of each certificate.
pub(super) type Generations = BTreeMap<String, (u64, u64)>;

/// Looks at the ledgers of all edges, again and again.
#[derive(Debug)]
pub(super) struct Ledgers {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Ledgers read.
    pub(super) looks: usize,
    /// Each time that one was lower than before, in words.
    pub(super) backwards: Vec<String>,
}

impl Ledgers {
    /// Begins; the edges stay on until [`Ledgers::stop`].
    pub(super) fn watch(fleet: &Fleet) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let edges: Vec<(String, PathBuf)> = fleet
            .edges
            .iter()
            .map(|edge| (edge.name.clone(), edge.path(LEDGER)))
            .collect();
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            let mut before: BTreeMap<String, Generations> = BTreeMap::new();
            while !ended.load(Ordering::SeqCst) {
                for (edge, path) in &edges {
                    if let Ok(now) = read(path) {
                        seen.looks += 1;
                        let known = before.entry(edge.clone()).or_default();
                        seen.backwards.extend(lower(edge, known, &now));
                        known.extend(now);
                    }
                }
                thread::sleep(PAUSE);
            }
            seen
        });
        Self { over, thread }
    }

    /// Ends, and tells.
    pub(super) fn stop(self) -> Seen {
        self.over.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn lower(edge: &str, before: &Generations, now: &Generations) -> Vec<String> {
    let lower = |(name, (active, highest)): (&String, &(u64, u64))| {
        let (before_active, before_highest) = before.get(name)?;
        (active < before_active || highest < before_highest).then(|| {
            format!(
                "{edge}, {name}: {active} (highest {highest}) after {before_active} (highest {before_highest})"
            )
        })
    };
    now.iter().filter_map(lower).collect()
}

/// What an edge's ledger holds now.
pub(super) fn ledger(edge: &Machine) -> Result<Generations> {
    read(&edge.path(LEDGER)).with_context(|| edge.name.clone())
}

fn read(path: &PathBuf) -> Result<Generations> {
    let ledger: Value = serde_json::from_slice(&fs::read(path)?)?;
    let certificates = ledger["certificates"].as_object();
    Ok(certificates
        .context("a ledger without certificates")?
        .iter()
        .map(|(name, entry)| {
            let number = |pointer| entry.pointer(pointer).and_then(Value::as_u64);
            (
                name.clone(),
                (
                    number("/active").unwrap_or_default(),
                    number("/highest/generation").unwrap_or_default(),
                ),
            )
        })
        .collect())
}

/// A line of an agent's journal.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    /// 3 is an error.
    pub(super) priority: u8,
    pub(super) text: String,
}

/// What the agent of this host has said since then.
pub(super) fn said(edge: &Machine, since: Timestamp) -> Result<Vec<Line>> {
    let text = edge.shell(&format!(
        "journalctl --sync; journalctl -u certwell-agent.service -o json --no-pager --since=@{}",
        since.as_second()
    ))?;
    let lines = text.lines().map(|line| -> Result<Line> {
        let entry: Value = serde_json::from_str(line)?;
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        Ok(Line {
            at: Timestamp::from_microsecond(field("__REALTIME_TIMESTAMP").parse()?)?,
            priority: field("PRIORITY").parse()?,
            text: field("MESSAGE"),
        })
    });
    let lines: Vec<Line> = lines.collect::<Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line.at >= since).collect())
}

/// When it said this, each time since then.
pub(super) fn said_when(edge: &Machine, since: Timestamp, what: &str) -> Result<Vec<Timestamp>> {
    let lines = said(edge, since)?.into_iter();
    Ok(lines
        .filter(|line| line.text.contains(what))
        .map(|line| line.at)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_goes_back_is_seen() {
        let with = |active, highest| Generations::from([("media".to_owned(), (active, highest))]);
        let lower = |before: &Generations, now: &Generations| lower("sally", before, now).len();
        assert_eq!(lower(&Generations::new(), &with(3, 3)), 0);
        assert_eq!(lower(&with(3, 3), &with(3, 4)), 0);
        assert_eq!(lower(&with(3, 4), &with(4, 4)), 0);
        assert_eq!(lower(&with(4, 4), &with(3, 4)), 1);
        assert_eq!(lower(&with(4, 4), &with(4, 3)), 1);
    }
}
