//! What hosts say: merged into what is known, written down, and told where it is news.

use certwell_proto::{
    CertificateName, HostName,
    v1::{self, EventKind},
};
use jiff::Timestamp;

use super::task::Task;
use crate::{
    clock,
    plan::{
        inventory::HostInventory,
        observe::{Noticed, merge, shortened},
        preflight::Verdict,
        seen::wire,
    },
    store::{InventoryRecord, Observation},
};

impl Task {
    pub(super) async fn report(&mut self, host: &HostName, report: v1::Report) {
        let now = clock::now();
        self.host_says(host, &report, now).await;
        let mut refused = false;
        let mut stirred = false;
        for certificate in report.certificates {
            let Ok(name) = certificate.name.parse::<CertificateName>() else {
                continue;
            };
            // What isn't assigned to it is nothing that it could have facts about.
            let declared = self.facts.config.certificates.get(&name);
            if !declared.is_some_and(|declared| declared.hosts.contains(host)) {
                continue;
            }
            let told = self.told(host, &name, &certificate, now).await;
            let Some(known) = self.facts.certificates.get_mut(&name) else {
                continue;
            };
            let previous = known.observations.get(host);
            let (mut seen, noticed) =
                merge(previous, host, &name, certificate, now.as_millisecond());
            seen.told = seen.told.or(told);
            if previous == Some(&seen) {
                continue;
            }
            refused |= seen.outcome == v1::Outcome::Rejected;
            let listeners = |seen: &Observation| seen.facts.served.clone().map(|s| s.listeners);
            stirred |= previous.and_then(listeners) != listeners(&seen);
            known.observations.insert(host.clone(), seen.clone());
            self.scribe.write(seen.clone()).await;
            self.tell(&name, host, &seen, noticed).await;
        }
        if let Some(told) = report.inventory {
            self.inventory(host, told, now).await;
        }
        for result in report.preflights {
            self.verdict(host, result);
        }
        if self.is_recovering() {
            self.go_on_recovering().await;
        }
        if refused {
            self.publish([host.clone()]);
        }
        if stirred {
            self.stir();
        }
        if let Some(sightings) = report.sightings {
            // Checked at the door.
            if let Ok(told) = wire::told(sightings.sightings) {
                self.sightings(Some(host), told, true);
            }
        }
    }

    async fn host_says(&mut self, host: &HostName, report: &v1::Report, now: Timestamp) {
        let known = self.facts.hosts.entry(host.clone()).or_default();
        known.last_seen = Some(now);
        let problem =
            (!report.host_problem.is_empty()).then(|| shortened(report.host_problem.clone()));
        let news = problem.clone().filter(|_| problem != known.problem);
        known.problem = problem;
        if let Some(text) = news {
            self.events.host(EventKind::HostProblem, host, text).await;
        }
    }

    /// A retired host's is forgotten; one that is the same keeps the time of its first receipt.
    async fn inventory(&mut self, host: &HostName, told: v1::Inventory, now: Timestamp) {
        let known = self.facts.hosts.get(host);
        let record = known.and_then(|known| known.record.as_ref());
        if record.is_some_and(|record| record.retired) {
            return;
        }
        // It was checked at the door.
        let Ok(fresh) = HostInventory::told(&told, now) else {
            return;
        };
        let known = self.facts.inventories.get(host);
        if known.is_some_and(|known| known.is_same(&fresh)) {
            return;
        }
        self.facts.inventories.insert(host.clone(), fresh);
        self.scribe
            .inventory(InventoryRecord {
                host: host.clone(),
                at: now,
                told,
            })
            .await;
    }

    async fn tell(
        &self,
        name: &CertificateName,
        host: &HostName,
        seen: &Observation,
        noticed: Vec<Noticed>,
    ) {
        for news in noticed {
            let (kind, generation, text) = match news {
                Noticed::Installed(generation) => (
                    EventKind::Installed,
                    generation,
                    format!("{host} has put it on disk"),
                ),
                Noticed::Served(generation) => {
                    (EventKind::Served, generation, format!("{host} serves it"))
                }
                Noticed::Problem(text) => (EventKind::HostProblem, seen.outcome_generation, text),
            };
            self.events
                .certificate_on_host(kind, name, host, generation, text)
                .await;
        }
    }

    fn verdict(&mut self, host: &HostName, result: v1::PreflightResult) {
        let Some(preflight) = self
            .preflights
            .values()
            .find(|p| p.question.id == result.id)
        else {
            return;
        };
        let verdict = match v1::PreflightVerdict::try_from(result.verdict) {
            Ok(v1::PreflightVerdict::Pass) => Verdict::Pass,
            Ok(v1::PreflightVerdict::Wrong) => Verdict::Wrong(shortened(result.detail)),
            Ok(v1::PreflightVerdict::Erred) => Verdict::Erred(shortened(result.detail)),
            Ok(v1::PreflightVerdict::Unspecified) | Err(_) => return,
        };
        preflight.verdicts.send_if_modified(|verdicts| {
            verdicts.insert(host.clone(), verdict.clone()).as_ref() != Some(&verdict)
        });
    }
}
