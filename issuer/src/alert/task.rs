//! The task: evaluates at its pace, hands out what is due, takes what comes back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certwell_proto::{CertificateName, FleetName, Generation, pace::pace, v1::EventKind};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};

use super::{
    Find, Request, Start,
    book::{Book, Live},
    heartbeat::Heartbeat,
    senders::{Answer, Job, Senders},
};
use crate::{
    clock,
    config::{Alerts, Config},
    fleet::{Control, Events, Registry},
    plan::{
        alert::{Alert, Class, Severity, unseen},
        deliver::{
            Due, Health, Kind, Told, accepted, after_refusal, due, failing, left_alone_until,
            message, not_later,
        },
        facts::FleetFacts,
        renew::stable_jitter,
        words,
    },
    store::{self, AlertRecord},
};

/// The registry is given so long for its facts.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is on its way when the issuer stops is given so long to come back.
const FAREWELL: Duration = Duration::from_secs(3);
/// If the first look from outside takes longer than this, its place is taken by what hosts say themselves.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// A sleep is never longer: the machine may have slept, or its clock been set.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) struct Task {
    registry: Registry,
    pub(super) events: Events,
    control: watch::Receiver<Arc<Control>>,
    find: Find,
    pub(super) fleet: Option<FleetName>,
    pub(super) config: Arc<Config>,
    pub(super) book: Book,
    pub(super) senders: Senders,
    pub(super) health: BTreeMap<String, Health>,
    /// Notifiers that asked to be left alone, and until when.
    left_alone: BTreeMap<String, Timestamp>,
    /// Whom they leave out, as far as it was written down.
    left_out: BTreeMap<String, String>,
    heartbeat: Heartbeat,
    started: Instant,
    /// When everything is evaluated next.
    evaluate: Instant,
}

impl Task {
    pub(super) async fn new(start: Start, answers: mpsc::Sender<Request>) -> store::Result<Self> {
        let now = clock::now();
        if let Some(last) = start.store.last_evaluation().await? {
            tracing::info!("alerts were evaluated last {}", words::relative(last, now));
        }
        let book = Book::recall(start.store, now).await?;
        let config = start.control.borrow().config.clone();
        Ok(Self {
            registry: start.registry,
            events: start.events,
            control: start.control,
            find: start.find,
            fleet: None,
            config,
            book,
            senders: Senders::new(answers),
            health: BTreeMap::new(),
            left_alone: BTreeMap::new(),
            left_out: BTreeMap::new(),
            heartbeat: Heartbeat::start(),
            started: Instant::now(),
            evaluate: Instant::now(),
        })
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut wake = self.evaluate;
        loop {
            // Cancel-safe: `recv` and `changed` take nothing before they return, a sleep has nothing to lose.
            tokio::select! {
                request = requests.recv() => match request {
                    None | Some(Request::Finish) => break,
                    Some(request) => self.handle(request).await,
                },
                Ok(()) = self.control.changed() => self.take_up(),
                () = tokio::time::sleep_until(wake) => {}
            }
            if Instant::now() >= self.evaluate {
                self.evaluate().await;
            }
            wake = self.hand_out();
        }
        // What comes back now is committed; nothing more is sent.
        let last = async {
            while self.senders.any_busy() {
                match requests.recv().await {
                    Some(Request::Answered(answer)) => self.answered(*answer).await,
                    Some(_) => {}
                    None => return,
                }
            }
        };
        if timeout(FAREWELL, last).await.is_err() {
            tracing::warn!(
                "a notifier didn't answer before the issuer stopped; it may get a message twice"
            );
        }
    }

