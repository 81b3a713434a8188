//! Handshakes with every listener, until the plan has its verdict.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{CertificateName, Fingerprint, Generation};
use tokio::time::Instant;

use super::{Installer, state::generation_of};
use crate::{
    disk::staging,
    nginx::{
        Endpoint, KeyAlgorithm, Managed, Master, Nginx, ProbeTarget, Probed, addresses, probe,
        targets,
    },
    plan::{
        confirm::{self, Seen, Tally, Verdict},
        served::{Shown, Sighting},
    },
};

/// What identifies a target from one look at the configuration to the next.
pub(super) type TargetKey = (Endpoint, Option<String>, Option<KeyAlgorithm>);

/// What confirming found about one certificate.
pub(super) struct Confirmed {
    pub(super) verdict: Verdict,
    pub(super) sightings: Vec<Sighting>,
    /// Words for what stands in the way; empty when nothing does.
    pub(super) why: String,
    /// Whether nginx began to serve what is on disk.
    pub(super) new_workers: bool,
}

pub(super) fn key(target: &ProbeTarget) -> TargetKey {
    (
        target.endpoint.clone(),
        target.server_name.clone(),
        target.key,
    )
}

impl Installer {
    /// Every handshake that these certificates need, by what nginx is configured to serve.
    pub(super) async fn targets(
        &mut self,
        nginx: &Nginx,
        names: &[CertificateName],
    ) -> Result<Vec<ProbeTarget>, String> {
        let parsed = self
            .host
            .parsed(nginx)
            .await
            .map_err(|error| error.to_string())?;
        let local = addresses::local()
            .map_err(|error| format!("this host's addresses can't be listed: {error}"))?;
        let managed: Vec<Managed> = names
            .iter()
            .filter_map(|name| {
                let wanted = self.wanted.get(name)?;
                let keys = self.key_algorithms(name);
                Some(Managed {
                    name: name.clone(),
                    identifiers: wanted.identifiers.clone(),
                    keys,
                })
            })
            .collect();
        Ok(targets::probes(
            &parsed.servers,
            &local,
            self.live.root(),
            &managed,
        ))
    }

    /// Of each key pair of the newest generation on disk.
    fn key_algorithms(&self, name: &CertificateName) -> Vec<KeyAlgorithm> {
        let newest = self
            .ledger
            .entry(name)
            .and_then(|entry| entry.staged.last_key_value());
        let leaves = newest
            .map(|(generation, record)| self.store.leaves(name, Generation(*generation), record));
        let algorithm = |leaf: Vec<u8>| {
            if staging::has_rsa_key(&leaf) {
                KeyAlgorithm::Rsa
            } else {
                KeyAlgorithm::Ecdsa
            }
        };
        leaves.into_iter().flatten().map(algorithm).collect()
    }

    pub(super) fn sighting(&self, target: &ProbeTarget, probed: Probed) -> Sighting {
        let probed = by_intent(target, probed);
        let shown = match probed {
            Probed::Leaf { fingerprint, .. } => Shown::Leaf(
                fingerprint,
                self.generation_of(&target.certificate, &fingerprint),
            ),
            Probed::Rejects => Shown::Rejects,
            Probed::Down(reason) => Shown::Down(reason),
            Probed::Elsewhere => Shown::Elsewhere,
            Probed::Unprobed(reason) => Shown::Unprobed(reason),
        };
        Sighting {
            address: target.endpoint.to_string(),
            name: target.server_name.clone().unwrap_or_default(),
            shown,
        }
    }

    fn generation_of(&self, name: &CertificateName, leaf: &Fingerprint) -> Option<Generation> {
        generation_of(self.ledger.entry(name), leaf)
    }

    /// One handshake with each listener; what is healthy is remembered, to know later what got worse.
    pub(super) async fn survey(
        &mut self,
        targets: Vec<ProbeTarget>,
    ) -> BTreeMap<CertificateName, Vec<Sighting>> {
        let mut found: BTreeMap<CertificateName, Vec<Sighting>> = BTreeMap::new();
        for (target, probed) in probe::probe_all(targets).await {
            let sighting = self.sighting(&target, probed);
            self.healthy.insert(key(&target), sighting.healthy());
            found
                .entry(target.certificate.clone())
                .or_default()
                .push(sighting);
        }
        found
    }

