//! The task that owns what is known of the fleet, and its handle.
//!
//! ```text
//!  issuance ──stage, issued, preflight──▶ ┌──────────┐ ──Control (watch)──▶ issuance
//!  service  ──watch, report, left───────▶ │ registry │ ──DesiredState (watch, one a host)──▶ service
//!  admin    ──pause, renew, revoke──────▶ │  (task)  │ ──Gate (watch)──▶ peer checks
//!  config   ──reloaded──────────────────▶ └──────────┘ ──observations──▶ scribe
//! ```

mod intruders;
mod publish;
mod recovery;
mod report;
mod seen;
mod streams;
mod task;

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{CertificateName, Generation, HostName, v1};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::streams::{Offer, Opened, Ticket};
use self::task::Task;
use super::{control::Control, events::Events, measured::Measured, peer::Gate, scribe::Scribe};
use crate::{
    config::Current,
    plan::{
        facts::{FleetFacts, HostFacts, OrderFacts},
        health::IssuerFacts,
        offer::PreflightQuestion,
        preflight::Verdict,
        seen::wire::Told,
    },
    store::{HostRecord, Issued},
};

/// Verdicts of a running preflight, by host.
pub type Verdicts = BTreeMap<HostName, Verdict>;

enum Request {
    Order(CertificateName, OrderFacts),
    Issued(Box<Issued>),
    Account(CertificateName, String, String),
    Preflight(
        CertificateName,
        PreflightQuestion,
        oneshot::Sender<watch::Receiver<Verdicts>>,
    ),
    PreflightOver(CertificateName),
    Config(Current),
    Pause(Option<CertificateName>, bool),
    Renew(CertificateName, oneshot::Sender<Option<Generation>>),
    Host(Box<HostRecord>, oneshot::Sender<()>),
    Revoke(HostName, bool, oneshot::Sender<Option<HostRecord>>),
    Watch(HostName, Box<v1::WatchRequest>, oneshot::Sender<Opened>),
    Left(Ticket),
    Stop(oneshot::Sender<()>),
    Finish,
    Report(HostName, Box<v1::Report>, oneshot::Sender<()>),
    Sightings(Vec<Told>),
    Facts(oneshot::Sender<Arc<FleetFacts>>),
    Hosts(
        Vec<HostName>,
        oneshot::Sender<BTreeMap<HostName, HostFacts>>,
    ),
    Health(IssuerFacts),
    Intruder(HostName, String),
    Offered(
        HostName,
        CertificateName,
        oneshot::Sender<Option<Generation>>,
    ),
}

/// Requests that may wait.
const BACKLOG: usize = 1024;

/// Handle of the registry task.
#[derive(Clone)]
pub struct Registry {
    requests: mpsc::Sender<Request>,
    stirred: watch::Receiver<u64>,
    measured: Measured,
}

/// What the registry starts with.
pub struct Start {
    /// From configuration and store.
    pub facts: FleetFacts,
    /// Where events go.
    pub events: Events,
    /// Where observations go.
    pub scribe: Scribe,
    /// For peer checks.
    pub gate: watch::Sender<Arc<Gate>>,
}

impl Registry {
    /// Starts the task; it ends when told to, or with the last handle.
    pub fn start(start: Start) -> (Self, watch::Receiver<Arc<Control>>) {
        let (sender, requests) = mpsc::channel(BACKLOG);
        let measured = Measured::default();
        let (task, control) = Task::new(start, measured.clone());
        let stirred = task.stirred.subscribe();
        tokio::spawn(task.run(requests));
        let handle = Self {
            requests: sender,
            stirred,
            measured,
        };
        (handle, control)
    }

    /// What it measured of orders since it started.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Where a certificate's issuance stands.
    pub async fn order(&self, certificate: &CertificateName, facts: OrderFacts) {
        self.send(Request::Order(certificate.clone(), facts)).await;
    }

    /// A bundle is stored: offer it.
    pub async fn issued(&self, issued: Issued) {
        self.send(Request::Issued(Box::new(issued))).await;
    }

    /// A certificate's orders go to this authority from now on, whose account has this thumbprint: both go into the
    /// hosts' challenge maps.
    pub async fn account(&self, certificate: &CertificateName, authority: &str, thumbprint: &str) {
        self.send(Request::Account(
            certificate.clone(),
            authority.to_owned(),
            thumbprint.to_owned(),
        ))
        .await;
    }

    /// Puts a question to the challenge hosts of a certificate; verdicts come in until it is over. `None` when
    /// the issuer is stopping.
    pub async fn preflight(
        &self,
        certificate: &CertificateName,
        question: PreflightQuestion,
    ) -> Option<watch::Receiver<Verdicts>> {
        self.ask(|reply| Request::Preflight(certificate.clone(), question, reply))
            .await
    }

