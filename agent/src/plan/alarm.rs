//! When this host raises its own alarm, to whom, and how often: for want of the issuer, nobody else does.
//!
//! An alarm is opened when its cause has stood for a moment, told to each notifier until that accepts it, then again at a
//! rising pace, and resolved to those that had accepted it. All of that is remembered over restarts of the agent.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::pace::{backoff, pace};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::age;

/// Between the first message and the second; then half of that, and so on.
const FIRST: Duration = Duration::from_secs(4 * 3_600);
/// Down to this.
const LEAST: Duration = Duration::from_secs(15 * 60);
/// Never oftener, but for lives so short that a twentieth of them is less.
const SPACING: Duration = Duration::from_secs(60);
/// So long a cause stands before it is told, at most: an issuer that is restarted is no alarm.
const SETTLE: Duration = Duration::from_secs(5 * 60);
/// Over so long, at most, the first messages of a fleet are spread …
const SPREAD: Duration = Duration::from_secs(60);
/// … and at least over this.
const LEAST_SPREAD: Duration = Duration::from_secs(2);
/// After a message that wasn't accepted.
const AGAIN: Duration = Duration::from_secs(15);
/// And that doubled, up to this.
const AGAIN_MOST: Duration = Duration::from_secs(5 * 60);
/// So long is tried to tell that it is over.
const OVER_LIMIT: SignedDuration = SignedDuration::from_hours(1);

/// What an alarm is about; each is told for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The issuer isn't reached, and what is served has less than a quarter of its life left.
    IssuerUnreachable,
    /// The issuer is reached, and what is served is over all the same.
    ServedExpired,
}

impl Cause {
    /// Both.
    pub const ALL: [Self; 2] = [Self::IssuerUnreachable, Self::ServedExpired];

    /// Its name in messages, and its section in `docs/operations.md`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::IssuerUnreachable => "issuer-unreachable",
            Self::ServedExpired => "served-expired",
        }
    }
}

/// Whether the issuer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It wasn't tried yet since the agent started.
    Unknown,
    /// There is a connection.
    Reached,
    /// There is none, since then.
    Lost(Timestamp),
}

/// What is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Whether the issuer is reached.
    pub reach: Reach,
    /// The life of each leaf of ours that is active: first and last instant. The placeholder is none.
    pub lives: Vec<(Timestamp, Timestamp)>,
}

/// What is remembered of an open alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was opened.
    pub opened: Timestamp,
    /// Since when its cause has stood.
    pub since: Timestamp,
    /// Nobody is told before.
    pub not_before: Timestamp,
    /// When its cause was over, if it is.
    pub over: Option<Timestamp>,
    /// What became of the messages, by notifier.
    pub sent: BTreeMap<String, Sent>,
}

/// What one notifier was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// How many messages it accepted.
    pub accepted: u32,
    /// When it last did.
    pub at: Option<Timestamp>,
    /// How many it refused since.
    pub failures: u32,
    /// Not before then, since it refused the last one.
    pub again: Option<Timestamp>,
    /// Why it refused the last one; empty when it didn't.
    #[serde(default)]
    pub problem: String,
    /// It was told that it is over.
    #[serde(default)]
    pub resolved: bool,
}

impl Record {
    /// The same, where it was written by a clock that was ahead and is set right: nobody waits for what it said.
    fn not_ahead(mut self, facts: &Facts, now: Timestamp) -> Self {
        self.opened = self.opened.min(now);
        self.since = self.since.min(now);
        self.over = self.over.map(|over| over.min(now));
        self.not_before = self.not_before.min(plus(now, spread(facts, now)));
        for sent in self.sent.values_mut() {
            sent.at = sent.at.map(|at| at.min(now));
            sent.again = sent.again.map(|again| again.min(plus(now, AGAIN_MOST)));
        }
        self
    }

    /// Its cause is back. Who heard that it is over hears of it anew when it has stood for a moment, as at first.
    fn reopened(mut self, settled: Timestamp) -> Self {
        self.over = None;
        for sent in self.sent.values_mut().filter(|sent| sent.resolved) {
            sent.again = Some(settled);
        }
        self
    }
}

