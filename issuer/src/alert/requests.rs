//! What people ask for.

use certwell_notice::Notifier;
use certwell_proto::v1;
use jiff::{SignedDuration, Timestamp};

use super::{Acknowledging, Denied, book::Live, task::Task};
use crate::{
    clock,
    plan::{
        alert::{Alert, Class, Key, Severity},
        deliver::{Say, acknowledge, acknowledge_command, sorted, view},
        words,
    },
    store::{AlertRecord, SilenceRecord, StoreError},
};

impl Task {
    pub(super) async fn list(&self, all: bool) -> Result<v1::ListAlertsResponse, Denied> {
        let now = clock::now();
        let mut records: Vec<AlertRecord> = self
            .book
            .lives
            .iter()
            .filter(|live| all || live.is_open())
            .map(|live| live.record.clone())
            .collect();
        if all {
            let stored = self
                .book
                .store()
                .alerts(Timestamp::UNIX_EPOCH)
                .await
                .map_err(|error| failed(&error))?;
            // What is here is newer.
            records.extend(
                stored
                    .into_iter()
                    .filter(|record| self.book.by_id(record.id).is_none()),
            );
        }
        let alerts = sorted(records);
        Ok(v1::ListAlertsResponse {
            alerts: alerts
                .iter()
                .map(|record| self.shown(record, now))
                .collect(),
            silences: self
                .book
                .silences
                .iter()
                .filter(|silence| silence.until > now)
                .map(silence_of)
                .collect(),
        })
    }

    fn shown(&self, record: &AlertRecord, now: Timestamp) -> v1::Alert {
        let live =
            self.book.lives.iter().find(|live| {
                live.record.id == record.id && live.record.last.key == record.last.key
            });
        let deliveries = live.map(|live| self.deliveries(live, now));
        view(
            record,
            deliveries.unwrap_or_default(),
            &self.book.silences,
            now,
        )
    }

    /// In the order of escalation.
    fn deliveries(&self, live: &Live, now: Timestamp) -> Vec<v1::AlertDelivery> {
        let order = self.settings().notify.iter();
        let notifiers = order.filter_map(|name| self.config.notifiers.get(name));
        notifiers
            .filter_map(|notifier| {
                let accepted = live.deliveries.get(&notifier.name);
                let due = self.due(live, notifier, now);
                if accepted.is_none() && due.is_none_or(|due| due.say == Say::Resolved) {
                    return None;
                }
                Some(v1::AlertDelivery {
                    notifier: notifier.name.clone(),
                    accepted: accepted.map_or(0, |told| told.accepted),
                    accepted_at_ms: accepted.map(|told| told.accepted_at.as_millisecond()),
                    next_ms: due.map(|due| due.at.as_millisecond()),
                    problem: live
                        .tried
                        .get(&notifier.name)
                        .map_or(String::new(), |tried| tried.problem.clone()),
                })
            })
            .collect()
    }

    pub(super) async fn acknowledge(&mut self, asked: Acknowledging) -> Result<v1::Alert, Denied> {
        let now = clock::now();
        let id = asked.id;
        let Some(live) = self.book.by_id(id) else {
            return Err(self.unknown(id).await?);
        };
        if let Some(at) = live.record.resolved {
            return Err(over(id, at, now));
        }
        let lasts = SignedDuration::try_from(asked.lasts).unwrap_or_default();
        let (wanted, by) = (now + lasts, asked.by.clone());
        let record = acknowledge(&live.record, asked.by, asked.note.clone(), wanted, now);
        let until = record
            .acknowledged
            .as_ref()
            .map_or(wanted, |made| made.until);
        self.book
            .put(record.clone())
            .await
            .map_err(|error| failed(&error))?;
        let note = if asked.note.is_empty() {
            String::new()
        } else {
            format!(": {}", asked.note)
        };
        let until = words::instant(until);
        let text = format!("alert {id} was acknowledged by {by} until {until}{note}");
        self.event(&record.last.key.subject, text).await;
        if record.resolved.is_some() {
            self.event("", format!("alert {id} is over: {}", record.last.title))
                .await;
        }
        Ok(self.shown(&record, now))
    }

    /// Why an alert that isn't here can't be acknowledged.
    async fn unknown(&self, id: u64) -> Result<Denied, Denied> {
        let all = self
            .book
            .store()
            .alerts(Timestamp::UNIX_EPOCH)
            .await
            .map_err(|error| failed(&error))?;
        let resolved = all
            .iter()
            .find(|record| record.id == id)
            .and_then(|record| record.resolved);
        Ok(match resolved {
            Some(at) => over(id, at, clock::now()),
            None => Denied::NotFound(format!(
                "there is no alert {id}; `certwell alerts list` names those that are open"
            )),
        })
    }

