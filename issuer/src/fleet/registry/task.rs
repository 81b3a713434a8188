//! The task: one request after the other, each a change of what is known and of what others see of it.

use std::{collections::BTreeMap, sync::Arc};

use certwell_proto::{
    CertificateName, Generation, HostName,
    v1::{self, EventKind},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Request, Start, Verdicts,
    streams::{Opened, Streams, Ticket},
};
use crate::{
    clock,
    config::Current,
    fleet::{
        control::{Control, Forced},
        events::Events,
        measured::{Measured, Stages},
        peer::Gate,
        scribe::Scribe,
    },
    plan::{
        ahead,
        facts::{CertificateFacts, FleetFacts, HostFacts, OrderFacts, OrderStage},
        offer::{PreflightQuestion, offered},
        recover::{LOOK, stored},
    },
    store::{HostRecord, Issued, Observation},
};

/// Older generations whose leaf is remembered whether or not a host serves it: as many as the store keeps.
const OLDER: usize = 3;

pub(super) struct Preflight {
    pub(super) question: PreflightQuestion,
    pub(super) verdicts: watch::Sender<Verdicts>,
}

pub(super) struct Task {
    pub(super) facts: FleetFacts,
    pub(super) events: Events,
    pub(super) scribe: Scribe,
    pub(super) gate: watch::Sender<Arc<Gate>>,
    pub(super) control: watch::Sender<Arc<Control>>,
    pub(super) forced: BTreeMap<CertificateName, Forced>,
    pub(super) preflights: BTreeMap<CertificateName, Preflight>,
    pub(super) streams: Streams,
    /// Counts up when there is something else to look at from outside.
    pub(super) stirred: watch::Sender<u64>,
    /// No stream is opened any more.
    pub(super) stopping: bool,
    pub(super) stages: Stages,
    pub(super) renewals: BTreeMap<CertificateName, Vec<oneshot::Sender<Option<Generation>>>>,
}

/// Lets go of leaves that the store has pruned too, but for what a host serves: one that is silent for long serves on,
/// and what it serves ages.
fn forget_older(known: &mut CertificateFacts) {
    let mut surplus = known.older.len().saturating_sub(OLDER);
    let observations = &known.observations;
    known.older.retain(|generation, _| {
        let goes = surplus > 0;
        surplus = surplus.saturating_sub(1);
        let serves = |seen: &Observation| {
            let served = seen.facts.served.as_ref();
            served.and_then(|served| served.generation) == Some(generation.0)
        };
        !goes || observations.values().any(serves)
    });
}

fn next_generation(known: &CertificateFacts) -> Generation {
    stored(known).max(known.highest).next()
}

/// What issuance tasks are to know.
pub(super) fn control_of(facts: &FleetFacts, forced: BTreeMap<CertificateName, Forced>) -> Control {
    let certificates = facts.certificates.iter();
    Control {
        config: facts.config.clone(),
        all_paused: facts.paused,
        paused: certificates
            .clone()
            .filter(|(_, known)| known.paused)
            .map(|(name, _)| name.clone())
            .collect(),
        forced,
        recovering: facts
            .recovery
            .as_ref()
            .map(|recovery| recovery.waiting.clone())
            .unwrap_or_default(),
        forgotten: certificates
            .filter(|(_, known)| known.highest > stored(known))
            .map(|(name, known)| (name.clone(), known.highest))
            .collect(),
    }
}

