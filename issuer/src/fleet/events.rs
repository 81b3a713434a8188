//! What is written down for people, and told to those who follow.

use std::sync::Arc;

use certwell_proto::{CertificateName, Generation, HostName, v1::EventKind};
use tokio::sync::broadcast;

use crate::{
    clock,
    store::{EventRecord, Store},
};

/// How far a follower may fall behind before it is told that it missed some.
const BACKLOG: usize = 256;

/// Handle for recording and following events.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn Store>,
    live: broadcast::Sender<EventRecord>,
}

impl Events {
    /// Events kept in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            live: broadcast::channel(BACKLOG).0,
        }
    }

    /// Commits an event, then tells followers. A store that fails is logged: an event never stops the work.
    pub async fn record(&self, mut event: EventRecord) {
        tracing::info!(
            certificate = event.certificate.as_ref().map(tracing::field::display),
            host = event.host.as_ref().map(tracing::field::display),
            generation = (!event.generation.is_none()).then_some(event.generation.0),
            kind = event.kind.as_str_name(),
            "{}",
            event.text
        );
        match self.store.add_event(&event).await {
            Ok(id) => event.id = id,
            Err(e) => tracing::error!(
                error = &e as &dyn std::error::Error,
                "an event can't be stored"
            ),
        }
        let _ = self.live.send(event);
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
