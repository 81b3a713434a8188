//! Raises this host's own alarm, by the notifiers of its own: when the issuer isn't reached, nobody else tells anybody.
//!
//! `plan::alarm` says when and to whom. Each message is sent by a task of its own, so that a notifier that hangs holds up
//! neither the others nor the agent; what was accepted is written down before the next is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use certwell_notice::{Accepted, Member, Message, Notifier, Refused, Severity, State};
use jiff::Timestamp;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{Shutdown, asked_to_stop, connection::Link, observed::Observed};
use crate::{
    clock,
    disk::durable,
    jitter,
    plan::alarm::{Cause, Due, Facts, Reach, Receiver, Record, answered, step},
};

/// So many certificates are named; how many more there are is said.
const NAMED: usize = 10;
/// Whatever is planned, it is looked at again.
const LOOK: Duration = Duration::from_secs(3_600);

/// `alarm.json`: what is remembered of open alarms.
pub type Records = BTreeMap<Cause, Record>;

/// The task.
pub struct AlarmTask {
    /// By whom; without any there is nothing to do.
    pub notifiers: BTreeMap<String, Notifier>,
    /// `alarm.json`.
    pub record_path: PathBuf,
    /// This host's name in the fleet.
    pub host: String,
    /// The fleet.
    pub fleet: String,
    /// What is so.
    pub observed: watch::Receiver<Observed>,
    /// The connection.
    pub link: watch::Receiver<Link>,
    /// The end.
    pub shutdown: Shutdown,
}

/// What came back of one message.
type Answer = (Cause, Due, Result<Accepted, Refused>);

