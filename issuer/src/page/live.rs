//! Tells browsers that something changed. What changed they see by asking for their page once more: there is one way
//! in which a page is made, with a script or without.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{Page, ask, refusal::Refusal};
use crate::admin::service::AdminService;

/// How often it is looked whether something changed, while anybody wants to know.
const LOOK: Duration = Duration::from_secs(1);
/// Browsers that are told, at once.
const STREAMS: usize = 64;
/// Through proxies that cut what is silent.
const ALIVE: Duration = Duration::from_secs(20);

/// Beats whenever what the page shows has changed.
#[derive(Clone)]
pub struct Pulse {
    beat: watch::Sender<u64>,
    streams: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Pulse {
    /// Beats until told to stop.
    pub fn new(stop: watch::Receiver<bool>) -> Self {
        Self {
            beat: watch::Sender::new(0),
            streams: Arc::new(Semaphore::new(STREAMS)),
            stop,
        }
    }

    /// Looks for changes as long as somebody listens; never returns.
    pub async fn run(self, admin: Arc<AdminService>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.beat.receiver_count() == 0 {
                continue;
            }
            let Some(digest) = digest(&admin).await else {
                continue;
            };
            self.beat.send_if_modified(|held| {
                let changed = *held != digest;
                *held = digest;
                changed
            });
        }
    }
}

/// A fingerprint of all that the page shows; `None` when the issuer is stopping.
async fn digest(admin: &AdminService) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    ask::status(admin)
        .await
        .ok()?
        .encode_to_vec()
        .hash(&mut hasher);
    ask::hosts(admin)
        .await
        .ok()?
        .encode_to_vec()
        .hash(&mut hasher);
    ask::alerts(admin, false)
        .await
        .ok()?
        .encode_to_vec()
        .hash(&mut hasher);
    for event in ask::newest_events(admin, ask::Of::Everybody, 1)
        .await
        .ok()?
    {
        event.id.hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// One `changed` at once, for whoever was away meanwhile, and one for each change.
pub(super) async fn stream(State(page): State<Arc<Page>>) -> Result<Response, Refusal> {
    let permit = page
        .pulse
        .streams
        .clone()
        .try_acquire_owned()
        .map_err(|_| Refusal::TooMany)?;
    let mut beat = page.pulse.beat.subscribe();
    let mut stop = page.pulse.stop.clone();
    beat.mark_changed();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            // Cancel-safe: each only waits.
            let changed = tokio::select! {
                changed = beat.changed() => changed,
                _ = stop.wait_for(|told| *told) => break,
                () = sender.closed() => break,
            };
            let number = *beat.borrow_and_update();
            let event = Event::default()
                .event("changed")
                .data(format!("{number:016x}"));
            if changed.is_err() || sender.send(Ok::<_, Infallible>(event)).await.is_err() {
                break;
            }
        }
        drop(permit);
    });
    let alive = KeepAlive::new().interval(ALIVE);
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(alive)
        .into_response())
}