impl Task {
    pub(super) fn new(start: Start, measured: Measured) -> (Self, watch::Receiver<Arc<Control>>) {
        let first = control_of(&start.facts, BTreeMap::new());
        let (control, receiver) = watch::channel(Arc::new(first));
        let task = Self {
            facts: start.facts,
            events: start.events,
            scribe: start.scribe,
            gate: start.gate,
            control,
            forced: BTreeMap::new(),
            preflights: BTreeMap::new(),
            streams: Streams::default(),
            stirred: watch::Sender::new(0),
            stopping: false,
            renewals: BTreeMap::new(),
            stages: Stages::new(measured),
        };
        (task, receiver)
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            // Cancel-safe: `recv` takes nothing before it returns.
            let request = match self.is_recovering() {
                false => requests.recv().await,
                true => match tokio::time::timeout(LOOK, requests.recv()).await {
                    Ok(request) => request,
                    Err(_) => {
                        self.go_on_recovering().await;
                        continue;
                    }
                },
            };
            match request {
                None | Some(Request::Finish) => return,
                Some(request) => self.handle(request).await,
            }
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Order(name, order) => self.order(name, order),
            Request::Issued(issued) => self.issued(*issued),
            Request::Account(name, authority, thumbprint) => {
                self.account(&name, authority, thumbprint);
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
            Request::Renew(name, reply) => self.renew(name, reply),
            Request::Host(record, reply) => {
                self.host(*record);
                let _ = reply.send(());
            }
            Request::Revoke(host, retire, reply) => {
                let _ = reply.send(self.revoke(&host, retire));
            }
            Request::Watch(_, _, reply) if self.stopping => drop(reply),
            Request::Watch(host, request, reply) => {
                let opened = self.watch(&host, *request).await;
                // The caller went away meanwhile: its stream is closed again.
                if let Err((ticket, _)) = reply.send(opened) {
                    self.left(&ticket).await;
                }
            }
            Request::Left(ticket) => self.left(&ticket).await,
            Request::Stop(reply) => {
                self.stopping = true;
                self.streams = Streams::default();
                let _ = reply.send(());
            }
            // Ends the task before it comes here.
            Request::Finish => {}
            Request::Report(host, report, reply) => {
                self.report(&host, *report).await;
                let _ = reply.send(());
            }
            Request::Sightings(told) => self.sightings(None, told, true),
            Request::Facts(reply) => {
                ahead::heed(&mut self.facts, clock::now());
                let _ = reply.send(Arc::new(self.facts.clone()));
            }
            Request::Hosts(hosts, reply) => {
                let known = hosts.into_iter().filter_map(|host| {
                    let known = self.facts.hosts.get(&host)?.clone();
                    Some((host, known))
                });
                let _ = reply.send(known.collect());
            }
            Request::Health(issuer) => self.facts.issuer = issuer,
            Request::Intruder(host, why) => self.intruder(host, why).await,
            Request::Offered(host, name, reply) => {
                let issued = offered(&self.facts, &name, &host);
                let _ = reply.send(issued.map(|issued| issued.generation));
            }
        }
    }

    fn account(&mut self, name: &CertificateName, authority: String, thumbprint: String) {
        if let Some(known) = self.facts.certificates.get_mut(name) {
            known.authority = Some(authority.clone());
        }
        let known = self.facts.thumbprints.insert(authority, thumbprint.clone());
        if known == Some(thumbprint) {
            self.publish_challenge_hosts(name);
        } else {
            self.publish_all();
        }
    }

