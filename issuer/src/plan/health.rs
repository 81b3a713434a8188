//! How the issuer itself is: its disk, its clock, its backups. Pure, but for the facts.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use certwell_proto::{HostName, pace::pace, v1};
use jiff::{SignedDuration, Timestamp};

use super::{alert::Severity, facts::FleetFacts, words};

/// A disk with so much left is never nearly full: bytes, and inodes.
const ROOMY: (u64, u64) = (1 << 30, 10_000);
/// Nor is it full with so much.
const ENOUGH: (u64, u64) = (256 << 20, 1_000);
/// A clock that is off by so much is wrong; by less where certificates live shorter.
const SKEW: Duration = Duration::from_secs(60);
/// For so long it is told that the clock was set back, and hosts' clocks are compared by what they said.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// A backup is due daily; one that failed is no fault yet.
const BACKUP_AGE: SignedDuration = SignedDuration::from_hours(48);

/// What the issuer knows of its own machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerFacts {
    /// Where the state directory lies; `None`: not looked at yet, or it can't be.
    pub disk: Option<Disk>,
    /// The machine's clock.
    pub clock: Clock,
    /// `None`: not looked for yet.
    pub backups: Option<Backups>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The state directory.
    pub path: PathBuf,
    /// Bytes.
    pub bytes: Room,
    /// Inodes; a total of 0 where there is no such limit.
    pub inodes: Room,
}

/// How much of something there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub total: u64,
    /// For the issuer's user.
    pub free: u64,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// Whether the time service says that it has set it since the machine started; `None`: nobody says.
    pub synchronised: Option<bool>,
    /// When it was set back last, and by how much, since the issuer started.
    pub set_back: Option<(Timestamp, SignedDuration)>,
}

/// The backups of the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// Where they are.
    pub directory: PathBuf,
    /// When the newest was made; `None`: there is none.
    pub newest: Option<Timestamp>,
    /// Why they can't be looked at, one sentence.
    pub problem: Option<String>,
}

/// Something that is wrong with the issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ailment {
    /// How much it presses.
    pub severity: Severity,
    /// What, without a full stop.
    pub title: String,
    /// Why, one sentence without a full stop.
    pub text: String,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
}

/// What is wrong with the disk. A full one stops every renewal, and the telling of it: so it pages early.
pub fn disk(issuer: &IssuerFacts) -> Option<Ailment> {
    let disk = issuer.disk.as_ref()?;
    let measures = [
        (disk.bytes, ROOMY.0, ENOUGH.0, true),
        (disk.inodes, ROOMY.1, ENOUGH.1, false),
    ];
    let (room, is_full, is_bytes) = measures
        .into_iter()
        .filter(|(room, ..)| room.total > 0)
        .filter(|(room, roomy, ..)| room.free <= room.total / 10 && room.free < *roomy)
        .map(|(room, _, enough, is_bytes)| {
            let is_full = room.free <= room.total / 50 && room.free < enough;
            (room, is_full, is_bytes)
        })
        .max_by_key(|(_, is_full, _)| *is_full)?;
    let path = disk.path.display();
    let left = match is_bytes {
        true => format!("{} of {} MiB are free", room.free >> 20, room.total >> 20),
        false => format!("{} of {} inodes are free", room.free, room.total),
    };
    Some(Ailment {
        severity: if is_full {
            Severity::Page
        } else {
            Severity::Warning
        },
        title: match is_full {
            true => "the issuer's disk is full".to_owned(),
            false => "the issuer's disk is nearly full".to_owned(),
        },
        text: format!(
            "{left} where {path} lies; without room there the issuer can neither order nor keep what hosts tell"
        ),
        since: None,
    })
}

/// What is wrong with the clock: by it certificates are judged, ordered and given an end.
pub fn clock(facts: &FleetFacts, now: Timestamp) -> Option<Ailment> {
    let clock = &facts.issuer.clock;
    let skew = skew(facts);
    let told = |severity, text: String, since| {
        Some(Ailment {
            severity,
            title: "the issuer's clock can't be right".to_owned(),
            text: format!(
                "{text}; it says {} now, and every certificate is judged by it",
                words::instant(now)
            ),
            since,
        })
    };
    if let Some(off) = off_by_hosts(facts, skew, now) {
        return told(Severity::Page, off, None);
    }
    let trusted = clock.synchronised == Some(true);
    let newest = newest(facts).filter(|newest| newest.duration_since(now) > skew);
    if let Some(newest) = newest.filter(|_| !trusted) {
        let text = format!(
            "what happened on {} is stored, which by this clock is yet to come: the clock is wrong now, or was then",
            words::instant(newest)
        );
        return told(Severity::Page, text, None);
    }
    if let Some((at, by)) = clock
        .set_back
        .filter(|(at, by)| *by > skew && !trusted && now.duration_since(*at) < RECENT)
    {
        let text = format!(
            "it was set back by {} {}",
            words::span(by.as_secs()),
            words::relative(at, now)
        );
        return told(Severity::Warning, text, Some(at));
    }
    if clock.synchronised == Some(false) {
        let text =
            "the time service runs, and has not been able to set it since the machine started";
        return Some(Ailment {
            severity: Severity::Warning,
            title: "the issuer's clock isn't synchronised".to_owned(),
            text: text.to_owned(),
            since: None,
        });
    }
    None
}

