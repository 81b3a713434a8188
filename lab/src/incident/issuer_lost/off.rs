//! fritz is off, until what the edges serve has expired.

use std::{collections::BTreeMap, io::Write as _, thread};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;
use jiff::{SignedDuration, Timestamp};

use super::{ASSETS, extremes};
use crate::{
    MEDIA, clock,
    debian::{Fleet, Machine},
    incident::{
        LIFE, Stage,
        ledgers::{said, said_when},
        stream::Stream,
    },
    probe,
    wait::wait_for,
};

const ALARM: &str = "the issuer is not reached, and less than a quarter of the life";
const NOT_CONNECTED: &str = "no connection to the issuer";
/// So many dials come to nothing on each edge after what it serves has expired.
const DIALS: usize = 3;

/// What an edge serves.
struct Served {
    /// When the first of the two certificates ends.
    first: Timestamp,
    /// And the last.
    last: Timestamp,
    media: Fingerprint,
}

fn served(fleet: &Fleet, edge: &Machine) -> Result<Served> {
    let (media, assets) = (fleet.served(edge, MEDIA)?, fleet.served(edge, ASSETS)?);
    let ends = [media.leaf.not_after, assets.leaf.not_after];
    Ok(Served {
        first: ends[0].min(ends[1]),
        last: ends[0].max(ends[1]),
        media: media.fingerprint(),
    })
}

/// fritz is off, until what the edges serve has expired. When its plug was pulled.
pub(super) fn die(stage: &mut Stage<'_>) -> Result<Timestamp> {
    let stream = Stream::start(stage.fleet, MEDIA)?;
    let died = clock::now();
    stage.fleet.fritz.pull_plug()?;
    stage.tell("fritz is off: its plug is pulled");
    let fleet = &stage.fleet;
    let served = fleet.edges.iter().map(|edge| served(fleet, edge));
    let served: Vec<Served> = served.collect::<Result<_>>()?;
    let ends = served.iter().map(|served| served.first);
    let (end, last) = (
        ends.min().context("no edges")?,
        served
            .iter()
            .map(|served| served.last)
            .max()
            .context("no edges")?,
    );

    let left = alarms(fleet, &served, died, end)?;
    let (least, most) = extremes(left.values().copied());
    stage.tell(format!("each edge has raised its own alarm: {left:.1?}"));
    stage.figure(
        "left of what is served when an edge raised its alarm",
        format!("{least:.1} to {most:.1} s of {}", LIFE.as_secs()),
    );
    // A quarter of a life, and time to tell it on a busy machine.
    ensure!(
        least > LIFE.as_secs_f64() / 8.0,
        "an edge raised its alarm with {least:.1} s left"
    );
    // As long as what is served is good.
    let still = end - SignedDuration::from_secs(8) - clock::now();
    thread::sleep(still.try_into().unwrap_or_default());
    let outcome = stream.stop();
    for line in &outcome.told {
        stage.tell(line);
    }
    stage.figure("requests answered while fritz was off", outcome.good);
    stage.none("requests that failed while fritz was off", outcome.bad)?;

    let fleet = &stage.fleet;
    for (edge, served) in fleet.edges.iter().zip(&served) {
        wait_for("dials after the expiry", LIFE, || {
            let dials = said_when(edge, last, NOT_CONNECTED)?.len();
            ensure!(dials >= DIALS, "{}: {dials}", edge.name);
            Ok::<_, anyhow::Error>(())
        })?;
        expired(fleet, edge, served)?;
    }
    let dials = fleet
        .edges
        .iter()
        .map(|edge| Ok(said_when(edge, died, NOT_CONNECTED)?.len()));
    let dials: Vec<usize> = dials.collect::<Result<_>>()?;
    let off = (clock::now() - died).as_secs_f64();
    stage.tell("what the edges serve has expired; they serve it all the same, and go on dialling");
    stage.figure("fritz was off", format!("{off:.0} s"));
    stage.figure("dials of each edge meanwhile", format!("{dials:?}"));
    Ok(died)
}

/// Waits until each edge has raised its alarm, in the journal and by its exit code; how many seconds of what it serves
/// were left then.
fn alarms(
    fleet: &Fleet,
    served: &[Served],
    died: Timestamp,
    end: Timestamp,
) -> Result<BTreeMap<String, f64>> {
    let mut left = BTreeMap::new();
    let within = (end - clock::now()).try_into().unwrap_or(LIFE);
    wait_for(
        "each edge's own alarm, before what it serves ends",
        within,
        || {
            for (edge, served) in fleet.edges.iter().zip(served) {
                if left.contains_key(&edge.name) {
                    continue;
                }
                if let Some(at) = alarmed(edge, died)? {
                    left.insert(edge.name.clone(), (served.first - at).as_secs_f64());
                }
            }
            ensure!(left.len() == served.len(), "{left:?}");
            Ok::<_, anyhow::Error>(())
        },
    )?;
    Ok(left)
}

/// When it did, by its journal.
fn alarmed(edge: &Machine, died: Timestamp) -> Result<Option<Timestamp>> {
    let status = edge.run(["certwell-agent", "status"])?;
    if status.code != 3 || !status.stdout.contains("see to the issuer") {
        return Ok(None);
    }
    let mut lines = said(edge, died)?.into_iter();
    let alarm = lines.find(|line| line.priority == 3 && line.text.contains(ALARM));
    Ok(alarm.map(|line| line.at))
}

/// An edge serves what has expired: it has nothing else.
fn expired(fleet: &Fleet, edge: &Machine, before: &Served) -> Result<()> {
    let now = fleet.served(edge, MEDIA)?;
    ensure!(
        now.fingerprint() == before.media && now.leaf.not_after < clock::now(),
        "{} serves another leaf",
        edge.name
    );
    let mut stream = probe::connect((edge.address, 443).into(), MEDIA)?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {MEDIA}\r\n\r\n")?;
    let body = probe::read_reply(&mut stream)?;
    ensure!(!body.is_empty(), "{}: an empty answer", edge.name);
    let status = edge.run(["certwell-agent", "status"])?;
    ensure!(
        status.code == 3 && status.stdout.contains("expired at"),
        "{}: exit {}: {}",
        edge.name,
        status.code,
        status.stdout
    );
    Ok(())
}
