//! What others see of what is known: each host's desired state, issuance tasks' control, the gate of peer checks.

use std::sync::Arc;

use certwell_proto::{CertificateName, HostName, v1};

use super::task::{Task, control_of};
use crate::{fleet::peer::Gate, plan::offer::desired_state};

impl Task {
    pub(super) fn desired(&self, host: &HostName) -> v1::DesiredState {
        let questions = self
            .preflights
            .iter()
            .map(|(n, p)| (n.clone(), p.question.clone()))
            .collect();
        desired_state(&self.facts, host, &questions)
    }

    pub(super) fn publish(&mut self, hosts: impl IntoIterator<Item = HostName>) {
        for host in hosts {
            if self.streams.is_open(&host) {
                let desired = self.desired(&host);
                self.streams.publish(&host, desired);
            }
        }
    }

    pub(super) fn publish_all(&mut self) {
        self.publish(self.streams.hosts());
    }

    pub(super) fn publish_hosts_of(&mut self, name: &CertificateName) {
        let hosts = self
            .facts
            .config
            .certificates
            .get(name)
            .map(|c| c.hosts.clone())
            .unwrap_or_default();
        self.publish(hosts);
    }

    pub(super) fn publish_challenge_hosts(&mut self, name: &CertificateName) {
        let hosts = self
            .facts
            .config
            .certificates
            .get(name)
            .map(|c| c.challenge_hosts.clone())
            .unwrap_or_default();
        self.publish(hosts);
    }

    pub(super) fn publish_control(&self) {
        let control = control_of(&self.facts, self.forced.clone());
        self.control.send_if_modified(|old| {
            let changed = **old != control;
            if changed {
                *old = Arc::new(control);
            }
            changed
        });
    }

    pub(super) fn publish_gate(&self) {
        self.gate.send_replace(Arc::new(Gate::of(&self.facts)));
    }
}