impl AlarmTask {
    /// Until shutdown.
    pub async fn run(mut self) {
        if self.notifiers.is_empty() {
            return asked_to_stop(&mut self.shutdown).await;
        }
        let mut records = read(&self.record_path);
        let mut sending: JoinSet<Answer> = JoinSet::new();
        let mut under_way: BTreeSet<(Cause, String)> = BTreeSet::new();
        loop {
            let wake = self.next(&mut records, &mut sending, &mut under_way);
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                // What is under way is cut off: it is sent again after the next start, unless its cause is over.
                () = asked_to_stop(&mut shutdown) => return,
                // Cancel-safe: an answer that isn't taken stays in the set.
                Some(Ok((cause, due, answer))) = sending.join_next() => {
                    under_way.remove(&(cause, due.notifier.clone()));
                    self.take(&mut records, cause, &due, answer);
                }
                changed = self.observed.changed() => if changed.is_err() { return },
                changed = self.link.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// Sends what is due; how long nothing else will be.
    fn next(
        &mut self,
        records: &mut Records,
        sending: &mut JoinSet<Answer>,
        under_way: &mut BTreeSet<(Cause, String)>,
    ) -> Duration {
        let now = clock::now();
        let facts = self.facts();
        let mut wake = LOOK;
        for cause in Cause::ALL {
            let receivers: Vec<Receiver<'_>> = self
                .notifiers
                .iter()
                .map(|(name, notifier)| Receiver {
                    name,
                    resend: notifier.resend_every(),
                    is_busy: under_way.contains(&(cause, name.clone())),
                })
                .collect();
            let before = records.get(&cause);
            let planned = step(
                cause,
                before.cloned(),
                &facts,
                &receivers,
                now,
                jitter::fraction(),
            );
            let has_changed = before != planned.record.as_ref();
            if has_changed {
                tell(cause, before, planned.record.as_ref());
                match &planned.record {
                    Some(record) => drop(records.insert(cause, record.clone())),
                    None => drop(records.remove(&cause)),
                }
                write(&self.record_path, records);
            }
            if let Some(at) = planned.wake {
                wake = wake.min(clock::until(now, at) + Duration::from_millis(5));
            }
            let Some(record) = &planned.record else {
                continue;
            };
            for due in planned.due {
                let Some(notifier) = self.notifiers.get(&due.notifier) else {
                    continue;
                };
                under_way.insert((cause, due.notifier.clone()));
                let message = self.message(cause, record, &due, now);
                let notifier = notifier.clone();
                sending.spawn(async move {
                    let answer = notifier.send(&message).await;
                    (cause, due, answer)
                });
            }
        }
        wake
    }

    fn take(
        &mut self,
        records: &mut Records,
        cause: Cause,
        due: &Due,
        answer: Result<Accepted, Refused>,
    ) {
        let notifier = &due.notifier;
        let refused = match answer {
            Ok(accepted) => {
                if let Some(left_out) = accepted.left_out {
                    tracing::warn!(
                        notifier,
                        alarm = cause.slug(),
                        "not everybody got the alarm: {left_out}; mend that mailbox, or `to` in [alarm.{notifier}]"
                    );
                }
                tracing::info!(
                    notifier,
                    alarm = cause.slug(),
                    number = due.number,
                    resolved = due.resolved,
                    "a notifier accepted the alarm"
                );
                None
            }
            Err(refused) => {
                tracing::warn!(
                    notifier,
                    alarm = cause.slug(),
                    problem = refused.text,
                    "the alarm wasn't accepted; it is tried again"
                );
                Some((refused.text, refused.retry_after))
            }
        };
        let facts = self.facts();
        if let Some(record) = records.get_mut(&cause) {
            answered(
                record,
                due,
                refused,
                &facts,
                clock::now(),
                jitter::fraction(),
            );
            write(&self.record_path, records);
        }
    }

    fn facts(&mut self) -> Facts {
        let link = self.link.borrow_and_update();
        // As long ago as it is, whatever the clock was set to meanwhile.
        let since = |lost: Instant| clock::now().saturating_sub(lost.elapsed()).ok();
        let reach = match (&link.connection, link.lost.and_then(since)) {
            (Some(_), _) => Reach::Reached,
            (None, Some(since)) => Reach::Lost(since),
            (None, None) => Reach::Unknown,
        };
        drop(link);
        let observed = self.observed.borrow_and_update();
        let ours = observed
            .certificates
            .values()
            .filter(|certificate| certificate.active.is_some_and(|active| active > 0));
        Facts {
            reach,
            lives: ours
                .filter_map(|certificate| certificate.validity)
                .collect(),
        }
    }

    fn message(&self, cause: Cause, record: &Record, due: &Due, now: Timestamp) -> Message {
        let state = if due.resolved {
            State::Resolved
        } else {
            State::Firing
        };
        let (title, why) = match cause {
            Cause::IssuerUnreachable => (
                "the issuer can't be reached, and what hosts serve gets old",
                match self.link.borrow().problem.as_str() {
                    "" => String::new(),
                    problem => format!(" The last try: {problem}."),
                },
            ),
            Cause::ServedExpired => ("hosts serve what is over", String::new()),
        };
        let since = seconds(record.since);
        let told = match (cause, due.resolved) {
            (Cause::IssuerUnreachable, false) => format!(
                "{} hasn't reached the issuer since {since}, and less than a quarter of the life of what it serves is left.{why}",
                self.host
            ),
            (Cause::IssuerUnreachable, true) => {
                format!(
                    "{} has reached the issuer again, or serves what is new.",
                    self.host
                )
            }
            (Cause::ServedExpired, false) => format!(
                "{} reaches the issuer, and what it serves is over since {since} all the same: visitors are turned away.",
                self.host
            ),
            (Cause::ServedExpired, true) => {
                format!("{} serves nothing any more that is over.", self.host)
            }
        };
        let next = match (due.resolved, cause) {
            (true, _) => "Nothing is to be done.",
            (false, Cause::IssuerUnreachable) => {
                "The agent dials the issuer again every few minutes, draws what is new as soon as it is reached, and serves \
                 what it has until then."
            }
            (false, Cause::ServedExpired) => {
                "The agent installs what the issuer offers as soon as there is something new."
            }
        };
        let command = match cause {
            _ if due.resolved => String::new(),
            Cause::IssuerUnreachable => format!("certwell-agent doctor (on {})", self.host),
            Cause::ServedExpired => format!("certwell-agent status (on {})", self.host),
        };
        Message {
            key: format!("certwell/{}/{}", self.fleet, cause.slug()),
            id: 0,
            fleet: self.fleet.clone(),
            state,
            // It is raised when nobody else would tell.
            severity: Severity::Page,
            class: cause.slug().to_owned(),
            subject: String::new(),
            title: title.to_owned(),
            cause: told,
            next: next.to_owned(),
            command,
            section: cause.slug().to_owned(),
            since: Some(record.since.min(now)),
            opened: record.opened,
            number: due.number,
            members: vec![self.member()],
            acknowledge: None,
            link: None,
        }
    }

    /// This host; what ends first, first. One member, whatever it serves, so that an Alertmanager knows the alarms of a
    /// fleet by nothing but their host.
    fn member(&self) -> Member {
        let observed = self.observed.borrow();
        let mut lives: Vec<(Timestamp, String)> = observed
            .certificates
            .iter()
            .filter_map(|(name, certificate)| {
                let active = certificate.active.filter(|active| *active > 0)?;
                let (_, not_after) = certificate.validity?;
                Some((not_after, format!("{name} generation {active}")))
            })
            .collect();
        lives.sort();
        let each: Vec<String> = lives
            .iter()
            .take(NAMED)
            .map(|(not_after, what)| format!("{what} ends at {}", seconds(*not_after)))
            .collect();
        let more = match lives.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let first = lives.first();
        Member {
            host: Some(self.host.clone()),
            address: None,
            certificate: None,
            text: format!("it has {}{more}", each.join("; ")),
            served: first.map_or(String::new(), |(_, what)| what.clone()),
            served_not_after: first.map(|(not_after, _)| *not_after),
        }
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// In the log, when it begins and when it ends.
fn tell(cause: Cause, before: Option<&Record>, after: Option<&Record>) {
    let is_open = |record: Option<&Record>| record.is_some_and(|record| record.over.is_none());
    match (is_open(before), is_open(after)) {
        (false, true) => tracing::warn!(alarm = cause.slug(), "this host raises its own alarm"),
        (true, false) => tracing::info!(alarm = cause.slug(), "this host's own alarm is over"),
        _ => {}
    }
}

/// What was remembered. What can't be read is as good as nothing: at most it is told once more.
pub fn read(path: &std::path::Path) -> Records {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(path: &std::path::Path, records: &Records) {
    let written = serde_json::to_vec(records)
        .map_err(|error| error.to_string())
        .and_then(|bytes| durable::replace(path, &bytes, 0o600).map_err(|error| error.to_string()));
    if let Err(problem) = written {
        tracing::warn!(
            problem,
            "what was told of the alarm isn't written down: after a restart it is told once more"
        );
    }
}
