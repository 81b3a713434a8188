//! Hosts: the list of them, and one with what it serves.

use certwell_proto::v1;
use jiff::Timestamp;

use super::{
    certificate::OnHost,
    mark::{Mark, Tone, of_host},
    moment::Moment,
};

/// A host in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// How it stands with the issuer.
    pub mark: Mark,
    /// When it last spoke.
    pub last_seen: Option<Moment>,
    /// Its labels.
    pub labels: Vec<String>,
    /// How many certificates it needs.
    pub certificates: usize,
    /// How many of them aren't well there.
    pub troubled: usize,
    /// What is in the way on the whole host; empty when nothing is.
    pub problem: String,
}

/// All hosts; those that somebody should look at first.
pub fn rows(
    hosts: &v1::ListHostsResponse,
    status: &v1::StatusResponse,
    now: Timestamp,
) -> Vec<Row> {
    let mut rows: Vec<Row> = hosts
        .hosts
        .iter()
        .map(|host| row(host, status, now))
        .collect();
    // Stable: of equal weight by name.
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    rows
}

fn weight(row: &Row) -> Tone {
    let troubled = row.troubled > 0 || !row.problem.is_empty();
    row.mark
        .tone
        .max(if troubled { Tone::Warn } else { Tone::Good })
}

fn row(host: &v1::HostStatus, status: &v1::StatusResponse, now: Timestamp) -> Row {
    let there = on_host(&host.name, status, now);
    Row {
        name: host.name.clone(),
        mark: of_host(host.life(), host.connected),
        last_seen: host.last_seen_ms.map(|at| Moment::of_millis(at, now)),
        labels: host.labels.clone(),
        certificates: host.certificates.len(),
        troubled: there.iter().filter(|one| !one.cell.is_well()).count(),
        problem: host.problem.clone(),
    }
}

/// Its certificates; those that aren't well first.
fn on_host(name: &str, status: &v1::StatusResponse, now: Timestamp) -> Vec<OnHost> {
    let mut there: Vec<OnHost> = status
        .certificates
        .iter()
        .flat_map(|certificate| {
            let here = certificate.hosts.iter().filter(|host| host.host == name);
            here.map(|host| OnHost::new(&certificate.name, host, now))
        })
        .collect();
    there.sort_by_key(|one| std::cmp::Reverse(one.cell.mark.tone));
    there
}

/// One host, but for its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// As in the list.
    pub row: Row,
    /// When its identity ends.
    pub identity_ends: Option<Moment>,
    /// Machine, agent, nginx: what it says of itself.
    pub info: Vec<(&'static str, String)>,
    /// Each certificate that it needs.
    pub certificates: Vec<OnHost>,
}

impl Host {
    /// From its status and that of all certificates.
    pub fn new(host: &v1::HostStatus, status: &v1::StatusResponse, now: Timestamp) -> Self {
        let info = host.info.clone().unwrap_or_default();
        let said = [
            ("Hostname", info.hostname),
            ("System", info.os),
            ("Agent", info.agent_version),
            ("nginx", info.nginx_version),
        ];
        Self {
            row: row(host, status, now),
            identity_ends: host
                .identity_not_after
                .map(|end| Moment::of_seconds(end, now)),
            info: said
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            certificates: on_host(&host.name, status, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use v1::{HostLife, HostState};

    use super::{
        super::cell::tests::{host as on, now},
        *,
    };

    fn host(name: &str, connected: bool) -> v1::HostStatus {
        v1::HostStatus {
            name: name.into(),
            life: HostLife::Enrolled.into(),
            connected,
            certificates: vec!["media".into()],
            info: Some(v1::HostInfo {
                os: "Debian 12".into(),
                ..v1::HostInfo::default()
            }),
            ..v1::HostStatus::default()
        }
    }

    #[test]
    fn hosts_in_trouble_come_first_whatever_their_trouble_is() {
        let status = v1::StatusResponse {
            certificates: vec![v1::CertificateStatus {
                name: "media".into(),
                hosts: vec![
                    on("esme", HostState::Converged, 6, Some(7)),
                    on("fritz", HostState::Failed, 5, Some(6)),
                    on("sally", HostState::Converged, 6, Some(7)),
                ],
                ..v1::CertificateStatus::default()
            }],
            ..v1::StatusResponse::default()
        };
        let hosts = v1::ListHostsResponse {
            hosts: vec![
                host("esme", true),
                host("fritz", true),
                host("sally", false),
            ],
        };
        let rows = rows(&hosts, &status, now());
        let shown: Vec<(&str, usize)> = rows
            .iter()
            .map(|row| (row.name.as_str(), row.troubled))
            .collect();
        assert_eq!(shown, [("sally", 0), ("fritz", 1), ("esme", 0)]);
        let fritz = Host::new(&hosts.hosts[1], &status, now());
        assert_eq!(fritz.certificates.len(), 1);
        assert_eq!(fritz.info, [("System", "Debian 12".to_owned())]);
    }
}