    async fn handle(&mut self, request: Request) {
        match request {
            Request::Answered(answer) => self.answered(*answer).await,
            Request::List(all, reply) => {
                let _ = reply.send(self.list(all).await);
            }
            Request::Acknowledge(asked, reply) => {
                let _ = reply.send(self.acknowledge(asked).await);
            }
            Request::Silence(silence, reply) => {
                let _ = reply.send(self.silence(*silence).await);
            }
            Request::EndSilence(id, by, reply) => {
                let _ = reply.send(self.end_silence(id, &by).await);
            }
            Request::Drill(by, reply) => {
                let _ = reply.send(self.drill(&by).await);
            }
            Request::Notifiers(names, reply) => {
                let _ = reply.send(self.notifiers(&names));
            }
            Request::Tested(notifier, result) => {
                let problem = result.err().map(|refused| refused.text);
                self.fared(&notifier, problem, clock::now());
            }
            // Ends the task before it comes here.
            Request::Finish => {}
        }
    }

    /// A changed configuration counts at once.
    fn take_up(&mut self) {
        let config = self.control.borrow_and_update().config.clone();
        if self.config.alerts != config.alerts || self.config.notifiers != config.notifiers {
            self.evaluate = Instant::now();
        }
        self.go_by(config);
    }

    /// From now on by this configuration; whether every sender lives.
    fn go_by(&mut self, config: Arc<Config>) -> bool {
        let before = std::mem::replace(&mut self.config, config);
        let now_declared = &self.config.notifiers;
        let others = before
            .notifiers
            .iter()
            .filter(|(name, notifier)| now_declared.get(*name) != Some(notifier));
        for (name, _) in others {
            self.health.remove(name);
            self.left_alone.remove(name);
            self.book.try_anew(name);
        }
        self.senders.take_up(now_declared)
    }

