//! `GET /metrics` of this host, where `[metrics] listen` is set: what is known is put together when it is asked for.
//!
//! No secret is in it, and nothing of the agent depends on it: an address that can't be had is tried again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use certwell_metrics::{Page, Timings, process, serve};
use certwell_proto::v1::{self, ManagedBy, Outcome, ServedState};
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Shutdown, asked_to_stop, connection::Link, observed::Observed};
use crate::issuer::Identity;

/// Between attempts to have the address.
const AGAIN: Duration = Duration::from_secs(30);

/// The task.
pub struct MetricsTask {
    /// Where it listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// What is measured.
    pub source: Source,
    /// The end.
    pub shutdown: Shutdown,
}

/// Where numbers come from.
#[derive(Clone)]
pub struct Source {
    /// What is so.
    pub observed: watch::Receiver<Observed>,
    /// The connection.
    pub link: watch::Receiver<Link>,
    /// Who we are.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// Every certificate of this host.
    pub inventory: watch::Receiver<Option<Arc<v1::Inventory>>>,
    /// The steps of installs.
    pub steps: Timings,
}

impl MetricsTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        let Some(address) = self.listen else {
            asked_to_stop(&mut self.shutdown).await;
            return;
        };
        let source = self.source;
        let serving = async {
            let mut told = false;
            loop {
                match serve::bind(address).await {
                    Ok(listener) => {
                        tracing::info!(%address, "metrics are served");
                        let source = source.clone();
                        let render = move || std::future::ready(source.render());
                        serve::serve(listener, render).await;
                    }
                    Err(error) if !told => {
                        tracing::error!(
                            %address, %error,
                            "metrics can't be served there; correct listen in [metrics]; it is tried again"
                        );
                        told = true;
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        // Cancel-safe: a connection that is cut is the reader's to try again.
        tokio::select! {
            () = asked_to_stop(&mut self.shutdown) => {}
            () = serving => {}
        }
    }
}

impl Source {
    fn render(&self) -> String {
        let mut page = Page::default();
        page.gauge(
            "certwell_build_info",
            "Which program answers, and its version; always 1.",
        )
        .sample(
            &[
                ("program", "certwell-agent"),
                ("version", env!("CARGO_PKG_VERSION")),
            ],
            1.0,
        );
        connection(&mut page, &self.link.borrow(), &self.identity.borrow());
        certificates(&mut page, &self.observed.borrow());
        let inventory = self.inventory.borrow().clone();
        inventoried(&mut page, inventory.as_deref());
        let mut steps = page.histogram(
            "certwell_agent_step_duration_seconds",
            "How long each step of an install took, by step and by whether it passed.",
        );
        self.steps.write(&mut steps);
        process::write(&mut page);
        page.finish()
    }
}

fn connection(page: &mut Page, link: &Link, identity: &Identity) {
    page.gauge(
        "certwell_agent_connected",
        "Whether a stream to the issuer is established (1) or not (0).",
    )
    .sample(&[], flag(link.connection.is_some()));
    let last = (link.last_contact_ms > 0).then_some(link.last_contact_ms as f64 / 1000.0);
    page.gauge(
        "certwell_agent_last_contact_timestamp_seconds",
        "When something last came from the issuer, in seconds since the Unix epoch; absent before.",
    )
    .samples(last);
    page.gauge(
        "certwell_agent_identity_not_after_timestamp_seconds",
        "When this host's identity ends, in seconds since the Unix epoch.",
    )
    .sample(&[], seconds(identity.not_after));
}

fn certificates(page: &mut Page, observed: &Observed) {
    let each = || {
        let all = observed.certificates.iter();
        all.map(|(name, certificate)| (name.as_str(), certificate))
    };
    page.gauge(
        "certwell_agent_host_problem",
        "Whether something is in the way of the whole host (1) or not (0).",
    )
    .sample(&[], flag(!observed.host_problem.is_empty()));
    let mut ends = page.gauge(
        "certwell_agent_certificate_not_after_timestamp_seconds",
        "When what is active on disk of a certificate ends, in seconds since the Unix epoch.",
    );
    for (name, of) in each() {
        if let Some((_, not_after)) = of.validity {
            ends.sample(&[("certificate", name)], seconds(not_after));
        }
    }
    let mut begins = page.gauge(
        "certwell_agent_certificate_not_before_timestamp_seconds",
        "When what is active on disk of a certificate begins to be valid, in seconds since the Unix epoch.",
    );
    for (name, of) in each() {
        if let Some((not_before, _)) = of.validity {
            begins.sample(&[("certificate", name)], seconds(not_before));
        }
    }
    let mut generations = page.gauge(
        "certwell_agent_certificate_generation",
        "The generation of a certificate that is desired, active on disk, and served by every listener.",
    );
    for (name, of) in each() {
        let served = of.report.served.as_ref();
        let facts = [
            ("desired", Some(of.desired)),
            ("active", of.active),
            ("served", served.and_then(|served| served.generation)),
        ];
        for (fact, generation) in facts {
            if let Some(generation) = generation {
                let labels = [("certificate", name), ("fact", fact)];
                generations.sample(&labels, generation as f64);
            }
        }
    }
    let mut problems = page.gauge(
        "certwell_agent_certificate_problem",
        "Whether something is in the way of a certificate on this host (1) or not (0).",
    );
    for (name, of) in each() {
        let labels = [("certificate", name)];
        problems.sample(&labels, flag(!of.report.problem.is_empty()));
    }
    let mut outcomes = page.gauge(
        "certwell_agent_certificate_outcome",
        "How the last install of a certificate ended: 1 for that outcome, 0 for the others.",
    );
    for (name, of) in each() {
        for (outcome, word) in [
            (Outcome::Converged, "converged"),
            (Outcome::Rejected, "rejected"),
            (Outcome::Held, "held"),
            (Outcome::NotApplied, "not-applied"),
            (Outcome::Regressed, "regressed"),
        ] {
            let labels = [("certificate", name), ("outcome", word)];
            outcomes.sample(&labels, flag(of.report.outcome() == outcome));
        }
    }
}

fn inventoried(page: &mut Page, inventory: Option<&v1::Inventory>) {
    let rows = || inventory.into_iter().flat_map(|inventory| &inventory.rows);
    let mut counts = page.gauge(
        "certwell_agent_inventory_certificates",
        "Certificates of this host, by who sees to them and by whether nginx uses them.",
    );
    for (managed, who) in [
        (ManagedBy::Certwell, "certwell"),
        (ManagedBy::Certbot, "certbot"),
        (ManagedBy::Nobody, "nobody"),
    ] {
        for (dead, word) in [(false, "used"), (true, "dead")] {
            let is = |row: &&v1::InventoryRow| {
                row.managed() == managed && (row.served() == ServedState::Unused) == dead
            };
            let count = rows().filter(is).count();
            counts.sample(&[("managed_by", who), ("use", word)], count as f64);
        }
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
