//! Commits what hosts say: all that has come in since the last commit, in one transaction.
//!
//! When that fails, each note is committed by itself, so that one that the store won't take holds up no other. What
//! is left is kept and tried again: what a host said is told by it only once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certwell_proto::{CertificateName, HostName, v1::HostInfo};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::store::{InventoryRecord, Observation, Store, StoreError};

/// Notes that may wait to be read.
const BACKLOG: usize = 1024;
/// Notes that are kept while the store fails.
const KEPT: usize = 4_096;
/// The first pause after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so many refusals in a row it is the store that fails, not the notes.
const REFUSALS: u32 = 3;

enum Note {
    Observation(Box<Observation>),
    Seen(HostName, Timestamp, Box<HostInfo>),
    Inventory(Box<InventoryRecord>),
}

enum Message {
    Note(Note),
    /// The task ends when all that came before is tried once more.
    End,
}

/// What a note is about: of several about the same, the last is the state.
type Subject = (HostName, About);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Certificate(CertificateName),
    Host,
    Inventory,
}

/// Handle of the scribe task.
#[derive(Clone)]
pub struct Scribe(mpsc::Sender<Message>);

impl Scribe {
    /// Starts the task; it ends, everything committed, when told to or with the last handle.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (sender, notes) = mpsc::channel(BACKLOG);
        tokio::spawn(write(store, notes));
        Self(sender)
    }

    /// Returns when the task has ended, in whatever way.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// Hands over one observation.
    pub async fn write(&self, observation: Observation) {
        let note = Note::Observation(Box::new(observation));
        let _ = self.0.send(Message::Note(note)).await;
    }

    /// Hands over when a host last spoke to us, and what it said of itself.
    pub async fn seen(&self, host: HostName, at: Timestamp, info: HostInfo) {
        let note = Note::Seen(host, at, Box::new(info));
        let _ = self.0.send(Message::Note(note)).await;
    }

    /// Hands over what a host told of all its certificates.
    pub async fn inventory(&self, inventory: InventoryRecord) {
        let note = Note::Inventory(Box::new(inventory));
        let _ = self.0.send(Message::Note(note)).await;
    }

    /// Ends the task, and returns when all that was handed over before is committed, or was refused by the store
    /// once more. From then on nothing is taken.
    pub async fn finish(&self) {
        // An error means that it has ended already.
        let _ = self.0.send(Message::End).await;
        self.0.closed().await;
    }
}

