//! What is so on this host: made by the installer, told by the reporter, kept in the state file.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use certwell_proto::{CertificateName, v1};
use jiff::Timestamp;
use prost::Message as _;

use super::probe::Round;
use crate::clock;

/// What a message to the issuer may hold, with room for what surrounds it.
const MESSAGE_ROOM: usize = certwell_proto::limits::MESSAGE - 64 * 1024;

/// Everything that the installer knows and others may.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// By name.
    pub certificates: BTreeMap<CertificateName, Certificate>,
    /// In the way of the whole host; empty when nothing is.
    pub host_problem: String,
    /// When nginx was started, which had failed right after the last activation.
    pub nginx_started_ms: Option<i64>,
    /// About this machine.
    pub info: v1::HostInfo,
}

/// One certificate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Certificate {
    /// What the issuer is told.
    pub report: v1::CertificateReport,
    /// What the issuer wants.
    pub desired: u64,
    /// What `live/NAME` points at; `None` when it isn't ours.
    pub active: Option<u64>,
    /// Of the leaf that is active.
    pub validity: Option<(Timestamp, Timestamp)>,
}

impl Observed {
    /// The least life left of what is active here: zero when any certificate is absent or expired, `None` when
    /// nothing is assigned.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.certificates
            .values()
            .map(|certificate| {
                certificate
                    .validity
                    .map_or(Duration::ZERO, |(_, not_after)| {
                        clock::until(now, not_after)
                    })
            })
            .min()
    }

    /// The report of all certificates, but for what doesn't fit into one message.
    pub fn to_report(&self) -> v1::Report {
        let all = self
            .certificates
            .values()
            .map(|certificate| certificate.report.clone());
        let mut report = self.frame();
        let mut room = MESSAGE_ROOM;
        for certificate in all {
            let size = certificate.encoded_len() + 8;
            if size > room {
                break;
            }
            room -= size;
            report.certificates.push(certificate);
        }
        report
    }

    /// The report of an inventory that the issuer hasn't been told.
    pub fn inventoried(
        &self,
        inventory: Option<&v1::Inventory>,
        told: &Told,
    ) -> Option<v1::Report> {
        let inventory = inventory.filter(|inventory| told.inventory != Some(stamp(inventory)))?;
        Some(v1::Report {
            inventory: Some(inventory.clone()),
            ..self.frame()
        })
    }

    /// The reports of a round that the issuer hasn't been told: each look whole in one of them, since what is told of a
    /// look takes the place of all that was told of it before.
    pub fn seen(&self, round: Option<&Round>, told: &Told) -> Vec<v1::Report> {
        let Some(round) = round.filter(|round| told.round != Some(round.number)) else {
            return Vec::new();
        };
        let look = |sighting: &v1::Sighting| {
            (
                sighting.certificate.clone(),
                sighting.name.clone(),
                sighting.host.clone(),
            )
        };
        let mut reports = Vec::new();
        let mut sightings = Vec::new();
        let mut size = 0;
        for look in round
            .sightings
            .chunk_by(|one, other| look(one) == look(other))
        {
            let added: usize = look.iter().map(|sighting| sighting.encoded_len() + 8).sum();
            if size + added > MESSAGE_ROOM / 2 && !sightings.is_empty() {
                reports.push(std::mem::take(&mut sightings));
                size = 0;
            }
            size += added;
            sightings.extend_from_slice(look);
        }
        reports.push(sightings);
        reports
            .into_iter()
            .map(|sightings| v1::Report {
                sightings: Some(v1::Sightings { sightings }),
                ..self.frame()
            })
            .collect()
    }

    /// A report without certificates.
    fn frame(&self) -> v1::Report {
        v1::Report {
            certificates: Vec::new(),
            preflights: Vec::new(),
            host_problem: self.host_problem.clone(),
            host_info: Some(self.info.clone()),
            ..v1::Report::default()
        }
    }

    /// Reports of what differs from what the issuer has been told; none when nothing does.
    pub fn news(
        &self,
        preflights: &BTreeMap<String, v1::PreflightResult>,
        told: &Told,
    ) -> Vec<v1::Report> {
        let mut reports = Vec::new();
        let mut report = self.frame();
        let mut size = report.encoded_len();
        let mut dirty =
            told.host_problem != self.host_problem || told.info.as_ref() != Some(&self.info);
        for (name, certificate) in &self.certificates {
            if told.certificates.get(name) == Some(&certificate.report) {
                continue;
            }
            let added = certificate.report.encoded_len() + 8;
            if size + added > MESSAGE_ROOM && !report.certificates.is_empty() {
                reports.push(std::mem::replace(&mut report, self.frame()));
                size = report.encoded_len();
            }
            size += added;
            report.certificates.push(certificate.report.clone());
            dirty = true;
        }
        for (id, result) in preflights {
            if told.preflights.get(id) != Some(result) {
                report.preflights.push(result.clone());
                dirty = true;
            }
        }
        if dirty {
            reports.push(report);
        }
        reports
    }
}

/// What it has of the inventory: enough to tell whether it is the same.
fn stamp(inventory: &v1::Inventory) -> u64 {
    let mut hasher = DefaultHasher::new();
    inventory.encode_to_vec().hash(&mut hasher);
    hasher.finish()
}