/// By how much it may be off: less where certificates live short.
fn skew(facts: &FleetFacts) -> SignedDuration {
    let lives = facts.certificates.values().filter_map(|known| {
        let issued = known.issued.as_ref()?;
        Duration::try_from(issued.not_before.duration_until(issued.not_after)).ok()
    });
    SignedDuration::try_from(pace(SKEW, lives.min())).unwrap_or_default()
}

/// When the newest of all that is stored happened.
fn newest(facts: &FleetFacts) -> Option<Timestamp> {
    let issued = facts
        .certificates
        .values()
        .filter_map(|known| Some(known.issued.as_ref()?.at));
    let heard = facts.hosts.values().filter_map(|known| {
        let stored = known.record.as_ref().and_then(|record| record.last_seen);
        known.last_seen.max(stored)
    });
    issued.chain(heard).max()
}

/// Whether hosts agree, by what they said lately, that it is off. A host is heard late, never before it spoke: so it is
/// its least difference that counts, and one host alone may be the one that is wrong.
fn off_by_hosts(facts: &FleetFacts, skew: SignedDuration, now: Timestamp) -> Option<String> {
    let mut least: BTreeMap<&HostName, SignedDuration> = BTreeMap::new();
    for known in facts.certificates.values() {
        for (host, seen) in &known.observations {
            for (at, agent) in times(&seen.facts) {
                let is_recent = at <= now && now.duration_since(at) < RECENT;
                if !is_recent {
                    continue;
                }
                let late = at.duration_since(agent);
                let known = least.entry(host).or_insert(late);
                *known = (*known).min(late);
            }
        }
    }
    let hosts = least.len();
    let ahead = least.values().filter(|late| **late < -skew).count();
    let behind = least.values().filter(|late| **late > skew).count();
    let agree = |number: usize| number >= 2 && number * 2 > hosts;
    // Of hosts that agree the one in the middle is among them.
    let median = || {
        let mut all: Vec<SignedDuration> = least.values().copied().collect();
        all.sort();
        let middle = all.get(all.len() / 2);
        words::span(middle.map_or(0, |late| late.as_secs().abs()))
    };
    if agree(ahead) {
        Some(format!(
            "by the clocks of {ahead} of {} it is {} behind",
            words::count(hosts, "host"),
            median()
        ))
    } else if agree(behind) {
        Some(format!(
            "by the clocks of {behind} of {} it is {} ahead",
            words::count(hosts, "host"),
            median()
        ))
    } else {
        None
    }
}

/// When the issuer heard each fact, and when its host says that it happened.
fn times(facts: &v1::HostCertificateStatus) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let stages = [
        &facts.fetched,
        &facts.installed,
        &facts.tested,
        &facts.reloaded,
    ];
    let stages = stages.into_iter().flatten();
    let stages = stages.map(|fact| (fact.at_ms, fact.agent_at_ms));
    let served = facts
        .served
        .iter()
        .map(|fact| (fact.at_ms, fact.agent_at_ms));
    stages
        .chain(served)
        .filter(|(_, agent)| *agent > 0)
        .filter_map(|(at, agent)| {
            Some((
                Timestamp::from_millisecond(at).ok()?,
                Timestamp::from_millisecond(agent).ok()?,
            ))
        })
}

/// What is wrong with the backups. What one holds that nothing else does (the fleet CA, the accounts, who enrolled)
/// doesn't age with certificates, so neither does what is asked of it.
pub fn backup(facts: &FleetFacts, now: Timestamp) -> Option<Ailment> {
    let backups = facts.issuer.backups.as_ref()?;
    let directory = backups.directory.display();
    let began = Timestamp::from_millisecond(facts.lineage.started_ms).unwrap_or_default();
    let (title, text, since) = match (&backups.problem, backups.newest) {
        (Some(problem), _) => (
            "the issuer's backups can't be looked at".to_owned(),
            format!("whether there is any backup in {directory} isn't known: {problem}"),
            None,
        ),
        (None, None) => (
            "the issuer has no backup".to_owned(),
            format!(
                "there is none in {directory}, and the fleet has existed since {}; were this disk lost, every host would \
                 have to join again",
                words::dated(began, now)
            ),
            Some(began),
        ),
        (None, Some(newest)) => (
            format!(
                "the issuer's newest backup is from {}",
                words::relative(newest, now)
            ),
            format!(
                "the newest one in {directory} was made on {}; one is due each day",
                words::dated(newest, now)
            ),
            Some(newest),
        ),
    };
    if since.is_some_and(|since| now.duration_since(since) <= BACKUP_AGE) {
        return None;
    }
    Some(Ailment {
        severity: Severity::Warning,
        title,
        text,
        since: since.map(|since| since + BACKUP_AGE),
    })
}

/// All of it, for `certwell status`.
pub fn problems(facts: &FleetFacts, now: Timestamp) -> Vec<String> {
    [disk(&facts.issuer), clock(facts, now), backup(facts, now)]
        .into_iter()
        .flatten()
        .map(|ailment| format!("{}: {}", ailment.title, ailment.text))
        .collect()
}
