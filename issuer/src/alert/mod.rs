//! Tells people what is wrong, until they know.
//!
//! ```text
//!  registry ──facts──▶ ┌────────┐ ──message──▶ sender, one a notifier ──▶ Discord, mail, …
//!  admin, page ──────▶ │ alerts │ ◀──answer───
//!  store ◀──outbox───▶ │ (task) │ ──complete──▶ heartbeat ──▶ a watcher outside
//!                      └────────┘
//! ```
//! The task owns open alerts. What is raised is committed before it is told, and what a notifier accepted before it is
//! told anything else of the same alert: a crash loses no message and doubles at most the one that was on its way.
//!
//! ```text
//! task       evaluates, and hands out what is due          book      open alerts, as the store has them
//! senders    one task a notifier: who hangs holds up himself alone
//! heartbeat  the dead-man's switch                         requests  what people ask for
//! ```

mod book;
mod heartbeat;
mod requests;
mod senders;
mod task;

use std::{sync::Arc, time::Duration};

use certwell_notice::{Accepted, Message, Notifier, Refused};
use certwell_proto::v1;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use self::task::Task;
use crate::{
    clock,
    fleet::{Control, Events, Registry},
    plan::{alert::Alert, facts::FleetFacts},
    store::{self, SilenceRecord, Store},
};

/// Requests and answers that may wait.
const BACKLOG: usize = 256;

/// What should be known: [`crate::plan::alert::alerts`].
pub type Find = fn(&FleetFacts, Timestamp) -> Vec<Alert>;

/// What the task starts with.
pub struct Start {
    /// Where alerts are kept.
    pub store: Arc<dyn Store>,
    /// Who knows the facts.
    pub registry: Registry,
    /// Where it is written down that an alert was raised, acknowledged, resolved.
    pub events: Events,
    /// Tells when the configuration changes.
    pub control: watch::Receiver<Arc<Control>>,
    /// From facts to alerts.
    pub find: Find,
}

/// Why something that was asked for wasn't done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such alert, silence or notifier.
    #[error("{0}")]
    NotFound(String),
    /// The state of things forbids it.
    #[error("{0}")]
    Conflict(String),
    /// The store didn't take it.
    #[error("{0}")]
    Store(String),
    /// The issuer is stopping.
    #[error("the issuer is stopping")]
    Stopping,
}

enum Request {
    Answered(Box<senders::Answer>),
    List(
        bool,
        oneshot::Sender<Result<v1::ListAlertsResponse, Denied>>,
    ),
    Acknowledge(Acknowledging, oneshot::Sender<Result<v1::Alert, Denied>>),
    Silence(
        Box<SilenceRecord>,
        oneshot::Sender<Result<v1::Silence, Denied>>,
    ),
    EndSilence(u64, String, oneshot::Sender<Result<(), Denied>>),
    Drill(String, oneshot::Sender<Result<v1::Alert, Denied>>),
    Notifiers(
        Vec<String>,
        oneshot::Sender<Result<(String, Vec<Notifier>), Denied>>,
    ),
    Tested(String, Result<Accepted, Refused>),
    Finish,
}

struct Acknowledging {
    id: u64,
    lasts: Duration,
    by: String,
    note: String,
}

/// Handle of the task.
#[derive(Clone)]
pub struct Alerting(mpsc::Sender<Request>);

impl Alerting {
    /// Reads what the store has, and starts the task; it ends when told to.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn start(start: Start) -> store::Result<Self> {
        let (sender, requests) = mpsc::channel(BACKLOG);
        let task = Task::new(start, sender.clone()).await?;
        tokio::spawn(task.run(requests));
        Ok(Self(sender))
    }

    /// Alerts as they are shown, with what was delivered of them; those that are over too when `all` is set. Silences
    /// that hold.
    ///
    /// # Errors
    /// When the store can't be read, or the issuer is stopping.
    pub async fn list(&self, all: bool) -> Result<v1::ListAlertsResponse, Denied> {
        self.ask(|reply| Request::List(all, reply)).await
    }

    /// `by` knows of this alert, and sees to it for so long.
    ///
    /// # Errors
    /// No such alert; it is over; the store didn't take it.
    pub async fn acknowledge(
        &self,
        id: u64,
        lasts: Duration,
        by: String,
        note: String,
    ) -> Result<v1::Alert, Denied> {
        let asked = Acknowledging {
            id,
            lasts,
            by,
            note,
        };
        self.ask(|reply| Request::Acknowledge(asked, reply)).await
    }

    /// Holds messages back of what matches.
    ///
    /// # Errors
    /// The store didn't take it.
    pub async fn silence(&self, silence: SilenceRecord) -> Result<v1::Silence, Denied> {
        self.ask(|reply| Request::Silence(Box::new(silence), reply))
            .await
    }

    /// Ends a silence before its time.
    ///
    /// # Errors
    /// No such silence; the store didn't take it.
    pub async fn end_silence(&self, id: u64, by: String) -> Result<(), Denied> {
        self.ask(|reply| Request::EndSilence(id, by, reply)).await
    }

    /// Raises an alert that is told and escalated as any other, until somebody acknowledges it. The one that is open
    /// already, if there is one.
    ///
    /// # Errors
    /// The store didn't take it.
    pub async fn drill(&self, by: String) -> Result<v1::Alert, Denied> {
        self.ask(|reply| Request::Drill(by, reply)).await
    }

    /// Sends a message through each of these notifiers, or through all, at once; what came back, in that order.
    ///
    /// # Errors
    /// No such notifier.
    pub async fn test(&self, names: Vec<String>) -> Result<Vec<v1::NotifierAnswer>, Denied> {
        let (fleet, notifiers) = self.ask(|reply| Request::Notifiers(names, reply)).await?;
        let mut sending = JoinSet::new();
        for (place, notifier) in notifiers.into_iter().enumerate() {
            let message = Message::test(&fleet, "the issuer", clock::now());
            let tell = self.0.clone();
            sending.spawn(async move {
                let began = tokio::time::Instant::now();
                let result = senders::send(&notifier, &message).await;
                let answer = v1::NotifierAnswer {
                    notifier: notifier.name.clone(),
                    accepted: result.is_ok(),
                    text: match &result {
                        Ok(accepted) => accepted.text.clone(),
                        Err(refused) => refused.text.clone(),
                    },
                    took_ms: u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX),
                };
                let _ = tell.send(Request::Tested(notifier.name, result)).await;
                (place, answer)
            });
        }
        let mut answers = sending.join_all().await;
        answers.sort_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Ends the task: what is on its way is waited for, shortly, and what was accepted is committed.
    pub async fn finish(&self) {
        let _ = self.0.send(Request::Finish).await;
        self.0.closed().await;
    }

    /// Returns when the task has ended, in whatever way.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Denied>>) -> Request,
    ) -> Result<T, Denied> {
        let (reply, answer) = oneshot::channel();
        // An error means that the issuer is stopping, and so does one of the answer.
        let _ = self.0.send(request(reply)).await;
        answer.await.unwrap_or(Err(Denied::Stopping))
    }
}
