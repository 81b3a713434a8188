//! Handshakes with every listener, until the plan has its verdict.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, Fingerprint, Generation};

use super::{
    Installer,
    look::{Confirmed, Look},
    server::Server,
    state::generation_of,
};
use crate::{
    disk::staging,
    exec,
    nginx::{Endpoint, KeyAlgorithm, Managed, ProbeTarget, Probed, addresses, probe, targets},
    plan::{
        confirm::{self, Seen, Verdict},
        served::{Shown, Sighting},
    },
};

/// What identifies a target from one look at the configuration to the next.
pub(super) type TargetKey = (Endpoint, Option<String>, Option<KeyAlgorithm>);

pub(super) fn key(target: &ProbeTarget) -> TargetKey {
    (
        target.endpoint.clone(),
        target.server_name.clone(),
        target.key,
    )
}

impl Installer {
    /// Every handshake that these certificates need, by what the server is configured to serve.
    pub(super) async fn targets(
        &mut self,
        server: &Server,
        names: &[CertificateName],
    ) -> Result<Vec<ProbeTarget>, String> {
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
        match server {
            Server::Nginx(nginx) => {
                let parsed = self.host.parsed(nginx).await;
                let parsed = parsed.map_err(|error| error.to_string())?;
                let live = self.live.root();
                Ok(targets::probes(&parsed.servers, &local, live, &managed))
            }
            Server::Exec(settings) => {
                Ok(exec::targets::probes(&settings.addresses, &local, &managed))
            }
        }
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
        let probed = match by_intent(target, probed) {
            probed @ (Probed::Down(_) | Probed::Unprobed(_)) => {
                self.unreadable(target).map_or(probed, Probed::Down)
            }
            probed => probed,
        };
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
            proxy_protocol: target.proxy_protocol,
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

    /// Handshakes until each certificate has its verdict. `before` is the server as it was when the reload was asked
    /// for: new workers are needed, where processes tell of them.
    pub(super) async fn confirm(
        &mut self,
        generations: &BTreeMap<CertificateName, Generation>,
        before: &Server,
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
        let server = match self.host.server() {
            Ok(server) => server,
            Err(error) => return failed(error.to_string()),
        };
        let targets = match self.targets(&server, &names).await {
            Ok(targets) => targets,
            Err(why) => return failed(why),
        };
        let deadline = confirm::deadline(self.host.test_took);
        let mut look = Look::new(targets, &self.healthy, generations, deadline);
        loop {
            if look.new_workers != Some(true) {
                look.new_workers = self.has_new_workers(before);
            }
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
        let mut confirmed = look.into_confirmed();
        for (name, confirmed) in &mut confirmed {
            let generation = generations.get(name).copied().unwrap_or_default();
            self.ask_the_operator(&server, name, generation, confirmed)
                .await;
        }
        confirmed
    }

    /// The operator's own look at what the handshakes have shown. It tells that something is wrong, and not that it was
    /// better before: what is served stays.
    async fn ask_the_operator(
        &self,
        server: &Server,
        name: &CertificateName,
        generation: Generation,
        confirmed: &mut Confirmed,
    ) {
        if confirmed.verdict != Verdict::Converged {
            return;
        }
        let directory = self.live.path(name);
        if let Err(why) = server.confirm(name, generation, &directory).await {
            confirmed.verdict = Verdict::NotApplied;
            confirmed.why = format!("each handshake shows it, but {why}");
        }
    }

    fn has_new_workers(&self, before: &Server) -> Option<bool> {
        match self.host.server() {
            Ok(server) => server.has_new_workers(before),
            Err(_) => Some(false),
        }
    }
}

/// Alert 112 from a server block that isn't configured to reject comes from another one: what was to be served isn't.
fn by_intent(target: &ProbeTarget, probed: Probed) -> Probed {
    match probed {
        Probed::Rejects if !target.rejects => Probed::Down("rejects the handshake".into()),
        probed => probed,
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
