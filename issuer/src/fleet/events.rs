//! What is written down for people, and told to those who follow.
//!
//! A task commits events in their order, so that whoever has something to tell doesn't wait for the disk. The one
//! exception is the hand-out of a private key: that waits.

use std::sync::Arc;

use certwell_proto::{CertificateName, Generation, HostName, v1::EventKind};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    clock,
    store::{self, EventRecord, Store},
};

/// How far a follower may fall behind before it is told that it missed some.
const FOLLOWERS: usize = 256;
/// Events that may wait for their commit.
const BACKLOG: usize = 4096;

type Told = Option<oneshot::Sender<store::Result<()>>>;

enum Note {
    Event(EventRecord, Told),
    /// The task ends when this and all that came with it is dealt with.
    End,
}

/// Handle for recording and following events.
#[derive(Clone)]
pub struct Events {
    writer: mpsc::Sender<Note>,
    live: broadcast::Sender<EventRecord>,
}

impl Events {
    /// Starts the task that keeps events in this store; it ends, everything committed, when told to or with the
    /// last handle.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (writer, events) = mpsc::channel(BACKLOG);
        let live = broadcast::channel(FOLLOWERS).0;
        tokio::spawn(write(store, events, live.clone()));
        Self { writer, live }
    }

    /// Hands an event over, to be committed and then told to followers.
    pub async fn record(&self, event: EventRecord) {
        log(&event);
        // An error means that the issuer is stopping.
        let _ = self.writer.send(Note::Event(event, None)).await;
    }

    /// Ends the task, and returns when all that was handed over before is committed, or was refused by the store.
    /// From then on nothing is written down, and no private key handed out.
    pub async fn finish(&self) {
        // An error means that it has ended already.
        let _ = self.writer.send(Note::End).await;
        self.writer.closed().await;
    }

    /// Returns when the task has ended, in whatever way.
    pub async fn ended(&self) {
        self.writer.closed().await;
    }

    /// A private key is about to be handed to a host: returns when that is committed.
    ///
    /// # Errors
    /// When it can't be: then the key must not leave.
    pub async fn handed_out(
        &self,
        certificate: &CertificateName,
        host: &HostName,
        generation: Generation,
    ) -> store::Result<()> {
        let event = EventRecord {
            certificate: Some(certificate.clone()),
            host: Some(host.clone()),
            generation,
            ..blank(
                EventKind::Fetched,
                format!("its private key was handed to {host}"),
            )
        };
        log(&event);
        let (told, committed) = oneshot::channel();
        let stopping = || store::StoreError::Conflict("the issuer is stopping".into());
        self.writer
            .send(Note::Event(event, Some(told)))
            .await
            .map_err(|_| stopping())?;
        committed.await.map_err(|_| stopping())?
    }

    /// An event about a certificate.
    pub async fn certificate(
        &self,
        kind: EventKind,
        certificate: &CertificateName,
        generation: Generation,
        text: String,
    ) {
        self.record(EventRecord {
            certificate: Some(certificate.clone()),
            generation,
            ..blank(kind, text)
        })
        .await;
    }

    /// An event about a host.
    pub async fn host(&self, kind: EventKind, host: &HostName, text: String) {
        self.record(EventRecord {
            host: Some(host.clone()),
            ..blank(kind, text)
        })
        .await;
    }

    /// An event about the issuer.
    pub async fn issuer(&self, kind: EventKind, text: String) {
        self.record(blank(kind, text)).await;
    }

    /// An event about a certificate on a host.
    pub async fn certificate_on_host(
        &self,
        kind: EventKind,
        certificate: &CertificateName,
        host: &HostName,
        generation: Generation,
        text: String,
    ) {
        self.record(EventRecord {
            certificate: Some(certificate.clone()),
            host: Some(host.clone()),
            generation,
            ..blank(kind, text)
        })
        .await;
    }

    /// Events from now on.
    pub fn follow(&self) -> broadcast::Receiver<EventRecord> {
        self.live.subscribe()
    }
}

/// All that have come in since the last commit share one; when that fails, each is tried by itself.
async fn write(
    store: Arc<dyn Store>,
    mut incoming: mpsc::Receiver<Note>,
    followers: broadcast::Sender<EventRecord>,
) {
    let mut batch = Vec::new();
    let mut ended = false;
    while !ended && incoming.recv_many(&mut batch, BACKLOG).await > 0 {
        ended = batch.iter().any(|note| matches!(note, Note::End));
        let (mut events, told): (Vec<EventRecord>, Vec<Told>) = batch
            .drain(..)
            .filter_map(|note| match note {
                Note::Event(event, told) => Some((event, told)),
                Note::End => None,
            })
            .unzip();
        if events.is_empty() {
            continue;
        }
        let together = store.add_events(&events).await.ok();
        for (at, (event, told)) in events.iter_mut().zip(told).enumerate() {
            let stored = match together.as_ref().and_then(|ids| ids.get(at)) {
                Some(&id) => Ok(id),
                None => store.add_event(event).await,
            };
            if let Ok(id) = stored {
                event.id = id;
                let _ = followers.send(event.clone());
            }
            let stored = stored.map(drop);
            if let Err(error) = &stored {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "an event can't be stored"
                );
            }
            if let Some(told) = told {
                let _ = told.send(stored);
            }
        }
    }
}

fn log(event: &EventRecord) {
    tracing::info!(
        certificate = event.certificate.as_ref().map(tracing::field::display),
        host = event.host.as_ref().map(tracing::field::display),
        generation = (!event.generation.is_none()).then_some(event.generation.0),
        kind = event.kind.as_str_name(),
        "{}",
        event.text
    );
}

fn blank(kind: EventKind, text: String) -> EventRecord {
    EventRecord {
        id: 0,
        at: clock::now(),
        kind,
        certificate: None,
        host: None,
        generation: Generation::NONE,
        text,
    }
}
