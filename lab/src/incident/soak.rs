//! `make soak`: renewals by themselves for a long time, under a stream of requests. What the daemons hold, and what lies
//! on their disks, must not grow.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use tokio::time::Instant;

use super::{
    DECLARED, Figure, LIFE, Stage,
    gauge::{Gauge, Looked},
    stream::Stream,
};
use crate::{MEDIA, debian::fleet::SOON};

/// Renewals by themselves of certificates with three minutes' life.
const NATURAL: u64 = 20;
const SHORT_LIFE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Between two looks at the daemons.
const INTERVAL: Duration = Duration::from_secs(15);
/// What memory may differ by from the first quarter of the looks to the last: an allocator's whims, no leak.
const SLACK_KIB: u64 = 1024;
/// What an edge keeps: the active one and two older ones.
const GENERATIONS: u64 = 3;

/// A part of the soak, on a fleet of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Twenty renewals of certificates with three minutes' life: forty minutes.
    Natural,
    /// An hour at certificates with one minute's life.
    Hour,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Natural, Self::Hour];

    /// What it is about.
    pub fn title(self) -> &'static str {
        match self {
            Self::Natural => "Twenty renewals of certificates with three minutes' life",
            Self::Hour => "An hour at certificates with one minute's life",
        }
    }

    /// How long its certificates live.
    pub fn life(self) -> Duration {
        match self {
            Self::Natural => LIFE,
            Self::Hour => SHORT_LIFE,
        }
    }

    /// Plays it on a fleet that is set up and serves.
    ///
    /// # Errors
    /// When a request failed, or something grew.
    pub fn play(self, stage: &mut Stage<'_>) -> Result<()> {
        let first = stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
        let stream = Stream::start(stage.fleet, MEDIA)?;
        let began = Instant::now();
        let mut looks = Vec::new();
        let mut generation = first;
        loop {
            looks.push(Gauge::of(stage.fleet).look()?);
            let over = match self {
                Self::Natural => generation >= first + NATURAL,
                Self::Hour => began.elapsed() >= HOUR,
            };
            if over {
                break;
            }
            std::thread::sleep(INTERVAL);
            let now = stage.fleet.converged(MEDIA, generation, SOON, |_| true)?;
            if now > generation {
                generation = now;
                stage.tell(format!(
                    "{} s: generation {generation}, {} requests answered",
                    began.elapsed().as_secs(),
                    stream.good()
                ));
            }
        }
        let outcome = stream.stop();
        for line in &outcome.told {
            stage.tell(line);
        }
        stage.figure("renewals by themselves", generation - first);
        stage.figure("requests answered over a valid chain", outcome.good);
        stage.figure("leaves seen", outcome.leaves);
        let grown = judge(stage, &looks)?;
        stage.none(
            "requests that failed, were refused, or met an expired leaf",
            outcome.bad,
        )?;
        ensure!(grown.is_empty(), "it grew: {}", grown.join("; "));
        rows(stage)
    }
}

/// Compares the first quarter of the looks (after the start has settled) with the last; answers what grew.
fn judge(stage: &mut Stage<'_>, looks: &[Looked]) -> Result<Vec<String>> {
    let quarter = (looks.len() / 4).max(1);
    let (early, late) = (&looks[..quarter], &looks[looks.len() - quarter..]);
    let mut grown = Vec::new();
    for what in looks.first().context("nobody looked")?.keys() {
        let (before, after) = (median(early, what), median(late, what));
        stage.figures.push(Figure {
            what: what.clone(),
            value: format!("{before} in the first quarter, {after} in the last"),
        });
        stage.tell(format!("{what}: {before}, then {after}"));
        let most = match what {
            _ if what.contains("KiB") => before + SLACK_KIB,
            _ if what.contains("generations") => GENERATIONS,
            _ => before,
        };
        if after > most {
            grown.push(format!("{what} from {before} to {after}"));
        }
    }
    Ok(grown)
}

fn median(looks: &[Looked], what: &str) -> u64 {
    let mut values: Vec<u64> = looks
        .iter()
        .filter_map(|look| look.get(what).copied())
        .collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What the store holds when old records have been removed, as they are each hour and at a start.
fn rows(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .fleet
        .fritz
        .shell("systemctl restart certwell-issuer")?;
    stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
    let rows: BTreeMap<String, u64> = Gauge::of(stage.fleet).rows()?;
    let all: Vec<String> = rows
        .iter()
        .map(|(table, count)| format!("{table} {count}"))
        .collect();
    stage.figure("rows of the store after its housekeeping", all.join(", "));
    let certificates = u64::try_from(DECLARED.matches("[certificate.").count())?;
    let hosts = u64::try_from(stage.fleet.edges.len())?;
    // Events are kept for ninety days, whoever is awake.
    for (table, most) in [
        ("bundle", 3 * certificates + 1),
        ("pending_order", certificates),
        ("order_failure", 0),
        ("observation", hosts * certificates),
        ("host", hosts),
        ("token", hosts),
    ] {
        let count = rows.get(table).copied().unwrap_or_default();
        ensure!(count <= most, "{table} holds {count} rows, {most} are kept");
    }
    Ok(())
}