    fn issued(&mut self, issued: Issued) {
        let name = issued.certificate.clone();
        let Some(known) = self.facts.certificates.get_mut(&name) else {
            return;
        };
        if known
            .issued
            .as_ref()
            .is_some_and(|old| old.generation >= issued.generation)
        {
            return;
        }
        known.highest = known.highest.max(issued.generation);
        known.order.failures = 0;
        known.order.failing = None;
        if let Some(old) = known.issued.replace(issued.clone()) {
            known.older.insert(old.generation, old.leaf());
        }
        forget_older(known);
        if self
            .forced
            .get(&name)
            .is_some_and(|forced| forced.generation <= issued.generation)
        {
            self.forced.remove(&name);
        }
        self.publish_hosts_of(&name);
        self.publish_control();
        self.stir();
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
            self.cut_undeclared();
            self.publish_all();
            self.forget_probes();
            self.stir();
        }
    }

    fn cut_undeclared(&mut self) {
        for host in self.streams.hosts() {
            if !self.facts.config.hosts.contains_key(&host) {
                self.cut(&host);
            }
        }
    }

    /// Brings the lists of certificates and hosts in line with the configuration.
    fn declare(&mut self) {
        let config = self.facts.config.clone();
        for name in config.certificates.keys() {
            self.facts.certificates.entry(name.clone()).or_default();
        }
        self.facts
            .hosts
            .retain(|name, known| config.hosts.contains_key(name) || known.record.is_some());
        for name in config.hosts.keys() {
            self.facts.hosts.entry(name.clone()).or_default();
        }
        self.renewals
            .retain(|name, _| config.certificates.contains_key(name));
        self.forced
            .retain(|name, _| config.certificates.contains_key(name));
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
        self.publish_control();
        self.publish_all();
    }

    fn order(&mut self, name: CertificateName, mut order: OrderFacts) {
        let begun = order.stage != OrderStage::Idle;
        let Some(known) = self.facts.certificates.get_mut(&name) else {
            return;
        };
        // A failure isn't over because it is tried once more.
        if !matches!(order.stage, OrderStage::Idle | OrderStage::Waiting) {
            order.failures = known.order.failures;
            order.failing = known.order.failing.take();
        }
        self.stages.turn(&name, &known.order, &order);
        known.order = order;
        if begun {
            self.answer_renewals(&name);
        }
    }

    /// Answered once its issuance is under way: by then the intent is committed, and a crash can't lose it.
    fn renew(&mut self, name: CertificateName, reply: oneshot::Sender<Option<Generation>>) {
        let Some(known) = self.facts.certificates.get(&name) else {
            let _ = reply.send(None);
            return;
        };
        let generation = next_generation(known);
        let under_way = !matches!(known.order.stage, OrderStage::Idle | OrderStage::Waiting);
        let waiting = self.renewals.entry(name.clone()).or_default();
        waiting.retain(|reply| !reply.is_closed());
        waiting.push(reply);
        if under_way {
            self.answer_renewals(&name);
        }
        self.forced.insert(
            name,
            Forced {
                generation,
                at: clock::now(),
            },
        );
        self.publish_control();
    }

    fn answer_renewals(&mut self, name: &CertificateName) {
        let generation = self.facts.certificates.get(name).map(next_generation);
        for reply in self.renewals.remove(name).unwrap_or_default() {
            let _ = reply.send(generation);
        }
    }

    fn host(&mut self, mut record: HostRecord) {
        let known = self.facts.hosts.entry(record.name.clone()).or_default();
        if let Some(old) = &known.record {
            record.keep_sentence(old);
            // A renewal that was under way meanwhile knows nothing of it.
            record.revoked = record.revoked.max(old.revoked);
            record.retired |= old.retired;
        }
        self.facts.intruders.remove(&record.name);
        known.record = Some(record);
        self.publish_gate();
    }

    /// The instant is taken while nothing else happens here: whoever was let in before it signs with an earlier one,
    /// and whoever comes after it finds the gate closed.
    fn revoke(&mut self, host: &HostName, retire: bool) -> Option<HostRecord> {
        let known = self.facts.hosts.get_mut(host)?;
        let record = known.record.as_mut()?;
        record.revoked = Some(clock::now());
        record.retired |= retire;
        let record = record.clone();
        self.publish_gate();
        self.cut(host);
        if retire {
            for known in self.facts.certificates.values_mut() {
                known.observations.remove(host);
            }
            self.facts.inventories.remove(host);
        }
        Some(record)
    }

    fn cut(&mut self, host: &HostName) {
        self.streams.cut(host);
        if let Some(known) = self.facts.hosts.get_mut(host) {
            known.connected = false;
        }
    }

    async fn watch(&mut self, host: &HostName, request: v1::WatchRequest) -> Opened {
        if let Some(observed) = request.observed {
            self.report(host, observed).await;
        }
        let now = clock::now();
        let known: &mut HostFacts = self.facts.hosts.entry(host.clone()).or_default();
        let first = !std::mem::replace(&mut known.connected, true);
        known.last_seen = Some(now);
        if let (Some(record), Some(info)) = (known.record.as_mut(), request.host_info) {
            record.info = info.clone();
            self.scribe.seen(host.clone(), now, info).await;
        }
        let opened = self.streams.open(host, self.desired(host));
        if first {
            self.events
                .host(EventKind::Host, host, "connected".into())
                .await;
        }
        opened
    }

    async fn left(&mut self, ticket: &Ticket) {
        if !self.streams.close(ticket) {
            return;
        }
        let host = ticket.host();
        if let Some(known) = self.facts.hosts.get_mut(host) {
            let now = clock::now();
            known.connected = false;
            known.last_seen = Some(now);
            if let Some(record) = &known.record {
                self.scribe
                    .seen(host.clone(), now, record.info.clone())
                    .await;
            }
        }
        self.events
            .host(EventKind::Host, host, "disconnected".into())
            .await;
    }
}
