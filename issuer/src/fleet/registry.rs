//! The task that owns what is known of the fleet, and its handle.
//!
//! ```text
//!  issuance ──stage, issued, preflight──▶ ┌──────────┐ ──Control (watch)──▶ issuance
//!  service  ──watch, report, left───────▶ │ registry │ ──DesiredState (watch, one a host)──▶ service
//!  admin    ──pause, renew, revoke──────▶ │  (task)  │ ──Gate (watch)──▶ peer checks
//!  config   ──reloaded──────────────────▶ └──────────┘ ──observations──▶ scribe
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use certwell_proto::{
    CertificateName, Generation, HostName,
    v1::{self, EventKind},
};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    control::{Control, Forced},
    events::Events,
    peer::Gate,
    scribe::Scribe,
};
use crate::{
    clock,
    config::Current,
    plan::{
        facts::{CertificateFacts, FleetFacts, HostFacts, OrderFacts},
        observe::{Noticed, merge},
        offer::{PreflightQuestion, desired_state, offered},
        preflight::Verdict,
    },
    store::{HostRecord, Issued, Observation},
};

/// Verdicts of a running preflight, by host.
pub type Verdicts = BTreeMap<HostName, Verdict>;
/// What a host's stream carries; `None` cuts it.
pub type Offer = Option<Arc<v1::DesiredState>>;

enum Request {
    Order(CertificateName, OrderFacts),
    Issued(Box<Issued>),
    Thumbprint(String, String),
    Preflight(
        CertificateName,
        PreflightQuestion,
        oneshot::Sender<watch::Receiver<Verdicts>>,
    ),
    PreflightOver(CertificateName),
    Config(Current),
    Pause(Option<CertificateName>, bool),
    Renew(CertificateName, oneshot::Sender<Option<Generation>>),
    Host(Box<HostRecord>),
    Retired(HostName),
    Watch(
        HostName,
        Box<v1::WatchRequest>,
        oneshot::Sender<watch::Receiver<Offer>>,
    ),
    Left(HostName),
    Report(HostName, Box<v1::Report>, oneshot::Sender<()>),
    Facts(oneshot::Sender<Arc<FleetFacts>>),
    Offered(
        HostName,
        CertificateName,
        oneshot::Sender<Option<Generation>>,
    ),
}

