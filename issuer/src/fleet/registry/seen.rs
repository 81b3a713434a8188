//! What probes see, and when there is something new to look at.

use certwell_proto::HostName;

use super::task::Task;
use crate::{
    clock,
    plan::seen::{merge::merge, wire::Told},
};

impl Task {
    /// What a probe has seen: the issuer's own, or a host's that is one. What is about nothing that is declared isn't
    /// kept.
    pub(super) fn sightings(&mut self, probe: Option<&HostName>, mut told: Vec<Told>, whole: bool) {
        let is_probe = |host: &HostName| {
            let declared = self.facts.config.hosts.get(host);
            declared.is_some_and(|declared| declared.probe)
        };
        if !probe.is_none_or(is_probe) {
            return;
        }
        let config = &self.facts.config;
        told.retain(|told| config.certificates.contains_key(&told.spot.certificate));
        merge(&mut self.facts, probe, told, whole, clock::now());
    }

    /// There is something else to look at, or something else to be seen.
    pub(super) fn stir(&mut self) {
        self.stirred
            .send_modify(|times| *times = times.wrapping_add(1));
        let probes: Vec<HostName> = self
            .facts
            .config
            .hosts
            .iter()
            .filter(|(_, declared)| declared.probe)
            .map(|(host, _)| host.clone())
            .collect();
        self.publish(probes);
    }

    /// Forgets what hosts saw that are no probes any more.
    pub(super) fn forget_probes(&mut self) {
        let config = &self.facts.config;
        self.facts.sightings.probes.retain(|probe, _| {
            probe
                .as_ref()
                .is_none_or(|host| config.hosts.get(host).is_some_and(|host| host.probe))
        });
    }
}