    /// One pass: the facts, what is wrong with them, what changed, all of it committed. Only when it was complete whoever
    /// listens outside hears of it.
    async fn evaluate(&mut self) {
        self.evaluate = Instant::now() + self.config.alerts.every;
        let facts = match timeout(PATIENCE, self.registry.facts()).await {
            Ok(Some(facts)) => facts,
            // It is stopping.
            Ok(None) => return,
            Err(_) => {
                tracing::error!("the registry doesn't answer: nothing was evaluated");
                return;
            }
        };
        let now = clock::now();
        self.fleet = Some(facts.fleet.clone());
        let alive = self.go_by(facts.config.clone());
        let life = facts.shortest_life(now);
        self.evaluate = Instant::now() + pace(self.settings().every, life);

        let mut found = (self.find)(&facts, now);
        let open = self.book.lives.iter().filter(|live| live.is_open());
        let kept = unseen(&facts, open.map(|live| &live.record.last), now);
        let is_new = |alert: &Alert| found.iter().all(|found| found.key != alert.key);
        let kept: Vec<Alert> = kept.into_iter().filter(is_new).collect();
        found.extend(kept);
        found.extend(failing(
            &self.escalation_health(),
            &self.book.records(),
            &self.config.alerts,
            now,
        ));
        let whole = self.all_was_looked_at(&facts);
        let changed = self.book.reconcile(found, &self.config.alerts, whole, now);
        let committed = match self.book.commit().await {
            Ok(()) => self.book.store().evaluated(now).await,
            Err(error) => Err(error),
        };
        for (kind, serial) in changed {
            self.write_down(kind, serial).await;
        }
        self.book.forget(now);
        if let Err(error) = &committed {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "alerts can't be stored; they are told all the same"
            );
        }
        if committed.is_ok() && alive && !self.nobody_is_reached() {
            self.heartbeat.beat(&self.config.alerts, life);
        }
    }

    pub(super) fn settings(&self) -> &Alerts {
        &self.config.alerts
    }

    /// Whether an alert whose cause isn't found is over. Not before the first look from outside since the start.
    fn all_was_looked_at(&self, facts: &FleetFacts) -> bool {
        !facts.config.probe.enabled
            || facts.sightings.first_round_is_over()
            || self.started.elapsed() >= FIRST_LOOK
    }

    /// A fleet whose alerts reach nobody isn't well, and only somebody outside can say so.
    fn nobody_is_reached(&self) -> bool {
        let order = &self.settings().notify;
        !order.is_empty() && order.iter().all(|name| self.is_failing(name))
    }

    fn is_failing(&self, notifier: &str) -> bool {
        self.book.lives.iter().any(|live| {
            let key = &live.record.last.key;
            live.is_open() && key.class == Class::NotifierFailing && key.subject == notifier
        })
    }

    /// Whether an alert says that this notifier accepts nothing.
    fn is_about(&self, alert: &AlertRecord, notifier: &str) -> bool {
        let key = &alert.last.key;
        key.class == Class::NotifierFailing && key.subject == notifier
    }

    fn accepts(&self, notifier: &str) -> bool {
        self.health
            .get(notifier)
            .is_some_and(|health| health.accepts)
    }

    fn escalation_health(&self) -> BTreeMap<String, Health> {
        let order = self.settings().notify.iter();
        order
            .map(|name| {
                let health = self.health.get(name).cloned().unwrap_or_default();
                (name.clone(), health)
            })
            .collect()
    }

    /// How many notifiers that work are told before this one; `None`: it isn't told of this alert.
    pub(super) fn place(&self, alert: &AlertRecord, notifier: &str) -> Option<usize> {
        let order = &self.settings().notify;
        let place = order.iter().position(|name| name == notifier)?;
        // That it accepts nothing is told by the others. It is tried with that too: there may be nothing else to try it
        // with, and once it accepts something it is well again.
        if self.is_about(alert, notifier) {
            return Some(0);
        }
        let before = order.iter().take(place);
        Some(before.filter(|name| !self.is_failing(name)).count())
    }

    /// What is due of an alert to a notifier.
    pub(super) fn due(
        &self,
        live: &Live,
        notifier: &certwell_notice::Notifier,
        now: Timestamp,
    ) -> Option<Due> {
        let told = Told {
            place: self.place(&live.record, &notifier.name)?,
            resend: notifier.resend_every(),
            delivery: live.deliveries.get(&notifier.name),
            tried: live.tried.get(&notifier.name),
            released: live.released,
            trial: self.is_about(&live.record, &notifier.name) && !self.accepts(&notifier.name),
        };
        let silences = &self.book.silences;
        let mut due = due(&live.record, &told, silences, self.settings(), now)?;
        if let Some(until) = self.left_alone.get(&notifier.name) {
            due.at = due.at.max(*until);
        }
        Some(due)
    }

    /// Gives each notifier that is idle what presses most of what is due to it; returns when to look again.
    fn hand_out(&mut self) -> Instant {
        let now = clock::now();
        self.book.not_after(now);
        for until in self.left_alone.values_mut() {
            *until = not_later(*until, now);
        }
        self.book.look_at_silences(now);
        let mut wake = self.evaluate.min(Instant::now() + LONGEST);
        let Some(fleet) = self.fleet.clone() else {
            return wake;
        };
        for notifier in self.senders.idle() {
            let mut first: Option<(bool, Timestamp, Due, &Live)> = None;
            for live in &self.book.lives {
                if !live.may_be_told(&notifier.name) {
                    continue;
                }
                let Some(due) = self.due(live, &notifier, now) else {
                    continue;
                };
                if due.at > now {
                    let wait = Duration::try_from(due.at.duration_since(now)).unwrap_or_default();
                    wake = wake.min(Instant::now() + wait.min(LONGEST));
                    continue;
                }
                let rank = (live.record.last.severity != Severity::Page, due.at);
                if first
                    .as_ref()
                    .is_none_or(|(warning, at, ..)| rank < (*warning, *at))
                {
                    first = Some((rank.0, rank.1, due, live));
                }
            }
            if let Some((_, _, due, live)) = first {
                let before = live.deliveries.get(&notifier.name);
                let record = &live.record;
                let silences = &self.book.silences;
                let job = Job {
                    serial: live.serial,
                    message: message(&fleet, record, due.say, before),
                    told: accepted(record, &notifier.name, before, due.say, silences, now),
                };
                self.senders.send(&notifier.name, job);
            }
        }
        wake
    }

    /// A notifier answered. What it accepted is committed before it is told anything else of the same alert.
    async fn answered(&mut self, answer: Answer) {
        let is_current = self.senders.answered(&answer);
        let now = clock::now();
        let Answer {
            notifier,
            mut job,
            result,
            ..
        } = answer;
        match result {
            Ok(accepted) => {
                tracing::info!(
                    notifier = %notifier,
                    alert = job.told.alert,
                    number = job.message.number,
                    state = job.message.state.word(),
                    "accepted: {}",
                    accepted.text
                );
                self.tell_of_left_out(&notifier, accepted.left_out).await;
                job.told.accepted_at = now;
                self.book.accepted(job.serial, job.told);
                if let Err(error) = self.book.commit().await {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "what a notifier accepted can't be stored; after a crash it may get it once more"
                    );
                }
                self.fared(&notifier, None, now);
            }
            // What was mended meanwhile is judged by what it answers itself.
            Err(refused) if !is_current => {
                tracing::info!(
                    alert = job.told.alert,
                    "not accepted, by what the notifier was before: {refused}"
                );
            }
            Err(refused) => {
                tracing::warn!(alert = job.told.alert, "not accepted: {refused}");
                let config = self.config.clone();
                if let Some(live) = self.book.by_serial(job.serial) {
                    let before = live.tried.get(&notifier);
                    let failures = before.map_or(0, |tried| tried.failures);
                    let tried = after_refusal(
                        &live.record,
                        before,
                        refused.text.clone(),
                        &config.alerts,
                        now,
                        stable_jitter(&notifier, u64::from(failures) + live.serial),
                    );
                    live.tried.insert(notifier.clone(), tried);
                }
                if let Some(asked) = refused.retry_after {
                    let until = left_alone_until(asked, now);
                    self.left_alone.insert(notifier.clone(), until);
                }
                self.fared(&notifier, Some(refused.text), now);
            }
        }
    }

    /// Who doesn't get what others at the same notifier get is written down once.
    async fn tell_of_left_out(&mut self, notifier: &str, left_out: Option<String>) {
        let Some(left_out) = left_out else {
            self.left_out.remove(notifier);
            return;
        };
        if self.left_out.get(notifier) == Some(&left_out) {
            return;
        }
        let text = format!(
            "{notifier} accepts messages, and not for everybody: {left_out}; mend that mailbox, or `to` in \
             [notifier.{notifier}]"
        );
        tracing::warn!("{text}");
        self.left_out.insert(notifier.to_owned(), left_out);
        self.event("", text).await;
    }

    fn fared(&mut self, notifier: &str, problem: Option<String>, now: Timestamp) {
        if problem.is_none() {
            self.left_alone.remove(notifier);
        }
        let health = self.health.entry(notifier.to_owned()).or_default();
        *health = match problem {
            None => Health {
                accepts: true,
                ..Health::default()
            },
            Some(problem) => Health {
                accepts: false,
                refusing_since: health.refusing_since.or(Some(now)),
                refusals: health.refusals.saturating_add(1),
                problem,
            },
        };
    }

    async fn write_down(&mut self, kind: Kind, serial: u64) {
        let Some(live) = self.book.by_serial(serial) else {
            return;
        };
        let (id, alert) = (live.record.id, live.record.last.clone());
        let text = match kind {
            Kind::Raised if live.record.rounds > 1 => {
                format!(
                    "alert {id} is back ({}): {}",
                    alert.severity.word(),
                    alert.title
                )
            }
            Kind::Raised => {
                format!(
                    "alert {id} was raised ({}): {}",
                    alert.severity.word(),
                    alert.title
                )
            }
            Kind::Resolved => format!("alert {id} is over: {}", alert.title),
            Kind::Changed | Kind::Reworded => return,
        };
        self.event(&alert.key.subject, text).await;
    }

    /// Under the certificate, where the subject is one.
    pub(super) async fn event(&self, subject: &str, text: String) {
        let certificate = subject
            .parse::<CertificateName>()
            .ok()
            .filter(|name| self.config.certificates.contains_key(name));
        match certificate {
            Some(name) => {
                self.events
                    .certificate(EventKind::Alert, &name, Generation::NONE, text)
                    .await;
            }
            None => self.events.issuer(EventKind::Alert, text).await,
        }
    }
}
