//! The task: one request after the other, each a change of what is known and of what others see of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
        peer::Gate,
        scribe::Scribe,
    },
    plan::{
        facts::{CertificateFacts, FleetFacts, HostFacts, OrderFacts, OrderStage},
        offer::{PreflightQuestion, offered},
    },
    store::{HostRecord, Issued},
};

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
    pub(super) renewals: BTreeMap<CertificateName, Vec<oneshot::Sender<Option<Generation>>>>,
}

fn next_generation(known: &CertificateFacts) -> Generation {
    known
        .issued
        .as_ref()
        .map_or(Generation::NONE, |issued| issued.generation)
        .next()
}

pub(super) fn paused(facts: &FleetFacts) -> BTreeSet<CertificateName> {
    facts
        .certificates
        .iter()
        .filter(|(_, known)| known.paused)
        .map(|(name, _)| name.clone())
        .collect()
}

impl Task {
    pub(super) fn new(start: Start) -> (Self, watch::Receiver<Arc<Control>>) {
        let (control, receiver) = watch::channel(Arc::new(Control {
            config: start.facts.config.clone(),
            all_paused: start.facts.paused,
            paused: paused(&start.facts),
            forced: BTreeMap::new(),
        }));
        let task = Self {
            facts: start.facts,
            events: start.events,
            scribe: start.scribe,
            gate: start.gate,
            control,
            forced: BTreeMap::new(),
            preflights: BTreeMap::new(),
            streams: Streams::default(),
            renewals: BTreeMap::new(),
        };
        (task, receiver)
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            self.handle(request).await;
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
            Request::Retired(host, reply) => {
                self.retired(&host);
                let _ = reply.send(());
            }
            Request::Watch(host, request, reply) => {
                let offer = self.watch(&host, *request).await;
                let _ = reply.send(offer);
            }
            Request::Left(ticket) => self.left(&ticket).await,
            Request::Stop(reply) => {
                self.streams = Streams::default();
                let _ = reply.send(());
            }
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

    fn order(&mut self, name: CertificateName, order: OrderFacts) {
        let begun = order.stage != OrderStage::Idle;
        let Some(known) = self.facts.certificates.get_mut(&name) else {
            return;
        };
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
        self.renewals.entry(name.clone()).or_default().push(reply);
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
        let name = record.name.clone();
        let known = self.facts.hosts.entry(name.clone()).or_default();
        let before = known.record.as_ref().and_then(|old| old.revoked);
        if let Some(old) = &known.record {
            record.keep_sentence(old);
        }
        let newly_revoked = record.revoked > before;
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