    /// Takes the question back.
    pub async fn preflight_over(&self, certificate: &CertificateName) {
        self.send(Request::PreflightOver(certificate.clone())).await;
    }

    /// The configuration was read anew, or refused.
    pub async fn config(&self, current: Current) {
        self.send(Request::Config(current)).await;
    }

    /// Stops or starts orders and offers; `None`: of every certificate. The store knows already.
    pub async fn pause(&self, certificate: Option<CertificateName>, paused: bool) {
        self.send(Request::Pause(certificate, paused)).await;
    }

    /// Asks for a renewal now; answers with the generation that it will make once its issuance is under way, `None` for
    /// an unknown certificate. It is asked for whether or not the answer is waited for.
    pub async fn renew(&self, certificate: &CertificateName) -> Option<Generation> {
        self.ask(|reply| Request::Renew(certificate.clone(), reply))
            .await
            .flatten()
    }

    /// A host enrolled or renewed its identity. The store knows already. Returns when every later call is checked by
    /// it: an answer to an enrollment may be followed by a call at once.
    pub async fn host(&self, record: HostRecord) {
        let _ = self
            .ask(|reply| Request::Host(Box::new(record), reply))
            .await;
    }

    /// Cuts a host off, for good when it retires: its streams end, and every later call with an identity made so far
    /// is refused. The record that says so is still to be stored. `None` when it never enrolled.
    pub async fn revoke(&self, host: &HostName, retire: bool) -> Option<HostRecord> {
        self.ask(|reply| Request::Revoke(host.clone(), retire, reply))
            .await
            .flatten()
    }

    /// Opens a host's stream. `None` when the issuer is stopping.
    pub async fn watch(&self, host: &HostName, request: v1::WatchRequest) -> Option<Opened> {
        self.ask(|reply| Request::Watch(host.clone(), Box::new(request), reply))
            .await
    }

    /// A host's stream ended.
    pub async fn left(&self, ticket: Ticket) {
        self.send(Request::Left(ticket)).await;
    }

    /// Ends every stream, and opens no more: the issuer is stopping, and hosts that leave now are no news.
    pub async fn stop(&self) {
        let _ = self.ask(Request::Stop).await;
    }

    /// Ends the task, and returns when all that it was told before has been handed on. What it is asked from then on
    /// is answered as by an issuer that is stopping.
    pub async fn finish(&self) {
        self.send(Request::Finish).await;
        self.requests.closed().await;
    }

    /// Returns when the task has ended, in whatever way.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// What a host reports; returns when it is known. `None` when the issuer is stopping: then it isn't.
    pub async fn report(&self, host: &HostName, report: v1::Report) -> Option<()> {
        self.ask(|reply| Request::Report(host.clone(), Box::new(report), reply))
            .await
    }

    /// What the issuer itself has seen from outside in one whole round.
    pub async fn sightings(&self, told: Vec<Told>) {
        self.send(Request::Sightings(told)).await;
    }

    /// Changes whenever there is something else to look at from outside, or to be seen there.
    pub fn stirred(&self) -> watch::Receiver<u64> {
        self.stirred.clone()
    }

    /// A copy of all that is known. `None` when the issuer is stopping.
    pub async fn facts(&self) -> Option<Arc<FleetFacts>> {
        self.ask(Request::Facts).await
    }

    /// What is known of these hosts; nothing when the issuer is stopping.
    pub async fn hosts(&self, hosts: &[HostName]) -> BTreeMap<HostName, HostFacts> {
        self.ask(|reply| Request::Hosts(hosts.to_vec(), reply))
            .await
            .unwrap_or_default()
    }

    /// The generation that a host may draw now; `None` also for what isn't assigned to it.
    pub async fn offered(
        &self,
        host: &HostName,
        certificate: &CertificateName,
    ) -> Option<Generation> {
        self.ask(|reply| Request::Offered(host.clone(), certificate.clone(), reply))
            .await
            .flatten()
    }

    /// How the issuer itself is.
    pub async fn health(&self, issuer: IssuerFacts) {
        self.send(Request::Health(issuer)).await;
    }

    /// Somebody came with an identity of this host that isn't good any more, and was refused for this reason. Whoever
    /// refuses doesn't wait; what is too much to be counted isn't.
    pub fn intruder(&self, host: &HostName, why: String) {
        let _ = self.requests.try_send(Request::Intruder(host.clone(), why));
    }

    async fn send(&self, request: Request) {
        // An error means that the issuer is stopping: there is nobody left to tell.
        let _ = self.requests.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await;
        answer.await.ok()
    }
}
