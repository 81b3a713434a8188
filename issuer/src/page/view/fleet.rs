//! The first page: the one thing that matters, then all of it at a glance.

use certwell_proto::v1;
use jiff::Timestamp;

use super::{
    horizon::Horizon,
    mark::{Mark, Tone, of_host},
    matrix::Matrix,
};
use crate::plan::headline::{Headline, headline, of_certificate};

/// Sentences about what is in the way, at most.
const PROBLEMS: usize = 12;

/// Everything on the first page.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The fleet's name.
    pub name: String,
    /// The worst, or that all is well.
    pub headline: Headline,
    /// Of the headline.
    pub tone: Tone,
    /// What is in the way, the issuer's own first.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more_problems: usize,
    /// Certificates by hosts.
    pub matrix: Matrix,
    /// When what ends.
    pub horizon: Horizon,
    /// How many hosts are declared.
    pub hosts: usize,
    /// How many of them are connected.
    pub connected: usize,
    /// Those that somebody should look at.
    pub lost: Vec<(String, Mark, String)>,
}

/// Something in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The certificate; empty: it is the issuer's own.
    pub certificate: String,
    /// The host; empty: it isn't about one.
    pub host: String,
    /// One sentence.
    pub text: String,
}

impl Fleet {
    /// From the whole status.
    pub fn new(status: &v1::StatusResponse, hosts: &v1::ListHostsResponse, now: Timestamp) -> Self {
        let headline = headline(status, now);
        let mut problems = problems(status);
        let more_problems = problems.len().saturating_sub(PROBLEMS);
        problems.truncate(PROBLEMS);
        let tone = match (headline.converged, problems.is_empty()) {
            (true, true) => Tone::Good,
            (true, false) => Tone::Warn,
            (false, _) if is_expired(status, now) => Tone::Bad,
            (false, true) => Tone::Busy,
            (false, false) => Tone::Bad,
        };
        let lost = hosts.hosts.iter().filter_map(|host| {
            let mark = of_host(host.life(), host.connected);
            let looked_at = mark.tone >= Tone::Warn || !host.problem.is_empty();
            looked_at.then(|| (host.name.clone(), mark, host.problem.clone()))
        });
        Self {
            name: status.fleet.clone(),
            headline,
            tone,
            problems,
            more_problems,
            matrix: Matrix::new(&status.certificates, now),
            horizon: Horizon::new(&status.certificates, now),
            hosts: hosts.hosts.len(),
            connected: hosts.hosts.iter().filter(|host| host.connected).count(),
            lost: lost.collect(),
        }
    }

    /// All well isn't said over the head of an open alert that nobody has taken: the first of them is the headline then.
    pub fn with_alerts(mut self, open: &[v1::Alert]) -> Self {
        let mut waiting = open
            .iter()
            .filter(|alert| alert.resolved_ms.is_none() && alert.acknowledgement.is_none())
            .collect::<Vec<_>>();
        waiting.sort_by_key(|alert| (std::cmp::Reverse(alert.severity()), alert.id));
        let Some(first) = waiting.first() else {
            return self;
        };
        let tone = match first.severity() {
            v1::AlertSeverity::Page => Tone::Bad,
            v1::AlertSeverity::Warning | v1::AlertSeverity::Unspecified => Tone::Warn,
        };
        if self.tone < tone {
            self.tone = tone;
            let title = first.title.trim_end_matches('.');
            self.headline.text = format!("{title}; {}", self.headline.text);
        }
        self
    }
}

fn is_expired(status: &v1::StatusResponse, now: Timestamp) -> bool {
    status
        .certificates
        .iter()
        .flat_map(|certificate| &certificate.hosts)
        .filter_map(|host| host.served_not_after)
        .any(|end| end <= now.as_second())
}

fn problems(status: &v1::StatusResponse) -> Vec<Problem> {
    let own = status.problems.iter().map(|text| Problem {
        certificate: String::new(),
        host: String::new(),
        text: text.clone(),
    });
    let theirs = status.certificates.iter().flat_map(|certificate| {
        let issuance = Problem {
            certificate: certificate.name.clone(),
            host: String::new(),
            text: certificate.problem.clone(),
        };
        let hosts = certificate.hosts.iter().map(|host| Problem {
            certificate: certificate.name.clone(),
            host: host.host.clone(),
            text: without_host(&host.problem, &host.host).to_owned(),
        });
        std::iter::once(issuance).chain(hosts)
    });
    own.chain(theirs)
        .filter(|problem| !problem.text.is_empty())
        .collect()
}

/// A sentence about a host, where its name stands beside it.
pub(super) fn without_host<'a>(text: &'a str, host: &str) -> &'a str {
    text.strip_prefix(host)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(text)
}

/// The headline of one certificate, and how it is meant.
pub fn of_one(certificate: &v1::CertificateStatus, now: Timestamp) -> (Headline, Tone) {
    let headline = of_certificate(certificate, now);
    let troubled = !certificate.problem.is_empty()
        || certificate
            .hosts
            .iter()
            .any(|host| !host.problem.is_empty());
    let tone = match (headline.converged, troubled) {
        (true, false) => Tone::Good,
        (true, true) => Tone::Warn,
        (false, false) => Tone::Busy,
        (false, true) => Tone::Bad,
    };
    (headline, tone)
}