/// Handle of the registry task.
#[derive(Clone)]
pub struct Registry(mpsc::Sender<Request>);

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
    /// Starts the task; it ends with the last handle.
    pub fn start(start: Start) -> (Self, watch::Receiver<Arc<Control>>) {
        let (sender, requests) = mpsc::channel(1024);
        let control = watch::Sender::new(Arc::new(Control {
            config: start.facts.config.clone(),
            all_paused: start.facts.paused,
            paused: paused(&start.facts),
            forced: BTreeMap::new(),
        }));
        let receiver = control.subscribe();
        let task = Task {
            facts: start.facts,
            events: start.events,
            scribe: start.scribe,
            gate: start.gate,
            control,
            forced: BTreeMap::new(),
            preflights: BTreeMap::new(),
            streams: BTreeMap::new(),
        };
        tokio::spawn(task.run(requests));
        (Self(sender), receiver)
    }

    /// Where a certificate's issuance stands.
    pub async fn order(&self, certificate: &CertificateName, facts: OrderFacts) {
        self.send(Request::Order(certificate.clone(), facts)).await;
    }

    /// A bundle is stored: offer it.
    pub async fn issued(&self, issued: Issued) {
        self.send(Request::Issued(Box::new(issued))).await;
    }

    /// The account at an authority is ready: its thumbprint goes into the hosts' challenge maps.
    pub async fn thumbprint(&self, authority: &str, thumbprint: &str) {
        self.send(Request::Thumbprint(
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

    /// Asks for a renewal now; answers with the generation that it will make, `None` for an unknown certificate.
    pub async fn renew(&self, certificate: &CertificateName) -> Option<Generation> {
        self.ask(|reply| Request::Renew(certificate.clone(), reply))
            .await
            .flatten()
    }

    /// A host enrolled, renewed its identity, or was revoked. The store knows already.
    pub async fn host(&self, record: HostRecord) {
        self.send(Request::Host(Box::new(record))).await;
    }

    /// A host was retired: its facts are forgotten. The store knows already.
    pub async fn retired(&self, host: &HostName) {
        self.send(Request::Retired(host.clone())).await;
    }

    /// Opens a host's stream.
    pub async fn watch(
        &self,
        host: &HostName,
        request: v1::WatchRequest,
    ) -> Option<watch::Receiver<Offer>> {
        self.ask(|reply| Request::Watch(host.clone(), Box::new(request), reply))
            .await
    }

    /// A host's stream ended.
    pub async fn left(&self, host: HostName) {
        self.send(Request::Left(host)).await;
    }

    /// Like [`Self::left`], for destructors: gives up when the task is overloaded.
    pub fn left_now(&self, host: HostName) {
        let _ = self.0.try_send(Request::Left(host));
    }

    /// What a host reports; returns when it is known.
    pub async fn report(&self, host: &HostName, report: v1::Report) {
        let _ = self
            .ask(|reply| Request::Report(host.clone(), Box::new(report), reply))
            .await;
    }

    /// A copy of all that is known. `None` when the issuer is stopping.
    pub async fn facts(&self) -> Option<Arc<FleetFacts>> {
        self.ask(Request::Facts).await
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

    async fn send(&self, request: Request) {
        // An error means that the issuer is stopping: there is nobody left to tell.
        let _ = self.0.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await;
        answer.await.ok()
    }
}

struct Preflight {
    question: PreflightQuestion,
    verdicts: watch::Sender<Verdicts>,
}

struct Stream {
    offer: watch::Sender<Offer>,
    open: usize,
}

struct Task {
    facts: FleetFacts,
    events: Events,
    scribe: Scribe,
    gate: watch::Sender<Arc<Gate>>,
    control: watch::Sender<Arc<Control>>,
    forced: BTreeMap<CertificateName, Forced>,
    preflights: BTreeMap<CertificateName, Preflight>,
    streams: BTreeMap<HostName, Stream>,
}

fn paused(facts: &FleetFacts) -> BTreeSet<CertificateName> {
    facts
        .certificates
        .iter()
        .filter(|(_, known)| known.paused)
        .map(|(name, _)| name.clone())
        .collect()
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            self.handle(request).await;
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Order(name, order) => {
                if let Some(known) = self.facts.certificates.get_mut(&name) {
                    known.order = order;
                }
            }
            Request::Issued(issued) => self.issued(*issued),
            Request::Thumbprint(authority, thumbprint) => {
                if self.facts.thumbprints.get(&authority) != Some(&thumbprint) {
                    self.facts.thumbprints.insert(authority, thumbprint);
                    self.publish_all();
                }
            }
            Request::Preflight(name, question, reply) => {
                let verdicts = watch::Sender::new(Verdicts::new());
                let _ = reply.send(verdicts.subscribe());
                self.preflights
                    .insert(name.clone(), Preflight { question, verdicts });
                self.publish_challenge_hosts(&name);
            }
            Request::PreflightOver(name) => {
                self.preflights.remove(&name);
                self.publish_challenge_hosts(&name);
            }
            Request::Config(current) => self.config(current).await,
            Request::Pause(name, paused) => self.pause(name, paused),
            Request::Renew(name, reply) => {
                let _ = reply.send(self.renew(name));
            }
            Request::Host(record) => self.host(*record),
            Request::Retired(host) => self.retired(&host),
            Request::Watch(host, request, reply) => {
                let offer = self.watch(&host, *request).await;
                let _ = reply.send(offer);
            }
            Request::Left(host) => self.left(&host).await,
            Request::Report(host, report, reply) => {
                self.report(&host, *report).await;
                let _ = reply.send(());
            }
            Request::Facts(reply) => {
                let _ = reply.send(Arc::new(self.facts.clone()));
            }
            Request::Offered(host, name, reply) => {
                let assigned = self
                    .facts
                    .config
                    .certificates
                    .get(&name)
                    .is_some_and(|c| c.hosts.contains(&host));
                let generation = self
                    .facts
                    .certificates
                    .get(&name)
                    .filter(|_| assigned)
                    .and_then(|known| offered(known, &host))
                    .map(|issued| issued.generation);
                let _ = reply.send(generation);
            }
        }
    }

    fn issued(&mut self, issued: Issued) {
        let name = issued.certificate.clone();
        let Some(known) = self.facts.certificates.get_mut(&name) else {
            return;
        };
        if let Some(old) = known.issued.replace(issued.clone()) {
            known.ends.insert(old.generation, old.not_after);
        }
        // Status speaks of three generations at most: what is older is pruned everywhere.
        while known.ends.len() > 3 {
            known.ends.pop_first();
        }
        if !known.paused && !self.facts.paused {
            known.offered = Some(issued.clone());
        }
        if self
            .forced
            .get(&name)
            .is_some_and(|forced| forced.generation <= issued.generation)
        {
            self.forced.remove(&name);
        }
        self.publish_hosts_of(&name);
        self.publish_control();
    }

    async fn config(&mut self, current: Current) {
        let refused = current.problem.is_some() && current.problem != self.facts.config_problem;
        if let Some(problem) = current.problem.as_ref().filter(|_| refused) {
            let text =
                format!("the new configuration was refused, the last good one stays: {problem}");
            self.events.issuer(EventKind::Config, text).await;
        }
        if current.problem.is_none() && self.facts.config != current.config {
            self.events
                .issuer(EventKind::Config, "the configuration was read anew".into())
                .await;
        }
        self.facts.config_problem = current.problem;
        if self.facts.config != current.config {
            self.facts.config = current.config;
            self.declare();
            self.publish_control();
            self.publish_gate();
            self.publish_all();
        }
    }

    /// Brings the lists of certificates and hosts in line with the configuration.
    fn declare(&mut self) {
        let config = self.facts.config.clone();
        self.facts
            .certificates
            .retain(|name, _| config.certificates.contains_key(name));
        for name in config.certificates.keys() {
            self.facts.certificates.entry(name.clone()).or_default();
        }
        self.facts
            .hosts
            .retain(|name, known| config.hosts.contains_key(name) || known.record.is_some());
        for name in config.hosts.keys() {
            self.facts.hosts.entry(name.clone()).or_default();
        }
    }

    fn pause(&mut self, name: Option<CertificateName>, paused: bool) {
        match &name {
            None => self.facts.paused = paused,
            Some(name) => {
                if let Some(known) = self.facts.certificates.get_mut(name) {
                    known.paused = paused;
                }
            }
        }
        let all = self.facts.paused;
        for known in self
            .facts
            .certificates
            .values_mut()
            .filter(|known| !known.paused && !all)
        {
            known.offered.clone_from(&known.issued);
        }
        self.publish_control();
        self.publish_all();
    }

    fn renew(&mut self, name: CertificateName) -> Option<Generation> {
        let known: &CertificateFacts = self.facts.certificates.get(&name)?;
        let generation = known
            .issued
            .as_ref()
            .map_or(Generation::NONE, |i| i.generation)
            .next();
        self.forced.insert(
            name,
            Forced {
                generation,
                at: clock::now(),
            },
        );
        self.publish_control();
        Some(generation)
    }

    fn host(&mut self, record: HostRecord) {
        let name = record.name.clone();
        let known = self.facts.hosts.entry(name.clone()).or_default();
        let newly_revoked = record.revoked.is_some()
            && known.record.as_ref().map(|r| r.revoked) != Some(record.revoked);
        known.record = Some(record);
        // The gate first: a call that comes between must find it closed.
        self.publish_gate();
        if newly_revoked {
            self.cut(&name);
        }
    }

    fn retired(&mut self, host: &HostName) {
        for known in self.facts.certificates.values_mut() {
            known.observations.remove(host);
        }
        self.publish_gate();
        self.cut(host);
    }

    fn cut(&mut self, host: &HostName) {
        if let Some(stream) = self.streams.get(host) {
            stream.offer.send_replace(None);
        }
    }

    async fn watch(
        &mut self,
        host: &HostName,
        request: v1::WatchRequest,
    ) -> watch::Receiver<Offer> {
        if let Some(observed) = request.observed {
            self.report(host, observed).await;
        }
        let known: &mut HostFacts = self.facts.hosts.entry(host.clone()).or_default();
        if let (Some(record), Some(info)) = (known.record.as_mut(), request.host_info) {
            record.info = info;
        }
        let first = !known.connected;
        known.connected = true;
        known.last_seen = Some(clock::now());
        let desired = Arc::new(self.desired(host));
        let stream = self.streams.entry(host.clone()).or_insert_with(|| Stream {
            offer: watch::Sender::new(None),
            open: 0,
        });
        stream.open += 1;
        stream.offer.send_replace(Some(desired));
        let receiver = stream.offer.subscribe();
        if first {
            self.events
                .host(EventKind::Host, host, "connected".into())
                .await;
        }
        receiver
    }

    async fn left(&mut self, host: &HostName) {
        let Some(stream) = self.streams.get_mut(host) else {
            return;
        };
        stream.open = stream.open.saturating_sub(1);
        if stream.open > 0 {
            return;
        }
        self.streams.remove(host);
        if let Some(known) = self.facts.hosts.get_mut(host) {
            known.connected = false;
            known.last_seen = Some(clock::now());
        }
        self.events
            .host(EventKind::Host, host, "disconnected".into())
            .await;
    }

    async fn report(&mut self, host: &HostName, report: v1::Report) {
        let now = clock::now();
        self.host_says(host, &report, now).await;
        let mut refused = false;
        for certificate in report.certificates {
            let Ok(name) = certificate.name.parse::<CertificateName>() else {
                continue;
            };
            let Some(known) = self.facts.certificates.get_mut(&name) else {
                continue;
            };
            let previous = known.observations.get(host);
            let (seen, noticed) = merge(previous, host, &name, certificate, now.as_millisecond());
            if previous == Some(&seen) {
                continue;
            }
            refused |= seen.outcome == v1::Outcome::Rejected;
            known.observations.insert(host.clone(), seen.clone());
            self.scribe.write(seen.clone()).await;
            self.tell(&name, host, &seen, noticed).await;
        }
        for result in report.preflights {
            self.verdict(host, result);
        }
        if refused {
            self.publish(std::iter::once(host.clone()));
        }
    }

    async fn host_says(&mut self, host: &HostName, report: &v1::Report, now: Timestamp) {
        let known = self.facts.hosts.entry(host.clone()).or_default();
        known.last_seen = Some(now);
        let problem = (!report.host_problem.is_empty()).then(|| report.host_problem.clone());
        let news = problem.clone().filter(|_| problem != known.problem);
        known.problem = problem;
        if let Some(text) = news {
            self.events.host(EventKind::HostProblem, host, text).await;
        }
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
            Ok(v1::PreflightVerdict::Wrong) => Verdict::Wrong(result.detail),
            Ok(v1::PreflightVerdict::Unspecified) | Err(_) => return,
        };
        preflight.verdicts.send_if_modified(|verdicts| {
            verdicts.insert(host.clone(), verdict.clone()).as_ref() != Some(&verdict)
        });
    }

    // --- what others see ---

    fn desired(&self, host: &HostName) -> v1::DesiredState {
        let questions = self
            .preflights
            .iter()
            .map(|(n, p)| (n.clone(), p.question.clone()))
            .collect();
        desired_state(&self.facts, host, &questions)
    }

    fn publish(&self, hosts: impl Iterator<Item = HostName>) {
        for host in hosts {
            let Some(stream) = self.streams.get(&host) else {
                continue;
            };
            let desired = self.desired(&host);
            stream.offer.send_if_modified(|offer| match offer {
                // A stream that was cut stays so.
                None => false,
                Some(old) if old.revision == desired.revision => false,
                Some(old) => {
                    *old = Arc::new(desired);
                    true
                }
            });
        }
    }

    fn publish_all(&self) {
        let hosts: Vec<HostName> = self.streams.keys().cloned().collect();
        self.publish(hosts.into_iter());
    }

    fn publish_hosts_of(&self, name: &CertificateName) {
        let hosts = self
            .facts
            .config
            .certificates
            .get(name)
            .map(|c| c.hosts.clone())
            .unwrap_or_default();
        self.publish(hosts.into_iter());
    }

    fn publish_challenge_hosts(&self, name: &CertificateName) {
        let hosts = self
            .facts
            .config
            .certificates
            .get(name)
            .map(|c| c.challenge_hosts.clone())
            .unwrap_or_default();
        self.publish(hosts.into_iter());
    }

    fn publish_control(&self) {
        let control = Control {
            config: self.facts.config.clone(),
            all_paused: self.facts.paused,
            paused: paused(&self.facts),
            forced: self.forced.clone(),
        };
        self.control.send_if_modified(|old| {
            let changed = **old != control;
            if changed {
                *old = Arc::new(control);
            }
            changed
        });
    }

    fn publish_gate(&self) {
        self.gate.send_replace(Arc::new(Gate::of(&self.facts)));
    }
}
