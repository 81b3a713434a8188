//! The Fleet service: what agents call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use certwell_proto::{
    CertificateName, FieldError, Generation, HostName,
    v1::{self, fleet_server::Fleet},
};
use tokio::{runtime::Handle, time::Sleep};
use tokio_stream::{Stream, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use super::{
    events::Events,
    peer::{Doorkeeper, Peer},
    registry::{Offer, Registry, Ticket},
};
use crate::{
    clock,
    plan::{observe, seen::wire},
    store::Store,
};

/// Implements `certwell.v1.Fleet`.
pub struct FleetService {
    /// Checks callers.
    pub doorkeeper: Doorkeeper,
    /// What is known.
    pub registry: Registry,
    /// Where bundles are.
    pub store: Arc<dyn Store>,
    /// Where hand-outs of private keys are written down.
    pub events: Events,
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type WatchStream = DesiredStates;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = self.doorkeeper.agent(&request)?;
        let request = request.into_inner();
        if let Some(observed) = &request.observed {
            check(observed)?;
        }
        let host = peer.identity.name.clone();
        let (ticket, offers) = self
            .registry
            .watch(&host, request)
            .await
            .ok_or_else(stopping)?;
        let open = Open {
            registry: self.registry.clone(),
            ticket: Some(ticket),
        };
        // Revoked between the check and the opening: the cut came before there was a stream to cut.
        self.doorkeeper.check(&peer)?;
        Ok(Response::new(DesiredStates::new(
            WatchStream::new(offers),
            &peer,
            open,
        )))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::Bundle>, Status> {
        let peer = self.doorkeeper.agent(&request)?;
        let wanted = request.into_inner();
        let name: CertificateName = wanted.certificate.parse().map_err(|_| unknown())?;
        let generation = Generation(wanted.generation);
        self.may_draw(&peer, &name, generation).await?;
        let bundle = self
            .store
            .bundle(&name, generation)
            .await
            .map_err(|e| {
                tracing::error!(certificate = %name, generation = generation.0, error = &e as &dyn std::error::Error, "a bundle can't be read");
                Status::internal("the issuer can't read this bundle; its log says why")
            })?
            .ok_or_else(unknown)?;
        // Revoked, paused or taken away while the bundle was read.
        self.may_draw(&peer, &name, generation).await?;
        // A key that leaves is written down, or it doesn't leave.
        self.events
            .handed_out(&name, &peer.identity.name, generation)
            .await
            .map_err(|_| {
                Status::unavailable("the issuer can't write its audit log; its log says why")
            })?;
        // Or while that was written: better a line for a key that stayed than none for one that left.
        self.may_draw(&peer, &name, generation).await?;
        Ok(Response::new((&bundle).into()))
    }

    async fn report(
        &self,
        request: Request<v1::Report>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let peer = self.doorkeeper.agent(&request)?;
        let report = request.into_inner();
        check(&report)?;
        self.registry
            .report(&peer.identity.name, report)
            .await
            .ok_or_else(stopping)?;
        Ok(Response::new(v1::ReportResponse {}))
    }
}

impl FleetService {
    /// Whether this host is let in and is offered this generation, at this moment.
    async fn may_draw(
        &self,
        peer: &Peer,
        name: &CertificateName,
        generation: Generation,
    ) -> Result<(), Status> {
        let offered = self.registry.offered(&peer.identity.name, name).await;
        self.doorkeeper.check(peer)?;
        if offered == Some(generation) {
            Ok(())
        } else {
            Err(unknown())
        }
    }
}

/// One answer for what doesn't exist and for what isn't this host's: it learns nothing of others.
fn unknown() -> Status {
    Status::not_found("no such certificate and generation for this host")
}

fn check(report: &v1::Report) -> Result<(), Status> {
    let refused = |error: FieldError| Status::invalid_argument(error.to_string());
    observe::check(report).map_err(refused)?;
    if let Some(seen) = &report.sightings {
        wire::told(seen.sightings.clone()).map_err(|error| refused(error.within("sightings")))?;
    }
    Ok(())
}

fn stopping() -> Status {
    Status::unavailable("the issuer is stopping")
}

/// Tells the registry when the stream is gone, however it ended.
struct Open {
    registry: Registry,
    ticket: Option<Ticket>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let registry = self.registry.clone();
        // Without a runtime the process is ending.
        if let (Some(ticket), Ok(runtime)) = (self.ticket.take(), Handle::try_current()) {
            runtime.spawn(async move { registry.left(ticket).await });
        }
    }
}

/// A host's desired state, at once and at each change, until its identity is revoked or expires.
pub struct DesiredStates {
    offers: WatchStream<Offer>,
    expiry: Pin<Box<Sleep>>,
    host: HostName,
    over: bool,
    _open: Open,
}

impl DesiredStates {
    fn new(offers: WatchStream<Offer>, peer: &Peer, open: Open) -> Self {
        let life =
            Duration::try_from(peer.not_after.duration_since(clock::now())).unwrap_or_default();
        Self {
            offers,
            expiry: Box::pin(tokio::time::sleep(life)),
            host: peer.identity.name.clone(),
            over: false,
            _open: open,
        }
    }
}

impl Stream for DesiredStates {
    type Item = Result<v1::DesiredState, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.expiry.as_mut().poll(cx).is_ready() {
            self.over = true;
            let host = &self.host;
            return Poll::Ready(Some(Err(Status::unauthenticated(format!(
                "the identity of {host} expired"
            )))));
        }
        let next = ready!(Pin::new(&mut self.offers).poll_next(cx));
        Poll::Ready(match next {
            Some(Some(desired)) => Some(Ok((*desired).clone())),
            Some(None) => {
                self.over = true;
                let host = &self.host;
                Some(Err(Status::permission_denied(format!(
                    "{host} was revoked"
                ))))
            }
            None => None,
        })
    }
}
