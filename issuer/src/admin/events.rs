//! Sends events: those of the past, then new ones as they happen.

use certwell_proto::{CertificateName, v1};
use tokio::sync::{broadcast, mpsc};
use tonic::Status;

use crate::store::EventRecord;

/// Ends when the past is sent and there is nothing to follow, or when nobody listens any more.
pub(super) async fn send_events(
    past: Vec<EventRecord>,
    live: Option<broadcast::Receiver<EventRecord>>,
    after: u64,
    certificate: Option<CertificateName>,
    sender: mpsc::Sender<Result<v1::Event, Status>>,
) {
    let mut last = after;
    for event in past {
        last = last.max(event.id);
        if sender.send(Ok(wire(event))).await.is_err() {
            return;
        }
    }
    let Some(mut live) = live else { return };
    loop {
        // Cancel-safe: `recv` takes nothing when dropped, `closed` only waits.
        let event = tokio::select! {
            event = live.recv() => event,
            () = sender.closed() => return,
        };
        match event {
            Ok(event)
                if event.id > last
                    && (certificate.is_none() || event.certificate == certificate) =>
            {
                last = event.id;
                if sender.send(Ok(wire(event))).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let status = Status::data_loss(format!(
                    "{missed} events were missed; ask again for those after {last}"
                ));
                let _ = sender.send(Err(status)).await;
                return;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
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
