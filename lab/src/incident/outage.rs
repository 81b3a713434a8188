//! Act 1: certificates of three minutes' life are renewed, three times by themselves and seventeen times by hand, while
//! requests come in. Nobody notices.

use std::time::Duration;

use anyhow::Result;

use super::{LIFE, Stage, stream::Stream};
use crate::{MEDIA, clock, debian::fleet::SOON};

const NATURAL: u64 = 3;
const FORCED: u64 = 17;

pub(super) fn play(stage: &mut Stage<'_>) -> Result<()> {
    let first = stage.fleet.converged(MEDIA, 1, SOON, |_| true)?;
    let stream = Stream::start(stage.fleet, MEDIA)?;
    stage.tell(format!(
        "requests to four edges begin; certificates live {} s, and nobody does anything",
        LIFE.as_secs()
    ));
    let natural = renewals(stage, first, first + NATURAL, |_| Ok(()))?;
    let forced = renewals(stage, natural, natural + FORCED, |stage| {
        stage.fleet.renew(MEDIA)
    })?;
    let outcome = stream.stop();
    for line in &outcome.told {
        stage.tell(line);
    }
    stage.figure("renewals by themselves", natural - first);
    stage.figure("renewals by hand", forced - natural);
    stage.figure("requests answered over a valid chain", outcome.good);
    stage.figure("leaves seen", outcome.leaves);
    stage.none(
        "requests that failed, were refused, or met an expired leaf",
        outcome.bad,
    )?;
    Ok(())
}

/// From one generation to another, each asked for by `ask` and served everywhere before the next.
fn renewals(
    stage: &mut Stage<'_>,
    from: u64,
    to: u64,
    ask: impl Fn(&mut Stage<'_>) -> Result<()>,
) -> Result<u64> {
    let mut generation = from;
    while generation < to {
        ask(stage)?;
        let began = clock::now();
        generation = stage
            .fleet
            .converged(MEDIA, generation + 1, LIFE, |_| true)?;
        let took = Duration::try_from(clock::now() - began).unwrap_or_default();
        stage.tell(format!(
            "generation {generation} is served by all edges, {:.1} s later",
            took.as_secs_f32()
        ));
    }
    Ok(generation)
}
