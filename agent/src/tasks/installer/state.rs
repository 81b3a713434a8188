//! One certificate, as the installer sees it between rounds.

use std::path::Path;

use certwell_proto::{CertificateName, Fingerprint, Generation, Leaf, v1};
use jiff::Timestamp;
use tokio::time::Instant;

use super::foreign;
use crate::{
    clock,
    disk::{
        Condition, Ledger, LedgerEntry, Live, LiveDirectory, Store, durable::DiskError, leaving,
        ledger::Fact, staging,
    },
    issuer::Wanted,
    plan::{
        drift,
        ending::{self, ending},
        hold::{self, ByHand},
        outcome::Outcome,
        served::{self, Sighting},
    },
    tasks::observed,
};

/// What is in memory only; the ledger has the rest.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What was found on disk; `None` when it has to be looked at again.
    pub(super) disk: Option<OnDisk>,
    /// What the handshakes showed, and when; `None` when they are to be made again.
    pub(super) sightings: Option<(Vec<Sighting>, Timestamp)>,
    /// How the last install ended, and of which generation.
    pub(super) outcome: Option<(Generation, Outcome)>,
    /// One sentence; empty when nothing is in the way.
    pub(super) problem: String,
    /// Why what is offered isn't taken at all; empty when it is.
    pub(super) refusal: String,
    /// Who keeps our hands off it.
    pub(super) by_hand: Option<ByHand>,
    /// In a row, without converging.
    pub(super) attempts: u32,
    /// Not before.
    pub(super) retry_at: Option<Instant>,
    /// What the last attempt was held for, where that can be looked at cheaply.
    pub(super) waiting: Waiting,
    /// What was seen may no longer be so.
    pub(super) resurvey: bool,
}

/// What a held certificate waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For time to pass.
    #[default]
    Nothing,
    /// For nginx to be started.
    Start,
    /// For an operator's edit to be loaded.
    Edit,
}

impl State {
    /// Whether handshakes are due: never made, possibly stale, or before another attempt.
    pub(super) fn needs_survey(&self) -> bool {
        self.sightings.is_none() || self.resurvey || self.is_due_again()
    }

    /// Whether it is time for another attempt to have it served.
    pub(super) fn is_due_again(&self) -> bool {
        matches!(self.outcome, Some((_, Outcome::Held | Outcome::NotApplied)))
            && self.retry_at.is_some_and(|at| at <= Instant::now())
    }
}

/// What was found on disk.
#[derive(Debug, Clone)]
pub(super) struct OnDisk {
    /// At `live/NAME`.
    pub(super) found: drift::Found,
    /// Our best generation that is whole, by [`drift::staged`].
    pub(super) staged: Option<Generation>,
    /// The certificates of an active, issued generation of ours, leaf first.
    pub(super) chain: Vec<Vec<u8>>,
    /// Of the leaf that is active, whosoever's; `None` for the placeholder.
    pub(super) validity: Option<(Timestamp, Timestamp)>,
    /// What is wrong with it; empty when nothing is.
    pub(super) damage: String,
    /// False where another hand's lies there of which nginx can't load anything.
    pub(super) loads: bool,
}

impl OnDisk {
    /// The generation of ours that is active and whole.
    pub(super) fn active(&self) -> Option<Generation> {
        match self.found {
            drift::Found::Ours {
                generation,
                whole: true,
            } => Some(generation),
            _ => None,
        }
    }

    /// Whether there is anything at `live/NAME` that an activation could make worse. What is gone or damaged makes
    /// nginx refuse its configuration, whoever else is to blame for that.
    pub(super) fn is_there(&self) -> bool {
        match self.found {
            drift::Found::Nothing => false,
            drift::Found::Ours { whole, .. } => whole,
            drift::Found::Foreign { .. } => self.loads,
        }
    }

    /// Whether going back to what is active would be worth nothing.
    pub(super) fn worthless(&self, now: Timestamp) -> bool {
        self.validity.is_none_or(|(_, not_after)| not_after <= now)
    }
}

