//! After a restore: what hosts tell that the backup had forgotten, and when they are waited for no longer.

use certwell_proto::{
    CertificateName, Generation, HostName,
    v1::{self, EventKind},
};
use jiff::Timestamp;

use super::task::Task;
use crate::{
    clock,
    plan::{
        recover::{self, News},
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

    /// A host has named a certificate: the highest generation that is known by it, where its word counts.
    pub(super) async fn told(
        &mut self,
        host: &HostName,
        name: &CertificateName,
        report: &v1::CertificateReport,
        now: Timestamp,
    ) -> Option<Generation> {
        let heard = recover::hear(&mut self.facts, host, name, report, now);
        match heard.news {
            Some(News::Forgotten(generation)) => {
                let text = format!(
                    "it was issued after the backup from which the issuer was restored, and {host} has it; it is \
                     issued once more, as generation {}",
                    generation.next()
                );
                self.events
                    .certificate(EventKind::Recovery, name, generation, text)
                    .await;
                self.publish_control();
                self.publish_hosts_of(name);
            }
            Some(News::TooFar(generation)) => {
                let text = format!(
                    "{host} claims this generation, too far ahead of all that is known to be believed"
                );
                self.events
                    .certificate_on_host(EventKind::HostProblem, name, host, generation, text)
                    .await;
            }
            None => {}
        }
        heard.told
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
        if over {
            let (hosts, told) = recover::count(&self.facts);
            let text = format!(
                "recovered: {told} of {} have reported; orders and offers go on",
                words::count(hosts, "host")
            );
            self.events.issuer(EventKind::Recovery, text).await;
        }
    }
}