/// Somebody who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver<'a> {
    /// Its name.
    pub name: &'a str,
    /// It forgets what isn't sent again within this.
    pub resend: Option<Duration>,
    /// A message is on its way to it.
    pub is_busy: bool,
}

/// A message that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// To whom.
    pub notifier: String,
    /// Whether it tells that it is over.
    pub resolved: bool,
    /// The how many-th.
    pub number: u32,
}

/// What follows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// What is to be remembered; `None`: no alarm is open.
    pub record: Option<Record>,
    /// To be sent now, at once to all.
    pub due: Vec<Due>,
    /// When it is to be asked again, should nothing change before.
    pub wake: Option<Timestamp>,
}

/// Opens, repeats and ends the alarm of one cause. `jitter` in `0.0..=1.0` keeps a fleet from speaking in one instant.
pub fn step(
    cause: Cause,
    record: Option<Record>,
    facts: &Facts,
    receivers: &[Receiver<'_>],
    now: Timestamp,
    jitter: f64,
) -> Step {
    let record = record.map(|record| record.not_ahead(facts, now));
    let stands = match facts.reach {
        // A start is no news: what was open stays open, and nothing is told of it yet.
        Reach::Unknown => {
            return Step {
                record,
                ..Step::default()
            };
        }
        _ => stands(cause, facts, now),
    };
    let record = match (record, stands) {
        (None, Stands::No { from }) => return wait(from),
        (None, Stands::Since(since)) => {
            let settled = plus(since, settle(cause, facts, now));
            if now < settled {
                return wait(Some(settled));
            }
            open(since, facts, now, jitter)
        }
        (Some(record), Stands::Since(since)) if record.over.is_some() => {
            record.reopened(plus(since, settle(cause, facts, now)))
        }
        (Some(record), Stands::Since(_)) => record,
        (Some(record), Stands::No { .. }) if record.over.is_some() => record,
        (Some(record), Stands::No { .. }) => Record {
            over: Some(now),
            not_before: plus(now, spread(facts, now).mul_f64(jitter)),
            ..record
        },
    };
    tell(record, facts, receivers, now)
}

fn wait(wake: Option<Timestamp>) -> Step {
    Step {
        wake,
        ..Step::default()
    }
}

enum Stands {
    /// It doesn't; by age alone it will from then on.
    No {
        from: Option<Timestamp>,
    },
    Since(Timestamp),
}

fn stands(cause: Cause, facts: &Facts, now: Timestamp) -> Stands {
    let moment = |(not_before, not_after): &(Timestamp, Timestamp)| match cause {
        Cause::IssuerUnreachable => age::old_from(*not_before, *not_after),
        Cause::ServedExpired => *not_after,
    };
    let from = facts.lives.iter().map(moment).min();
    match (cause, facts.reach, from) {
        (Cause::IssuerUnreachable, Reach::Lost(lost), Some(from)) if from < now => {
            Stands::Since(lost.max(from))
        }
        (Cause::ServedExpired, Reach::Reached, Some(from)) if from <= now => Stands::Since(from),
        (Cause::IssuerUnreachable, Reach::Lost(_), from)
        | (Cause::ServedExpired, Reach::Reached, from) => Stands::No {
            from: from.map(|from| plus(from, Duration::from_millis(1))),
        },
        _ => Stands::No { from: None },
    }
}

/// What is left of the life of what ends first, and how long that life is.
fn life(facts: &Facts, now: Timestamp) -> (Duration, Duration) {
    let first = facts.lives.iter().min_by_key(|(_, not_after)| *not_after);
    first.map_or((Duration::ZERO, Duration::ZERO), |(begin, end)| {
        let length =
            |from: Timestamp| Duration::try_from(end.duration_since(from)).unwrap_or_default();
        (length(now), length(*begin))
    })
}

/// Nothing is left of what is over: it is hurried for by what it had.
fn paced(setting: Duration, facts: &Facts, now: Timestamp) -> Duration {
    let (left, whole) = life(facts, now);
    let left = if left.is_zero() { whole } else { left };
    pace(setting, Some(left))
}

fn settle(cause: Cause, facts: &Facts, now: Timestamp) -> Duration {
    match cause {
        // Nothing waits where visitors see it; a moment may pass until a new one is installed.
        Cause::ServedExpired => paced(SPACING, facts, now),
        Cause::IssuerUnreachable => paced(SETTLE, facts, now),
    }
}

fn spread(facts: &Facts, now: Timestamp) -> Duration {
    paced(SPREAD, facts, now).max(LEAST_SPREAD)
}

fn open(since: Timestamp, facts: &Facts, now: Timestamp, jitter: f64) -> Record {
    Record {
        opened: now,
        since,
        not_before: plus(now, spread(facts, now).mul_f64(jitter.clamp(0.0, 1.0))),
        over: None,
        sent: BTreeMap::new(),
    }
}

/// Between the last message that was accepted and the next.
fn interval(accepted: u32, facts: &Facts, now: Timestamp) -> Duration {
    let halved = FIRST / 2_u32.saturating_pow(accepted.saturating_sub(1).min(16));
    let (_, whole) = life(facts, now);
    let spacing = SPACING.min(whole / 20);
    paced(halved.max(LEAST), facts, now).max(spacing)
}

fn tell(mut record: Record, facts: &Facts, receivers: &[Receiver<'_>], now: Timestamp) -> Step {
    let is_over = record.over.is_some();
    let mut due = Vec::new();
    let mut wake: Option<Timestamp> = None;
    let mut left = false;
    for receiver in receivers {
        let sent = record.sent.get(receiver.name).cloned().unwrap_or_default();
        // What it will have heard is known when that has come back.
        if receiver.is_busy {
            left = true;
            continue;
        }
        // Who never heard of it needn't hear that it is over.
        if is_over && (sent.accepted == 0 || sent.resolved) {
            continue;
        }
        left = true;
        // Who heard that it is over isn't to wait as for a repetition.
        let stood = sent.at.filter(|_| !is_over && !sent.resolved);
        let repeated = stood.map(|at| {
            let pace = interval(sent.accepted, facts, now);
            plus(at, receiver.resend.map_or(pace, |resend| resend.min(pace)))
        });
        let at = [Some(record.not_before), repeated, sent.again]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(now);
        if at <= now {
            due.push(Due {
                notifier: receiver.name.to_owned(),
                resolved: is_over,
                number: sent.accepted + 1,
            });
        } else {
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
    }
    let given_up = record
        .over
        .is_some_and(|over| now.duration_since(over) > OVER_LIMIT);
    if is_over && (!left || given_up) {
        return Step::default();
    }
    // Who isn't configured any more is forgotten.
    record
        .sent
        .retain(|name, _| receivers.iter().any(|receiver| receiver.name == name));
    Step {
        record: Some(record),
        due,
        wake,
    }
}

/// What came back of a message: `None`, it was accepted; else why not, and how long the service wants to be left alone.
pub fn answered(
    record: &mut Record,
    due: &Due,
    refused: Option<(String, Option<Duration>)>,
    facts: &Facts,
    now: Timestamp,
    jitter: f64,
) {
    let sent = record.sent.entry(due.notifier.clone()).or_default();
    match refused {
        None => {
            *sent = Sent {
                accepted: if due.resolved {
                    sent.accepted
                } else {
                    due.number
                },
                at: Some(now),
                resolved: due.resolved,
                ..Sent::default()
            };
        }
        Some((problem, wanted)) => {
            let doubled = backoff(AGAIN, AGAIN_MOST, sent.failures, 1.0);
            let half = paced(doubled, facts, now) / 2;
            // It is somebody else's wish, and an alarm: it is heeded as far as we would wait by ourselves.
            let wanted = wanted.unwrap_or_default().min(AGAIN_MOST);
            let pause = (half + half.mul_f64(jitter.clamp(0.0, 1.0))).max(wanted);
            sent.failures = sent.failures.saturating_add(1);
            sent.again = Some(plus(now, pause));
            sent.problem = problem;
        }
    }
}

fn plus(at: Timestamp, pause: Duration) -> Timestamp {
    at.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
