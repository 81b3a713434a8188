//! One confirming, over its time: what each handshake showed, and what it adds up to.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use certwell_proto::{CertificateName, Generation};
use tokio::time::Instant;

use super::confirm::{TargetKey, key};
use crate::{
    nginx::ProbeTarget,
    plan::{
        confirm::{self, Seen, Tally, Verdict},
        served::{Shown, Sighting},
    },
};

/// What confirming found about one certificate.
pub(super) struct Confirmed {
    pub(super) verdict: Verdict,
    pub(super) sightings: Vec<Sighting>,
    /// Words for what stands in the way; empty when nothing does.
    pub(super) why: String,
    /// Whether the server began to serve what is on disk.
    pub(super) new_workers: bool,
}

/// One confirming, over its time.
pub(super) struct Look<'a> {
    pub(super) targets: Vec<ProbeTarget>,
    pub(super) tallies: Vec<Tally>,
    sightings: Vec<Option<Sighting>>,
    generations: &'a BTreeMap<CertificateName, Generation>,
    pub(super) verdicts: BTreeMap<CertificateName, Verdict>,
    /// Nothing where no process tells: then the handshakes alone decide.
    pub(super) new_workers: Option<bool>,
    pub(super) began: Instant,
    deadline: Duration,
    pub(super) rounds: u32,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        targets: Vec<ProbeTarget>,
        healthy: &HashMap<TargetKey, bool>,
        generations: &'a BTreeMap<CertificateName, Generation>,
        deadline: Duration,
    ) -> Self {
        let tallies = targets
            .iter()
            .map(|target| {
                Tally::new(
                    target.first,
                    healthy.get(&key(target)).copied().unwrap_or(false),
                )
            })
            .collect();
        Self {
            sightings: vec![None; targets.len()],
            targets,
            tallies,
            generations,
            verdicts: generations
                .keys()
                .map(|name| (name.clone(), Verdict::Wait))
                .collect(),
            new_workers: None,
            began: Instant::now(),
            deadline,
            rounds: 0,
        }
    }

    pub(super) fn pending(&self) -> Vec<usize> {
        (0..self.targets.len())
            .filter(|at| {
                !self.tallies[*at].settled()
                    && self.verdicts.get(&self.targets[*at].certificate) == Some(&Verdict::Wait)
            })
            .collect()
    }

    pub(super) fn add(&mut self, at: usize, sighting: Sighting, elapsed: Duration) {
        let desired = self
            .generations
            .get(&self.targets[at].certificate)
            .copied()
            .unwrap_or_default();
        self.tallies[at].add(sighting.seen(desired), elapsed);
        self.sightings[at] = Some(sighting);
    }

    pub(super) fn judge(&mut self) {
        self.rounds += 1;
        let elapsed = self.began.elapsed();
        // Where no process tells, the handshakes alone decide.
        let new_workers = self.new_workers.unwrap_or(true);
        for (name, verdict) in &mut self.verdicts {
            if *verdict != Verdict::Wait {
                continue;
            }
            let own: Vec<Tally> = self
                .targets
                .iter()
                .zip(&self.tallies)
                .filter(|(target, _)| target.certificate == *name)
                .map(|(_, tally)| *tally)
                .collect();
            *verdict = confirm::verdict(&own, new_workers, elapsed, self.deadline);
        }
    }

    pub(super) fn into_confirmed(self) -> BTreeMap<CertificateName, Confirmed> {
        let mut found: BTreeMap<CertificateName, Confirmed> = self
            .verdicts
            .iter()
            .map(|(name, verdict)| {
                (
                    name.clone(),
                    Confirmed {
                        verdict: *verdict,
                        sightings: Vec::new(),
                        why: String::new(),
                        new_workers: self.new_workers.unwrap_or(false),
                    },
                )
            })
            .collect();
        for ((target, tally), sighting) in
            self.targets.iter().zip(&self.tallies).zip(self.sightings)
        {
            let (Some(confirmed), Some(sighting)) = (found.get_mut(&target.certificate), sighting)
            else {
                continue;
            };
            if self.new_workers.is_none() {
                confirmed.new_workers |= tally.last == Some(Seen::New);
            }
            if !tally.settled() && confirmed.why.is_empty() {
                confirmed.why = unsettled(&sighting, tally);
            }
            confirmed.sightings.push(sighting);
        }
        for confirmed in found.values_mut() {
            if confirmed.verdict == Verdict::NotApplied && self.new_workers == Some(false) {
                confirmed.why =
                    "nginx keeps its old workers after the reload; see its error log".into();
            } else if confirmed.verdict == Verdict::Converged && confirmed.sightings.is_empty() {
                confirmed.why = "no server block of nginx on this host uses it".into();
            } else if confirmed.verdict == Verdict::Converged
                && self.new_workers.is_none()
                && !confirmed.new_workers
            {
                confirmed.why =
                    "none of exec.addresses is on this host now, so that nothing proves it".into();
            }
        }
        found
    }
}

fn unsettled(sighting: &Sighting, tally: &Tally) -> String {
    let place = if sighting.name.is_empty() {
        sighting.address.clone()
    } else {
        format!("{} ({})", sighting.address, sighting.name)
    };
    match &sighting.shown {
        Shown::Down(reason) => format!("{place} fails: {reason}"),
        Shown::Leaf(leaf, None) => format!(
            "{place} serves a certificate that isn't ours ({})",
            leaf.short()
        ),
        Shown::Leaf(_, Some(Generation::NONE)) => format!("{place} serves the placeholder"),
        Shown::Leaf(_, Some(_)) if tally.last == Some(Seen::New) => {
            format!("{place} serves it only now and then")
        }
        Shown::Leaf(_, Some(generation)) => format!("{place} serves generation {generation}"),
        Shown::Rejects | Shown::Elsewhere | Shown::Unprobed(_) => place,
    }
}