    pub(super) async fn silence(&mut self, silence: SilenceRecord) -> Result<v1::Silence, Denied> {
        let id = self
            .book
            .store()
            .add_silence(&silence)
            .await
            .map_err(|error| failed(&error))?;
        let silence = SilenceRecord { id, ..silence };
        let text = format!(
            "messages about {} are held back until {}, by {}",
            what(&silence),
            words::instant(silence.until),
            silence.by
        );
        self.event("", text).await;
        self.book.silences.push(silence.clone());
        Ok(silence_of(&silence))
    }

    pub(super) async fn end_silence(&mut self, id: u64, by: &str) -> Result<(), Denied> {
        let ended = self.book.store().end_silence(id).await;
        let known = self
            .book
            .silences
            .iter()
            .position(|silence| silence.id == id);
        let silence = known.map(|place| self.book.silences.remove(place));
        if !ended.map_err(|error| failed(&error))? {
            return Err(Denied::NotFound(format!(
                "there is no silence {id}; `certwell alerts silences` names those that hold"
            )));
        }
        let about = silence.map_or_else(|| format!("silence {id}"), |silence| what(&silence));
        let text = format!("messages about {about} are no longer held back, by {by}");
        self.event("", text).await;
        Ok(())
    }

    pub(super) async fn drill(&mut self, by: &str) -> Result<v1::Alert, Denied> {
        let now = clock::now();
        if let Some(open) = self.book.drill() {
            return Ok(self.shown(&open.record, now));
        }
        if self.settings().notify.is_empty() {
            return Err(nobody());
        }
        let mut record = AlertRecord {
            id: 0,
            last: drill_of(by, now),
            opened: now,
            escalates: now,
            rounds: 1,
            resolved: None,
            acknowledged: None,
        };
        record.id = self
            .book
            .put(record.clone())
            .await
            .map_err(|error| failed(&error))?;
        // The command names the alert, so it needs its number.
        record.last.command = acknowledge_command(record.id);
        self.book
            .put(record.clone())
            .await
            .map_err(|error| failed(&error))?;
        let text = format!("alert {} was raised: a drill, by {by}", record.id);
        self.event("", text).await;
        Ok(self.shown(&record, now))
    }

    pub(super) fn notifiers(&self, names: &[String]) -> Result<(String, Vec<Notifier>), Denied> {
        let fleet = self.config.issuer.fleet.to_string();
        if names.is_empty() {
            let all: Vec<Notifier> = self.config.notifiers.values().cloned().collect();
            return if all.is_empty() {
                Err(nobody())
            } else {
                Ok((fleet, all))
            };
        }
        let found = names.iter().map(|name| {
            self.config.notifiers.get(name).cloned().ok_or_else(|| {
                let declared: Vec<&str> =
                    self.config.notifiers.keys().map(String::as_str).collect();
                let declared = if declared.is_empty() {
                    "none".to_owned()
                } else {
                    declared.join(", ")
                };
                Denied::NotFound(format!(
                    "there is no notifier {name:?}; declared are: {declared}"
                ))
            })
        });
        Ok((fleet, found.collect::<Result<_, _>>()?))
    }
}

fn nobody() -> Denied {
    Denied::NotFound(
        "no notifier is declared: nobody is told of anything; add [notifier.NAME] to the configuration"
            .to_owned(),
    )
}

fn drill_of(by: &str, now: Timestamp) -> Alert {
    Alert {
        key: Key {
            class: Class::Drill,
            subject: String::new(),
        },
        severity: Severity::Page,
        members: Vec::new(),
        title: "drill: nothing is wrong; acknowledge this".to_owned(),
        cause: format!(
            "{by} wants to know whether somebody comes. This message takes the same way as a real one: it is repeated, \
             and goes to the next notifier, until somebody acknowledges it."
        ),
        next: "certwell ends the drill when it is acknowledged, or after a day.".to_owned(),
        command: String::new(),
        since: Some(now),
        ends: None,
    }
}

fn over(id: u64, at: Timestamp, now: Timestamp) -> Denied {
    Denied::Conflict(format!(
        "alert {id} is over since {}; there is nothing to acknowledge",
        words::dated(at, now)
    ))
}

fn failed(error: &StoreError) -> Denied {
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    Denied::Store(error.to_string())
}

/// What a silence matches, in words.
fn what(silence: &SilenceRecord) -> String {
    let parts = [
        silence.host.as_ref().map(|host| format!("host {host}")),
        silence
            .certificate
            .as_ref()
            .map(|name| format!("certificate {name}")),
        silence.class.map(|class| format!("class {class}")),
    ];
    words::list(parts.into_iter().flatten())
}

fn silence_of(silence: &SilenceRecord) -> v1::Silence {
    v1::Silence {
        id: silence.id,
        host: silence
            .host
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        certificate: silence
            .certificate
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        class: silence
            .class
            .map(|class| class.slug().to_owned())
            .unwrap_or_default(),
        since_ms: silence.since.as_millisecond(),
        until_ms: silence.until.as_millisecond(),
        by: silence.by.clone(),
        note: silence.note.clone(),
    }
}
