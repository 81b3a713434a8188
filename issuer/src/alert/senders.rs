//! One task for each notifier, with one message at a time: a receiver that hangs, refuses or redirects holds up what is
//! meant for it and nothing else.

use std::{collections::BTreeMap, time::Duration};

use certwell_notice::{Accepted, Message, Notifier, Refused};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::Request;
use crate::store::DeliveryRecord;

/// A notifier keeps its limit of time by itself; one that doesn't is given so much more.
const GRACE: Duration = Duration::from_secs(5);

/// A message on its way.
pub(super) struct Job {
    /// Of the alert, in the book.
    pub(super) serial: u64,
    pub(super) message: Message,
    /// What is kept of it when it is accepted.
    pub(super) told: DeliveryRecord,
}

/// What came back.
pub(super) struct Answer {
    /// Which task sent it.
    pub(super) sender: u64,
    pub(super) notifier: String,
    pub(super) job: Job,
    pub(super) result: Result<Accepted, Refused>,
}

struct Sender {
    number: u64,
    notifier: Notifier,
    mailbox: mpsc::Sender<Job>,
    task: JoinHandle<()>,
    /// The alert that a message of is on its way.
    busy: Option<u64>,
}

/// The tasks, by the names of their notifiers.
pub(super) struct Senders {
    senders: BTreeMap<String, Sender>,
    answers: mpsc::Sender<Request>,
    started: u64,
}

impl Senders {
    pub(super) fn new(answers: mpsc::Sender<Request>) -> Self {
        Self {
            senders: BTreeMap::new(),
            answers,
            started: 0,
        }
    }

    /// Starts a task for each notifier that is new or has changed, and lets go of the others: what one of those has on
    /// its way still comes back. False when a task was found dead, which isn't as it should be; it has a successor.
    pub(super) fn take_up(&mut self, notifiers: &BTreeMap<String, Notifier>) -> bool {
        let mut alive = true;
        self.senders.retain(|name, sender| {
            let dead = sender.task.is_finished();
            if dead {
                tracing::error!(notifier = %name, "a notifier's task died; another one takes its place");
                alive = false;
            }
            !dead && notifiers.get(name) == Some(&sender.notifier)
        });
        for (name, notifier) in notifiers {
            if !self.senders.contains_key(name) {
                self.started += 1;
                let sender = start(notifier.clone(), self.answers.clone(), self.started);
                self.senders.insert(name.clone(), sender);
            }
        }
        alive
    }

    /// The notifiers that have nothing on their way.
    pub(super) fn idle(&self) -> Vec<Notifier> {
        let idle = self.senders.values().filter(|sender| sender.busy.is_none());
        idle.map(|sender| sender.notifier.clone()).collect()
    }

    /// Hands a message over to a notifier that is idle.
    pub(super) fn send(&mut self, notifier: &str, job: Job) {
        if let Some(sender) = self.senders.get_mut(notifier) {
            let serial = job.serial;
            // One that is dead is found out at the next evaluation.
            if sender.mailbox.try_send(job).is_ok() {
                sender.busy = Some(serial);
            }
        }
    }

    /// An answer came; whether from the notifier as it is declared now.
    pub(super) fn answered(&mut self, answer: &Answer) -> bool {
        let sender = self.senders.get_mut(&answer.notifier);
        let current = sender.filter(|sender| sender.number == answer.sender);
        let is_current = current.is_some();
        if let Some(sender) = current {
            sender.busy = None;
        }
        is_current
    }

    /// Whether anything is on its way.
    pub(super) fn any_busy(&self) -> bool {
        self.senders.values().any(|sender| sender.busy.is_some())
    }
}

/// Sends one message, in bounded time whatever the notifier does.
pub(super) async fn send(notifier: &Notifier, message: &Message) -> Result<Accepted, Refused> {
    let limit = notifier.limit + GRACE;
    timeout(limit, notifier.send(message))
        .await
        .unwrap_or_else(|_| {
            Err(Refused {
                text: format!(
                    "notifier {}: no answer within {} seconds",
                    notifier.name,
                    limit.as_secs()
                ),
                status: None,
                retry_after: None,
            })
        })
}

fn start(notifier: Notifier, answers: mpsc::Sender<Request>, number: u64) -> Sender {
    let (mailbox, mut jobs) = mpsc::channel::<Job>(1);
    let own = notifier.clone();
    let task = tokio::spawn(async move {
        while let Some(job) = jobs.recv().await {
            let result = send(&own, &job.message).await;
            let answer = Answer {
                sender: number,
                notifier: own.name.clone(),
                job,
                result,
            };
            if answers
                .send(Request::Answered(Box::new(answer)))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    Sender {
        number,
        notifier,
        mailbox,
        task,
        busy: None,
    }
}
