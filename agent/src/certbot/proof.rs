//! Handshakes with every listener that uses a lineage's files, until each serves what lies there now.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    time::Duration,
};

use certwell_proto::{CertificateName, Fingerprint};
use tokio::time::Instant;

use super::lineage::read_leaf;
use crate::{
    clock,
    inventory::algorithm,
    nginx::{
        Endpoint, Managed, Master, Nginx, Parsed, Place, ProbeTarget, Probed, Server, Settings,
        addresses, probe, targets,
    },
    plan::confirm::{self, Seen, Tally, Verdict},
};

/// The listeners of one lineage.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// `live/LINEAGE`, in every way that it is written.
    pub live: Vec<PathBuf>,
    /// What `nginx -T` shows.
    pub parsed: Parsed,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Over all listeners.
    pub verdict: Verdict,
    /// Listeners and names that served it.
    pub proven: usize,
    /// Those that can't be asked, or refuse by intent.
    pub exempt: usize,
    /// Handshakes made.
    pub handshakes: usize,
    /// The first thing in the way; empty when there is none.
    pub why: String,
}

/// What identifies a listener from one look to the next.
type Spot = (Endpoint, Option<String>);

impl Listeners {
    /// The server blocks that use the lineage.
    pub fn blocks(&self) -> impl Iterator<Item = &Server> {
        let by_variable: BTreeSet<Place> = self.read_by_workers().map(|(_, at)| at).collect();
        self.parsed
            .servers
            .iter()
            .filter(|server| {
                server
                    .listens
                    .iter()
                    .any(|listen| listen.tls || listen.quic)
            })
            .filter(move |server| {
                let mut files = server.certificates.iter();
                files.any(|files| files.path_in(&self.live).is_some())
                    || by_variable.contains(&server.at)
            })
    }

    /// What lies on the path now.
    fn leaf(&self) -> Option<(PathBuf, certwell_proto::Leaf)> {
        let path = self.live.first()?.join("fullchain.pem");
        let (leaf, _) = read_leaf(&path).ok()?;
        Some((path, leaf))
    }

    /// What nginx's workers read of the lineage by themselves, and for which server block: its path holds variables.
    pub fn read_by_workers(&self) -> impl Iterator<Item = (PathBuf, Place)> {
        let targets = self.targets().into_iter();
        targets.filter_map(|target| Some((target.read_by_workers?, target.at)))
    }

    fn targets(&self) -> Vec<ProbeTarget> {
        let Ok(local) = addresses::local() else {
            return Vec::new();
        };
        // A lineage may be called what no certificate of certwell's is.
        let called = self
            .live
            .first()
            .and_then(|live| live.file_name()?.to_str());
        let name = called.and_then(|name| name.parse().ok());
        let Some(name) = name.or_else(|| "lineage".parse::<CertificateName>().ok()) else {
            return Vec::new();
        };
        let leaf = self.leaf();
        let subject = Managed {
            name,
            keys: leaf
                .iter()
                .filter_map(|(path, _)| algorithm(path))
                .collect(),
            identifiers: leaf.map(|(_, leaf)| leaf.identifiers).unwrap_or_default(),
        };
        targets::probes_in(&self.parsed.servers, &local, &self.live, &subject)
    }

    /// Which listeners serve anything at all, to know later what got worse.
    pub async fn healthy(&self) -> HashMap<(Endpoint, Option<String>), bool> {
        let probed = probe::probe_all(self.targets()).await;
        probed
            .into_iter()
            .map(|(target, probed)| (place(&target), matches!(probed, Probed::Leaf { .. })))
            .collect()
    }

    /// Handshakes until the plan has its verdict. `before` is the master when the reload was asked for.
    pub async fn confirm(
        &self,
        settings: &Settings,
        before: &Master,
        healthy: &HashMap<Spot, bool>,
        test_took: Duration,
    ) -> Proof {
        let targets = self.targets();
        let was_healthy = |target: &ProbeTarget| healthy.get(&place(target)) == Some(&true);
        let mut tallies: Vec<Tally> = targets
            .iter()
            .map(|target| Tally::new(target.first, was_healthy(target)))
            .collect();
        let mut said = vec![String::new(); targets.len()];
        let (began, deadline) = (Instant::now(), confirm::deadline(test_took));
        let (mut handshakes, mut rounds, mut new_workers) = (0, 0, false);
        let verdict = loop {
            new_workers = new_workers || has_new_workers(settings, before);
            // The running agent may put a newer generation there meanwhile.
            let wanted = self.leaf().map(|(_, leaf)| leaf.fingerprint);
            let pending: Vec<usize> = (0..targets.len())
                .filter(|at| !tallies[*at].settled())
                .collect();
            let asked = pending.iter().map(|at| targets[*at].clone()).collect();
            let probed = probe::probe_all(asked).await;
            for (at, (target, probed)) in pending.into_iter().zip(probed) {
                handshakes += usize::from(target.way == targets::Way::Handshake);
                tallies[at].add(seen(&target, &probed, wanted), began.elapsed());
                said[at] = words(&target, &probed);
            }
            rounds += 1;
            match confirm::verdict(&tallies, new_workers, began.elapsed(), deadline) {
                Verdict::Wait => tokio::time::sleep(confirm::pause(&tallies, rounds)).await,
                verdict => break verdict,
            }
        };
        let exempt = tallies
            .iter()
            .filter(|tally| tally.last == Some(Seen::Exempt))
            .count();
        let proven = tallies.iter().filter(|tally| tally.settled()).count() - exempt;
        let unsettled = tallies.iter().position(|tally| !tally.settled());
        let why = match (verdict, unsettled) {
            (Verdict::Converged, _) => String::new(),
            (_, Some(at)) => said[at].clone(),
            (_, None) => {
                "nginx keeps its old workers after the reload; see its error log".to_owned()
            }
        };
        Proof {
            verdict,
            proven,
            exempt,
            handshakes,
            why,
        }
    }
}

fn place(target: &ProbeTarget) -> Spot {
    (target.endpoint.clone(), target.server_name.clone())
}

fn has_new_workers(settings: &Settings, before: &Master) -> bool {
    let master = Nginx::find(settings, clock::now())
        .ok()
        .and_then(|nginx| nginx.master);
    master.is_some_and(|master| master.has_loaded_since(before))
}

fn seen(target: &ProbeTarget, probed: &Probed, wanted: Option<Fingerprint>) -> Seen {
    match probed {
        Probed::Leaf { fingerprint, .. } if Some(*fingerprint) == wanted => Seen::New,
        Probed::Leaf { .. } => Seen::Old,
        Probed::Rejects if !target.rejects => Seen::Down,
        Probed::Down(_) => Seen::Down,
        Probed::Rejects | Probed::Elsewhere | Probed::Unprobed(_) => Seen::Exempt,
    }
}

fn words(target: &ProbeTarget, probed: &Probed) -> String {
    let name = target
        .server_name
        .as_deref()
        .map_or(String::new(), |name| format!(" ({name})"));
    let place = format!("{}{name}", target.endpoint);
    match probed {
        Probed::Leaf { fingerprint, .. } => {
            format!(
                "{place} serves another certificate ({})",
                fingerprint.short()
            )
        }
        Probed::Down(why) => format!("{place} fails: {why}"),
        Probed::Rejects => format!("{place} rejects the handshake"),
        Probed::Elsewhere | Probed::Unprobed(_) => place,
    }
}
