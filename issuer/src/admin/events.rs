//! Sends events: those of the past, a page at a time, then new ones as they happen.

use std::sync::Arc;

use certwell_proto::v1;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tonic::Status;

use super::service::store_failed;
use crate::store::{EventFilter, EventRecord, Store};

/// Events of the past that are in memory at once, for each that asks.
const PAGE: u32 = 256;

/// A question for events, and where they go.
pub(super) struct Asked {
    pub(super) store: Arc<dyn Store>,
    /// The newest id that isn't wanted, or is sent already.
    pub(super) after: u64,
    /// Only those.
    pub(super) of: EventFilter,
    /// New ones, when they are to follow; subscribed to before the past is read, so that nothing falls between.
    pub(super) live: Option<broadcast::Receiver<EventRecord>>,
    pub(super) sender: mpsc::Sender<Result<v1::Event, Status>>,
}

/// Nobody listens any more, or there is nothing more to say.
struct Over;

impl Asked {
    /// Ends when the past is sent and there is nothing to follow, or when nobody listens any more.
    pub(super) async fn send(mut self) {
        // What comes too fast to be followed is read from the store.
        while self.past().await.is_ok() && self.follow().await.is_ok() {}
    }

    /// Sends all that is stored.
    async fn past(&mut self) -> Result<(), Over> {
        loop {
            let page = match self.store.events(self.after, &self.of, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    let _ = self.sender.send(Err(store_failed(&error))).await;
                    return Err(Over);
                }
            };
            let whole = page.len() == PAGE as usize;
            for event in page {
                self.tell(event).await?;
            }
            if !whole {
                return Ok(());
            }
        }
    }

    /// Sends what happens, until some of it was missed.
    async fn follow(&mut self) -> Result<(), Over> {
        loop {
            let Some(live) = &mut self.live else {
                return Err(Over);
            };
            // Cancel-safe: `recv` takes nothing when dropped, `closed` only waits.
            let event = tokio::select! {
                event = live.recv() => event,
                () = self.sender.closed() => return Err(Over),
            };
            match event {
                Ok(event) => self.tell(event).await?,
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(Over),
            }
        }
    }

    /// Sends an event that is wanted, once.
    async fn tell(&mut self, event: EventRecord) -> Result<(), Over> {
        if event.id <= self.after || !self.of.lets_through(&event) {
            return Ok(());
        }
        self.after = event.id;
        self.sender.send(Ok(wire(event))).await.map_err(|_| Over)
    }
}

fn wire(event: EventRecord) -> v1::Event {
    v1::Event {
        id: event.id,
        at_ms: event.at.as_millisecond(),
        kind: event.kind.into(),
        certificate: event
            .certificate
            .map(|name| name.to_string())
            .unwrap_or_default(),
        host: event.host.map(|name| name.to_string()).unwrap_or_default(),
        generation: event.generation.0,
        text: event.text,
    }
}

#[cfg(test)]
mod tests {
    use certwell_proto::{Generation, Lineage, Secret, v1::EventKind};

    use super::*;
    use crate::store::{FleetCa, memory::MemoryStore};

    fn store() -> MemoryStore {
        let lineage = Lineage {
            id: uuid::Uuid::from_u128(7),
            started_ms: 1,
        };
        let ca = FleetCa {
            fleet: "hachyderm".parse().unwrap(),
            certificate: vec![],
            key: Secret::new(vec![]),
        };
        MemoryStore::new(lineage, ca)
    }

    async fn happens(store: &MemoryStore, live: &broadcast::Sender<EventRecord>, text: &str) {
        let mut event = EventRecord {
            id: 0,
            at: crate::clock::now(),
            kind: EventKind::Admin,
            certificate: None,
            host: None,
            generation: Generation::NONE,
            text: text.into(),
        };
        event.id = store.add_event(&event).await.unwrap();
        let _ = live.send(event);
    }

    #[tokio::test]
    async fn a_follower_who_is_too_slow_misses_nothing_and_gets_nothing_twice() {
        let store = Arc::new(store());
        let live = broadcast::channel(1).0;
        happens(&store, &live, "0").await;
        let (sender, mut told) = mpsc::channel(1);
        let asked = Asked {
            store: store.clone(),
            after: 0,
            of: EventFilter::default(),
            live: Some(live.subscribe()),
            sender,
        };
        let task = tokio::spawn(asked.send());
        let mut texts = vec![told.recv().await.unwrap().unwrap().text];
        for text in 1..6 {
            happens(&store, &live, &text.to_string()).await;
        }
        drop(live);
        while let Some(event) = told.recv().await {
            texts.push(event.unwrap().text);
        }
        assert_eq!(texts, ["0", "1", "2", "3", "4", "5"]);
        task.await.unwrap();
    }
}