/// Looks at `live/NAME` and at what it points to; where it isn't `held`, what a crash left half-done there is ended.
pub(super) fn look(
    name: &CertificateName,
    wanted: &Wanted,
    held: bool,
    live: &LiveDirectory,
    store: &Store,
    ledger: &Ledger,
) -> Result<OnDisk, DiskError> {
    if !held {
        live.finish(name, store)?;
    }
    let empty = LedgerEntry::default();
    let entry = ledger.entry(name).unwrap_or(&empty);
    let condition = |generation: Generation| match entry.staged.get(&generation.0) {
        Some(record) => store.inspect(name, generation, record),
        None if store.path(name, generation).is_dir() => {
            Condition::Damaged("the ledger doesn't know it".into())
        }
        None => Condition::Missing,
    };
    let mut damage = String::new();
    let mut chain = Vec::new();
    let mut validity = None;
    let mut loads = true;
    let there = live.look(name, store)?;
    let is_left =
        matches!(&there, Live::ForeignLink(target) if leaving::is_left(store, name, target));
    let found = match there {
        Live::Absent => drift::Found::Nothing,
        Live::Ours(generation) => {
            let condition = condition(generation);
            match &condition {
                Condition::Whole => {}
                Condition::Missing => {
                    damage = format!("generation {generation} is gone from the store")
                }
                Condition::Damaged(what) => damage.clone_from(what),
            }
            let whole = condition == Condition::Whole;
            if whole && !generation.is_none() {
                chain = store.fullchain(name, generation);
                validity = leaf_of(&chain).map(|leaf| (leaf.not_before, leaf.not_after));
            }
            drift::Found::Ours { generation, whole }
        }
        Live::ForeignLink(_) | Live::Directory | Live::Other => {
            let theirs = foreign::look(&live.path(name), wanted, clock::now());
            validity = theirs.validity;
            loads = theirs.loads;
            drift::Found::Foreign {
                // What an earlier fleet left gives way to this one's, whenever it ends.
                valid_until: theirs.valid_until.filter(|_| !is_left),
            }
        }
    };
    let staged = drift::staged(
        wanted.generation,
        entry.staged.keys().copied().map(Generation),
        |generation| entry.rejected.contains_key(&generation.0),
        |generation| condition(generation) == Condition::Whole,
    );
    Ok(OnDisk {
        found,
        staged,
        chain,
        validity,
        damage,
        loads,
    })
}

/// Of the certificate in a directory.
pub(super) fn leaf_in(directory: &Path) -> Option<Leaf> {
    leaf_of(&staging::read_fullchain(directory))
}

pub(super) fn leaf_of(chain: &[Vec<u8>]) -> Option<Leaf> {
    Leaf::read(chain.first()?).ok()
}

/// The leaves of a bundle of this generation, by the ledger.
pub(super) fn generation_of(entry: Option<&LedgerEntry>, leaf: &Fingerprint) -> Option<Generation> {
    entry.and_then(|entry| entry.generation_of(leaf))
}

/// What is told of it.
pub(super) fn observed(
    name: &CertificateName,
    wanted: &Wanted,
    state: &State,
    entry: Option<&LedgerEntry>,
) -> observed::Certificate {
    let facts = entry.map(|entry| entry.facts).unwrap_or_default();
    let wire = |fact: Option<Fact>| {
        fact.map(|fact| v1::Fact {
            generation: fact.generation,
            agent_at_ms: fact.at_ms,
        })
    };
    let disk = state.disk.as_ref();
    let validity = disk.and_then(|disk| disk.validity);
    let damage = disk.map_or("", |disk| &disk.damage);
    let by_hand = state
        .by_hand
        .as_ref()
        .map(|by_hand| hold::sentence(by_hand, name, validity, damage, clock::now()));
    let (outcome, problem) = ending(&ending::Facts {
        wanted: wanted.generation,
        active: entry.and_then(LedgerEntry::active).unwrap_or_default(),
        given_up: entry
            .and_then(|entry| entry.rejected.last_key_value())
            .map(|(number, reason)| (Generation(*number), reason.as_str())),
        last: state.outcome,
        problem: &state.problem,
        refusal: &state.refusal,
        damaged: !damage.is_empty(),
        by_hand: by_hand.as_deref(),
    });
    observed::Certificate {
        report: v1::CertificateReport {
            name: name.to_string(),
            fetched: wire(facts.fetched),
            installed: wire(facts.installed),
            tested: wire(facts.tested),
            reloaded: wire(facts.reloaded),
            served: state.sightings.as_ref().map(|(sightings, at)| {
                served::to_wire(sightings, wanted.generation, at.as_millisecond())
            }),
            outcome_generation: outcome.map_or(0, |(generation, _)| generation.0),
            outcome: outcome
                .map_or(v1::Outcome::Unspecified, |(_, outcome)| outcome.into())
                .into(),
            problem,
            active_fullchain: disk.map(|disk| disk.chain.clone()).unwrap_or_default(),
        },
        desired: wanted.generation.0,
        active: disk.and_then(OnDisk::active).map(|generation| generation.0),
        validity,
    }
}