#[cfg(test)]
mod tests {
    use v1::HostState;

    use super::{
        super::cell::tests::{NOW, host, now},
        *,
    };

    fn fleet(change: impl FnOnce(&mut v1::StatusResponse)) -> Fleet {
        let mut status = v1::StatusResponse {
            fleet: "hachyderm".into(),
            certificates: vec![v1::CertificateStatus {
                name: "media".into(),
                generation: 7,
                not_after: Some(NOW + 86_400),
                hosts: vec![
                    host("esme", HostState::Converged, 6, Some(7)),
                    host("sally", HostState::Converged, 6, Some(7)),
                ],
                ..v1::CertificateStatus::default()
            }],
            ..v1::StatusResponse::default()
        };
        change(&mut status);
        let hosts = v1::ListHostsResponse {
            hosts: ["esme", "sally"]
                .map(|name| v1::HostStatus {
                    name: name.into(),
                    life: v1::HostLife::Enrolled.into(),
                    connected: name == "esme",
                    ..v1::HostStatus::default()
                })
                .to_vec(),
        };
        Fleet::new(&status, &hosts, now())
    }

    #[test]
    fn the_headlines_tone_is_that_of_the_worst() {
        let sally = |status: &mut v1::StatusResponse, state: HostState, problem: &str| {
            status.certificates[0].hosts[1].state = state.into();
            status.certificates[0].hosts[1].problem = problem.into();
        };
        assert_eq!(fleet(|_| ()).tone, Tone::Good);
        assert_eq!(
            fleet(|status| sally(status, HostState::Pending, "")).tone,
            Tone::Busy
        );
        assert_eq!(
            fleet(|status| sally(status, HostState::Failed, "nginx refuses")).tone,
            Tone::Bad
        );
        assert_eq!(
            fleet(|status| status.problems = vec!["paused".into()]).tone,
            Tone::Warn
        );
        let over = fleet(|status| status.certificates[0].hosts[0].served_not_after = Some(NOW));
        assert_eq!(over.tone, Tone::Bad);
    }

    #[test]
    fn all_well_is_not_said_while_an_alert_waits_for_somebody() {
        let open = |severity: v1::AlertSeverity, acknowledged: bool| v1::Alert {
            severity: severity.into(),
            title: "sally is silent".into(),
            acknowledgement: acknowledged.then(v1::Acknowledgement::default),
            ..v1::Alert::default()
        };
        use v1::AlertSeverity::{Page, Warning};
        let well = fleet(|_| ());
        let text = well.headline.text.clone();
        for (alerts, tone, says) in [
            (vec![], Tone::Good, false),
            (vec![open(Page, true)], Tone::Good, false),
            (vec![open(Warning, false)], Tone::Warn, true),
            (
                vec![open(Warning, false), open(Page, false)],
                Tone::Bad,
                true,
            ),
        ] {
            let shown = well.clone().with_alerts(&alerts);
            assert_eq!(shown.tone, tone, "{alerts:?}");
            let started = shown.headline.text.starts_with("sally is silent; all ");
            assert_eq!(started, says, "{} for {text}", shown.headline.text);
        }
        // What is worse by itself stays what it says.
        let failed = fleet(|status| {
            status.certificates[0].hosts[1].state = HostState::Failed.into();
            status.certificates[0].hosts[1].problem = "sally: nginx refuses".into();
        });
        assert_eq!(failed.problems[0].text, "nginx refuses");
        let shown = failed.clone().with_alerts(&[open(Page, false)]);
        assert_eq!(shown.headline, failed.headline);
    }

    #[test]
    fn what_is_in_the_way_is_named_with_where_and_no_more_than_one_reads() {
        let shown = fleet(|status| {
            status.problems = vec!["the whole fleet is paused".into()];
            status.certificates[0].problem = "the CA is away".into();
            status.certificates[0].hosts = (0..20)
                .map(|n| {
                    let mut host = host(&format!("h{n:02}"), HostState::Failed, 5, Some(6));
                    host.problem = format!("nginx of h{n:02} refuses");
                    host
                })
                .collect();
        });
        assert_eq!((shown.problems.len(), shown.more_problems), (12, 10));
        assert_eq!(shown.problems[0].text, "the whole fleet is paused");
        let of = |at: usize| {
            (
                shown.problems[at].certificate.as_str(),
                shown.problems[at].host.as_str(),
            )
        };
        assert_eq!((of(1), of(2)), (("media", ""), ("media", "h00")));
    }

    #[test]
    fn hosts_that_are_away_are_named() {
        let shown = fleet(|_| ());
        assert_eq!((shown.hosts, shown.connected), (2, 1));
        let names: Vec<(&str, &str)> = shown
            .lost
            .iter()
            .map(|(name, mark, _)| (name.as_str(), mark.word))
            .collect();
        assert_eq!(names, [("sally", "not connected")]);
    }
}