/// What the issuer has been told over the present connection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    certificates: BTreeMap<CertificateName, v1::CertificateReport>,
    preflights: BTreeMap<String, v1::PreflightResult>,
    host_problem: String,
    info: Option<v1::HostInfo>,
    /// Of the inventory.
    inventory: Option<u64>,
    /// The last round of looks from outside.
    pub(super) round: Option<u64>,
}

impl Told {
    /// Takes note of a report that arrived.
    pub fn add(&mut self, report: &v1::Report) {
        for certificate in &report.certificates {
            if let Ok(name) = certificate.name.parse() {
                self.certificates.insert(name, certificate.clone());
            }
        }
        for result in &report.preflights {
            self.preflights.insert(result.id.clone(), result.clone());
        }
        if let Some(inventory) = &report.inventory {
            self.inventory = Some(stamp(inventory));
        }
        self.host_problem.clone_from(&report.host_problem);
        self.info.clone_from(&report.host_info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(count: usize, chain: usize) -> Observed {
        let certificates = (0..count)
            .map(|n| {
                let name: CertificateName = format!("c{n}.example").parse().unwrap();
                let report = v1::CertificateReport {
                    name: name.to_string(),
                    active_fullchain: vec![vec![7; chain]],
                    ..Default::default()
                };
                (
                    name,
                    Certificate {
                        report,
                        ..Default::default()
                    },
                )
            })
            .collect();
        Observed {
            certificates,
            ..Default::default()
        }
    }

    #[test]
    fn only_news_is_told_and_all_of_it() {
        let mut now = observed(3, 10);
        let mut told = Told::default();
        let none = BTreeMap::new();
        let first = now.news(&none, &told);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].certificates.len(), 3);
        told.add(&first[0]);
        assert_eq!(now.news(&none, &told), Vec::new());
        let name = "c1.example".parse().unwrap();
        now.certificates.get_mut(&name).unwrap().report.problem = "new".into();
        assert_eq!(now.news(&none, &told)[0].certificates.len(), 1);
        let result = v1::PreflightResult {
            id: "p".into(),
            ..Default::default()
        };
        assert_eq!(
            now.news(&BTreeMap::from([("p".into(), result)]), &told)[0]
                .preflights
                .len(),
            1
        );
    }

    #[test]
    fn an_inventory_is_told_once_until_it_changes_and_takes_no_problem_back() {
        let mut now = observed(1, 10);
        now.host_problem = "a problem".into();
        let mut told = Told::default();
        assert_eq!(now.inventoried(None, &told), None);
        let mut inventory = v1::Inventory {
            at_ms: 5,
            ..Default::default()
        };
        let report = now.inventoried(Some(&inventory), &told).unwrap();
        assert_eq!(report.host_problem, "a problem");
        assert!(report.certificates.is_empty());
        told.add(&report);
        assert_eq!(now.inventoried(Some(&inventory), &told), None);
        told.add(&v1::Report::default());
        assert_eq!(now.inventoried(Some(&inventory), &told), None);
        inventory.left_out = 1;
        assert!(now.inventoried(Some(&inventory), &told).is_some());
        assert!(
            now.inventoried(Some(&inventory), &Told::default())
                .is_some()
        );
    }

    #[test]
    fn a_round_is_told_once_with_each_look_whole_in_messages_under_the_limit() {
        let sightings = (0..4_000).map(|n| v1::Sighting {
            certificate: format!("c{}.example", n / 8),
            name: "a.example".into(),
            covers: vec!["a.very.long.name.example".into(); 100],
            ..Default::default()
        });
        let round = Round {
            number: 3,
            at: Timestamp::UNIX_EPOCH,
            sightings: std::sync::Arc::new(sightings.collect()),
        };
        let now = observed(1, 10);
        let mut told = Told::default();
        let reports = now.seen(Some(&round), &told);
        let told_of = |report: &v1::Report| report.sightings.clone().unwrap().sightings;
        assert!(reports.len() > 5);
        for report in &reports {
            assert!(report.encoded_len() < certwell_proto::limits::MESSAGE);
            assert_eq!(told_of(report).len() % 8, 0);
        }
        let all: Vec<_> = reports.iter().flat_map(told_of).collect();
        assert_eq!(all, *round.sightings);
        told.round = Some(3);
        assert_eq!(now.seen(Some(&round), &told), Vec::new());
        assert_eq!(now.seen(None, &Told::default()), Vec::new());
    }

    #[test]
    fn two_thousand_certificates_go_in_messages_under_the_limit() {
        let now = observed(2_000, 4_000);
        let reports = now.news(&BTreeMap::new(), &Told::default());
        assert!(
            reports
                .iter()
                .all(|report| report.encoded_len() < certwell_proto::limits::MESSAGE)
        );
        assert_eq!(
            reports
                .iter()
                .map(|report| report.certificates.len())
                .sum::<usize>(),
            2_000
        );
        let first = now.to_report();
        assert!(
            !first.certificates.is_empty() && first.encoded_len() < certwell_proto::limits::MESSAGE
        );
    }
}
