//! After a restore: what hosts tell that the backup had forgotten, and when they are waited for no longer.

use certwell_proto::{
    CertificateName, HostName,
    v1::{self, EventKind},
};
use jiff::Timestamp;

use super::task::Task;
use crate::{
    clock,
    plan::{
        recover::{self, Claim},
        words,
    },
};

impl Task {
    /// Whether orders and offers wait for hosts.
    pub(super) fn is_recovering(&self) -> bool {
        self.facts
            .recovery
            .as_ref()
            .is_some_and(|recovery| !recovery.waiting.is_empty())
    }

    /// A host has named a certificate.
    pub(super) async fn told(
        &mut self,
        host: &HostName,
        name: &CertificateName,
        report: &v1::CertificateReport,
        now: Timestamp,
    ) {
        let Some(recovery) = &self.facts.recovery else {
            return;
        };
        let claim = recover::claim(&self.facts, recovery, name, report, now);
        let Some(recovery) = &mut self.facts.recovery else {
            return;
        };
        if let Some(at) = recover::press_at(report) {
            let newest = recovery.press_at.entry(name.clone()).or_insert(at);
            *newest = (*newest).max(at);
        }
        // What it shows first counts: a host can't have others order anew and anew.
        let first = recovery
            .told
            .get(name)
            .is_none_or(|hosts| !hosts.contains(host));
        let mut news = false;
        match claim {
            Claim::Ahead(generation) if first => {
                news = true;
                if let Some(known) = self.facts.certificates.get_mut(name) {
                    known.highest = generation;
                }
                let text = format!(
                    "it was issued after the backup from which the issuer was restored, and {host} has it; it is \
                     issued once more, as generation {}",
                    generation.next()
                );
                self.events
                    .certificate(EventKind::Recovery, name, generation, text)
                    .await;
            }
            // Its chain may not be read yet: it is asked for again with its next report.
            Claim::Unproven(_) if first => return,
            Claim::TooFar(generation) => {
                let key = (name.clone(), host.clone());
                if recovery.too_far.insert(key, generation) != Some(generation) {
                    let text = format!(
                        "{host} claims this generation, too far ahead of all that is known to be believed"
                    );
                    self.events
                        .certificate_on_host(EventKind::HostProblem, name, host, generation, text)
                        .await;
                }
            }
            _ => {}
        }
        if let Some(recovery) = &mut self.facts.recovery {
            let hosts = recovery.told.entry(name.clone()).or_default();
            hosts.insert(host.clone());
        }
        if news {
            self.publish_control();
            self.publish_hosts_of(name);
        }
    }

    /// Lets go of the certificates that need to wait no longer.
    pub(super) async fn go_on_recovering(&mut self) {
        let now = clock::now();
        if let Some(recovery) = &mut self.facts.recovery {
            recover::heed_clock(recovery, now);
        }
        let Some(recovery) = &self.facts.recovery else {
            return;
        };
        let still = recover::waiting(&self.facts, recovery, now);
        let Some(recovery) = &mut self.facts.recovery else {
            return;
        };
        let before = recovery.waiting.len();
        recovery.waiting.retain(|name| still.contains(name));
        if recovery.waiting.len() == before {
            return;
        }
        let over = recovery.waiting.is_empty();
        self.publish_control();
        self.publish_all();
        if over && let Some(recovery) = &self.facts.recovery {
            let (hosts, told) = recover::count(&self.facts, recovery);
            let text = format!(
                "recovered: {told} of {} have reported; orders and offers go on",
                words::count(hosts, "host")
            );
            self.events.issuer(EventKind::Recovery, text).await;
        }
    }
}