async fn write(store: Arc<dyn Store>, mut messages: mpsc::Receiver<Message>) {
    let mut kept = Kept::default();
    let mut incoming = Vec::new();
    let mut pause = FIRST_PAUSE;
    // While something is left: when it is tried again, and whether new notes are worth a try before.
    let mut again: Option<Instant> = None;
    let mut down = false;
    loop {
        // Cancel-safe: `recv_many` takes nothing before it returns, and a sleep holds nothing.
        let mut open = tokio::select! {
            count = messages.recv_many(&mut incoming, BACKLOG) => count > 0,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => true,
        };
        let mut dropped = 0;
        for message in incoming.drain(..) {
            match message {
                Message::Note(note) => dropped += kept.add(note),
                Message::End => open = false,
            }
        }
        if dropped > 0 {
            tracing::error!(
                dropped,
                "the store has failed for long: the oldest of what hosts said is lost"
            );
        }
        let due = again.is_none_or(|at| at <= Instant::now());
        if open && down && !due {
            continue;
        }
        match commit(store.as_ref(), &mut kept).await {
            Ok(()) => (pause, again, down) = (FIRST_PAUSE, None, false),
            Err(failed) => {
                down = failed.down;
                if due || !open {
                    tracing::error!(
                        error = &failed.error as &dyn std::error::Error,
                        left = kept.notes.len(),
                        "what hosts said can't be stored"
                    );
                    again = Some(Instant::now() + pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        if !open {
            return;
        }
    }
}

/// Something wasn't stored.
struct Failed {
    /// The last refusal.
    error: StoreError,
    /// Whether it is the store that fails, not a note.
    down: bool,
}

/// Commits all that is kept; what the store didn't take stays.
async fn commit(store: &dyn Store, kept: &mut Kept) -> Result<(), Failed> {
    let observations: Vec<Observation> = kept
        .notes
        .values()
        .filter_map(|note| match note {
            Note::Observation(one) => Some(one.as_ref().clone()),
            Note::Seen(..) | Note::Inventory(_) => None,
        })
        .collect();
    if !observations.is_empty() && store.put_observations(&observations).await.is_ok() {
        kept.retain(|note| !matches!(note, Note::Observation(_)));
    }
    let mut failed = None;
    let mut in_a_row = 0;
    for _ in 0..kept.notes.len() {
        let Some(note) = kept.oldest() else { break };
        let result = match &note {
            Note::Observation(one) => store.put_observations(std::slice::from_ref(one)).await,
            Note::Seen(host, at, info) => store.host_seen(host, *at, info).await,
            Note::Inventory(one) => store.put_inventory(one).await,
        };
        match result {
            Ok(()) => in_a_row = 0,
            Err(error) => {
                // Behind the others: the next attempt begins with one that wasn't tried now.
                kept.add(note);
                in_a_row += 1;
                let down = in_a_row == REFUSALS;
                failed = Some(Failed { error, down });
                if down {
                    break;
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Notes in the order in which they came, one for each subject.
#[derive(Default)]
struct Kept {
    notes: BTreeMap<u64, Note>,
    numbers: BTreeMap<Subject, u64>,
    last: u64,
}

impl Kept {
    /// Takes in a note; returns how many older ones went for it.
    fn add(&mut self, note: Note) -> usize {
        self.last += 1;
        if let Some(older) = self.numbers.insert(subject(&note), self.last) {
            self.notes.remove(&older);
        }
        self.notes.insert(self.last, note);
        let surplus = self.notes.len().saturating_sub(KEPT);
        (0..surplus).filter_map(|_| self.oldest()).count()
    }

    fn oldest(&mut self) -> Option<Note> {
        let (_, note) = self.notes.pop_first()?;
        self.numbers.remove(&subject(&note));
        Some(note)
    }

    fn retain(&mut self, keep: impl Fn(&Note) -> bool) {
        self.notes.retain(|_, note| keep(note));
        let notes = &self.notes;
        self.numbers.retain(|_, number| notes.contains_key(number));
    }
}

fn subject(note: &Note) -> Subject {
    match note {
        Note::Observation(one) => (
            one.host.clone(),
            About::Certificate(one.certificate.clone()),
        ),
        Note::Seen(host, ..) => (host.clone(), About::Host),
        Note::Inventory(one) => (one.host.clone(), About::Inventory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(host: usize, second: i64) -> Note {
        Note::Seen(
            format!("h{host}").parse().unwrap(),
            Timestamp::from_second(second).unwrap(),
            Box::default(),
        )
    }

    fn hosts(kept: &Kept) -> Vec<String> {
        let subjects = kept.notes.values().map(subject);
        subjects.map(|(host, _)| host.to_string()).collect()
    }

    #[test]
    fn the_newest_note_of_each_subject_is_kept() {
        let mut kept = Kept::default();
        for (host, second) in [(1, 1), (2, 2), (1, 3)] {
            assert_eq!(kept.add(seen(host, second)), 0);
        }
        assert_eq!(hosts(&kept), ["h2", "h1"]);
        assert!(
            matches!(kept.notes.values().last(), Some(Note::Seen(_, at, _)) if at.as_second() == 3)
        );
    }

    #[test]
    fn beyond_the_bound_the_oldest_goes() {
        let mut kept = Kept::default();
        let gone: usize = (0..KEPT + 2).map(|host| kept.add(seen(host, 0))).sum();
        assert_eq!(
            (gone, kept.notes.len(), kept.numbers.len()),
            (2, KEPT, KEPT)
        );
        assert_eq!(hosts(&kept)[0], "h2");
    }
}