    /// Handshakes until each certificate has its verdict. `before` is the master as it was when the reload was asked
    /// for: new workers under it are needed.
    pub(super) async fn confirm(
        &mut self,
        generations: &BTreeMap<CertificateName, Generation>,
        before: &Master,
    ) -> BTreeMap<CertificateName, Confirmed> {
        let names: Vec<CertificateName> = generations.keys().cloned().collect();
        let failed = |why: String| {
            names
                .iter()
                .map(|name| {
                    let confirmed = Confirmed {
                        verdict: Verdict::NotApplied,
                        sightings: Vec::new(),
                        why: why.clone(),
                        new_workers: false,
                    };
                    (name.clone(), confirmed)
                })
                .collect()
        };
        let nginx = match self.host.find() {
            Ok(nginx) => nginx,
            Err(error) => return failed(error.to_string()),
        };
        let targets = match self.targets(&nginx, &names).await {
            Ok(targets) => targets,
            Err(why) => return failed(why),
        };
        let deadline = confirm::deadline(self.host.test_took);
        let mut look = Look::new(targets, &self.healthy, generations, deadline);
        loop {
            look.new_workers = look.new_workers || self.has_new_workers(before);
            let pending = look.pending();
            let results =
                probe::probe_all(pending.iter().map(|at| look.targets[*at].clone()).collect())
                    .await;
            let elapsed = look.began.elapsed();
            for (at, (target, probed)) in pending.into_iter().zip(results) {
                let sighting = self.sighting(&target, probed);
                look.add(at, sighting, elapsed);
            }
            look.judge();
            if look
                .verdicts
                .values()
                .all(|verdict| *verdict != Verdict::Wait)
            {
                break;
            }
            tokio::time::sleep(confirm::pause(&look.tallies, look.rounds)).await;
        }
        for (target, tally) in look.targets.iter().zip(&look.tallies) {
            self.healthy.insert(
                key(target),
                matches!(tally.last, Some(Seen::New | Seen::Old | Seen::Stranger)),
            );
        }
        look.into_confirmed()
    }

    fn has_new_workers(&self, before: &Master) -> bool {
        let master = self.host.find().ok().and_then(|nginx| nginx.master);
        master.is_some_and(|master| {
            (master.pid, master.ticks) == (before.pid, before.ticks)
                && master.has_new_workers(before)
        })
    }
}

/// Alert 112 from a server block that isn't configured to reject comes from another one: what was to be served isn't.
fn by_intent(target: &ProbeTarget, probed: Probed) -> Probed {
    match probed {
        Probed::Rejects if !target.rejects => Probed::Down("rejects the handshake".into()),
        probed => probed,
    }
}

/// One confirming, over its time.
struct Look<'a> {
    targets: Vec<ProbeTarget>,
    tallies: Vec<Tally>,
    sightings: Vec<Option<Sighting>>,
    generations: &'a BTreeMap<CertificateName, Generation>,
    verdicts: BTreeMap<CertificateName, Verdict>,
    new_workers: bool,
    began: Instant,
    deadline: Duration,
    rounds: u32,
}

impl<'a> Look<'a> {
    fn new(
        targets: Vec<ProbeTarget>,
        healthy: &std::collections::HashMap<TargetKey, bool>,
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
            new_workers: false,
            began: Instant::now(),
            deadline,
            rounds: 0,
        }
    }

    fn pending(&self) -> Vec<usize> {
        (0..self.targets.len())
            .filter(|at| {
                !self.tallies[*at].settled()
                    && self.verdicts.get(&self.targets[*at].certificate) == Some(&Verdict::Wait)
            })
            .collect()
    }

    fn add(&mut self, at: usize, sighting: Sighting, elapsed: Duration) {
        let desired = self
            .generations
            .get(&self.targets[at].certificate)
            .copied()
            .unwrap_or_default();
        self.tallies[at].add(sighting.seen(desired), elapsed);
        self.sightings[at] = Some(sighting);
    }

    fn judge(&mut self) {
        self.rounds += 1;
        let elapsed = self.began.elapsed();
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
            *verdict = confirm::verdict(&own, self.new_workers, elapsed, self.deadline);
        }
    }

    fn into_confirmed(self) -> BTreeMap<CertificateName, Confirmed> {
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
                        new_workers: self.new_workers,
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
            if !tally.settled() && confirmed.why.is_empty() {
                confirmed.why = unsettled(&sighting, tally);
            }
            confirmed.sightings.push(sighting);
        }
        for confirmed in found.values_mut() {
            if confirmed.verdict == Verdict::NotApplied && !self.new_workers {
                confirmed.why =
                    "nginx keeps its old workers after the reload; see its error log".into();
            } else if confirmed.verdict == Verdict::Converged && confirmed.sightings.is_empty() {
                confirmed.why = "no server block of nginx on this host uses it".into();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nginx::parse;

    #[test]
    fn a_rejection_counts_as_intended_only_where_it_is_configured() {
        let dump = "# configuration file /n.conf:\nhttp { \
             server { listen 127.0.0.1:443 ssl; server_name a.example; ssl_certificate /live/a/f; ssl_certificate_key /live/a/k; } \
             server { listen 127.0.0.1:443 ssl; server_name b.example; ssl_certificate /live/a/f; ssl_certificate_key /live/a/k; \
             ssl_reject_handshake on; } }\n";
        let managed = Managed {
            name: "a".parse().unwrap(),
            identifiers: Vec::new(),
            keys: Vec::new(),
        };
        let live = std::path::Path::new("/live");
        let found = targets::probes(&parse(dump).servers, &[], live, &[managed]);
        let shown: Vec<Probed> = found
            .iter()
            .map(|target| by_intent(target, Probed::Rejects))
            .collect();
        assert!(
            matches!(&shown[..], [Probed::Down(why), Probed::Rejects] if why == "rejects the handshake"),
            "{shown:?}"
        );
    }
}
