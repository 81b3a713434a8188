//! An Admin service on a Unix socket over canned facts.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use certwell_issuer::{
    clock,
    plan::{explain::explain, facts::FleetFacts, inventory::wire, status},
};
use certwell_proto::{CertificateName, v1};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_stream::{
    Stream, StreamExt as _, wrappers::ReceiverStream, wrappers::UnixListenerStream,
};
use tonic::{Code, Request, Response, Status};
use v1::admin_server::{Admin, AdminServer};

use crate::outbox::Outbox;

/// A stage of a renewal: changes the facts, and may say so in an event.
pub(crate) type Stage = Box<dyn Fn(&mut FleetFacts) -> Option<v1::Event> + Send>;

/// What the service knows and was asked; outlives a restart, as a store does.
pub(crate) struct Known {
    facts: Mutex<FleetFacts>,
    now: Option<Timestamp>,
    events: Mutex<Vec<v1::Event>>,
    fresh: broadcast::Sender<v1::Event>,
    stages: Mutex<VecDeque<Stage>>,
    refusal: Mutex<Option<Code>>,
    calls: Mutex<Vec<String>>,
    pub(crate) outbox: Outbox,
}

impl Known {
    pub(crate) fn facts(&self) -> MutexGuard<'_, FleetFacts> {
        self.facts.lock().unwrap()
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// From now on every call is refused like this.
    pub(crate) fn refuse(&self, code: Code) {
        *self.refusal.lock().unwrap() = Some(code);
    }

    pub(crate) fn say(&self, mut event: v1::Event) {
        let mut events = self.events.lock().unwrap();
        event.id = events.len() as u64 + 1;
        event.at_ms = self.now().as_millisecond();
        events.push(event.clone());
        let _ = self.fresh.send(event);
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(clock::now)
    }

    fn called(&self, call: String) -> Result<(), Status> {
        self.calls.lock().unwrap().push(call);
        match *self.refusal.lock().unwrap() {
            Some(code) => Err(Status::new(code, "for a reason that is told")),
            None => Ok(()),
        }
    }

    fn certificate(&self, name: &str) -> Result<CertificateName, Status> {
        let missing = || Status::not_found(format!("no certificate {name} is declared"));
        let name: CertificateName = name.parse().map_err(|_| missing())?;
        self.facts()
            .config
            .certificates
            .contains_key(&name)
            .then_some(name)
            .ok_or_else(missing)
    }

    /// Performs the next stage, if one is left.
    fn go_on(&self) -> bool {
        let Some(stage) = self.stages.lock().unwrap().pop_front() else {
            return false;
        };
        let event = stage(&mut self.facts());
        if let Some(event) = event {
            self.say(event);
        }
        true
    }
}

struct Service(Arc<Known>);

#[tonic::async_trait]
impl Admin for Service {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        self.0.called("status".into())?;
        Ok(Response::new(status::status(&self.0.facts(), self.0.now())))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let name = request.into_inner().certificate;
        self.0.called(format!("explain {name}"))?;
        let name = self.0.certificate(&name)?;
        let sentences = explain(&self.0.facts(), &name, self.0.now()).unwrap();
        Ok(Response::new(v1::ExplainResponse { sentences }))
    }

    async fn page(
        &self,
        request: Request<v1::PageRequest>,
    ) -> Result<Response<v1::PageResponse>, Status> {
        let wanted = request.into_inner().token;
        self.0.called(format!("page {wanted}"))?;
        let token = if wanted { "the-token-of-the-page" } else { "" };
        Ok(Response::new(v1::PageResponse {
            url: "http://127.0.0.1:7480/".into(),
            token_file: "/var/lib/certwell-issuer/page.token".into(),
            reading_needs_token: false,
            token: token.into(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        self.0.called(format!(
            "token {} {}",
            request.hosts.join(","),
            request.ttl_seconds
        ))?;
        let expires_ms = self.0.now().as_millisecond() + i64::from(request.ttl_seconds) * 1_000;
        let made = |host: String| v1::CreatedToken {
            token: format!("certwell1.token-of-{host}"),
            host,
            expires_ms,
        };
        let tokens = request.hosts.into_iter().map(made).collect();
        Ok(Response::new(v1::CreateTokenResponse { tokens }))
    }

    async fn list_hosts(
        &self,
        _: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        self.0.called("hosts".into())?;
        Ok(Response::new(status::hosts(&self.0.facts(), self.0.now())))
    }

    async fn inventory(
        &self,
        request: Request<v1::InventoryRequest>,
    ) -> Result<Response<v1::InventoryResponse>, Status> {
        let hosts = request.into_inner().hosts;
        self.0.called(format!("inventory {}", hosts.join(",")))?;
        let hosts = hosts
            .iter()
            .map(|host| host.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| Status::not_found("there is no such host"))?;
        Ok(Response::new(wire::inventories(&self.0.facts(), &hosts)))
    }

    async fn send_inventory(
        &self,
        request: Request<v1::SendInventoryRequest>,
    ) -> Result<Response<v1::SendInventoryResponse>, Status> {
        let request = request.into_inner();
        let (hosts, notifier) = (request.hosts.join(","), request.notifier);
        self.0
            .called(format!("send-inventory {hosts} {notifier}"))?;
        Ok(Response::new(v1::SendInventoryResponse {
            answer: Some(v1::NotifierAnswer {
                accepted: notifier != "deaf",
                text: format!("{notifier} answered"),
                took_ms: 7,
                notifier,
            }),
        }))
    }

    async fn revoke_host(
        &self,
        request: Request<v1::RevokeHostRequest>,
    ) -> Result<Response<v1::RevokeHostResponse>, Status> {
        self.0
            .called(format!("revoke {}", request.into_inner().host))?;
        Ok(Response::new(v1::RevokeHostResponse::default()))
    }

    async fn retire_host(
        &self,
        request: Request<v1::RetireHostRequest>,
    ) -> Result<Response<v1::RetireHostResponse>, Status> {
        self.0
            .called(format!("retire {}", request.into_inner().host))?;
        Ok(Response::new(v1::RetireHostResponse::default()))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let name = request.into_inner().certificate;
        self.0.called(format!("renew {name}"))?;
        let name = self.0.certificate(&name)?;
        let facts = self.0.facts();
        let known = &facts.certificates[&name];
        if known.paused {
            return Err(Status::failed_precondition(format!(
                "{name} is paused; run `certwell resume {name}` first"
            )));
        }
        let generation = known
            .issued
            .as_ref()
            .map_or(1, |issued| issued.generation.0 + 1);
        Ok(Response::new(v1::RenewCertificateResponse { generation }))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        self.0
            .called(format!("pause {}", request.into_inner().certificate))?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        self.0
            .called(format!("resume {}", request.into_inner().certificate))?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        Ok(Response::new(self.0.outbox.list(request.into_inner().all)))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<v1::AcknowledgeAlertRequest>,
    ) -> Result<Response<v1::AcknowledgeAlertResponse>, Status> {
        let request = request.into_inner();
        self.0.called(format!(
            "ack {} {} {}",
            request.id, request.for_seconds, request.note
        ))?;
        self.0.outbox.acknowledge(request).map(Response::new)
    }

    async fn silence(
        &self,
        request: Request<v1::SilenceRequest>,
    ) -> Result<Response<v1::SilenceResponse>, Status> {
        Ok(Response::new(self.0.outbox.silence(request.into_inner())))
    }

    async fn end_silence(
        &self,
        request: Request<v1::EndSilenceRequest>,
    ) -> Result<Response<v1::EndSilenceResponse>, Status> {
        self.0
            .outbox
            .end_silence(request.into_inner().id)
            .map(Response::new)
    }

    async fn test_notifiers(
        &self,
        request: Request<v1::TestNotifiersRequest>,
    ) -> Result<Response<v1::TestNotifiersResponse>, Status> {
        Ok(Response::new(Outbox::test(request.into_inner().notifiers)))
    }

    async fn drill(
        &self,
        _: Request<v1::DrillRequest>,
    ) -> Result<Response<v1::DrillResponse>, Status> {
        Ok(Response::new(self.0.outbox.drill()))
    }

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let request = request.into_inner();
        self.0.called(format!(
            "events follow={} after={}",
            request.follow, request.after
        ))?;
        let wanted = move |event: &v1::Event| {
            event.id > request.after
                && (request.certificate.is_empty() || event.certificate == request.certificate)
                && (request.host.is_empty() || event.host == request.host)
        };
        let mut fresh = self.0.fresh.subscribe();
        let mut past: Vec<v1::Event> = self
            .0
            .events
            .lock()
            .unwrap()
            .iter()
            .filter(|e| wanted(e))
            .cloned()
            .collect();
        let last = past.last().map_or(0, |event| event.id);
        if request.last > 0 {
            past.drain(..past.len().saturating_sub(request.last as usize));
        }
        let (send, receive) = mpsc::channel(16);
        tokio::spawn(async move {
            for event in past {
                if send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if !request.follow {
                return;
            }
            while let Ok(event) = fresh.recv().await {
                if event.id > last && send.send(Ok(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(
            ReceiverStream::new(receive).map(|event| event),
        )))
    }
}

/// A running service; it ends, streams and all, when dropped.
pub(crate) struct Issuer {
    pub(crate) known: Arc<Known>,
    pub(crate) socket: PathBuf,
    directory: tempfile::TempDir,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Issuer {
    /// Over these facts, by the real clock.
    pub(crate) fn of(facts: FleetFacts) -> Self {
        Self::at(facts, None)
    }

    /// Over these facts, by the real clock or at a fixed instant.
    pub(crate) fn at(facts: FleetFacts, now: Option<Timestamp>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let known = Known {
            facts: Mutex::new(facts),
            now,
            events: Mutex::default(),
            fresh: broadcast::channel(64).0,
            stages: Mutex::default(),
            refusal: Mutex::default(),
            calls: Mutex::default(),
            outbox: Outbox::default(),
        };
        let socket = directory.path().join("admin.sock");
        let mut issuer = Self {
            known: Arc::new(known),
            socket,
            directory,
            running: None,
        };
        issuer.start();
        issuer
    }

    /// The directory of its socket.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What a renewal goes through.
    pub(crate) fn stages(&self, stages: Vec<Stage>) {
        self.known.stages.lock().unwrap().extend(stages);
    }

    pub(crate) fn start(&mut self) {
        let (stop, stopped) = oneshot::channel();
        let known = Arc::clone(&self.known);
        let _ = std::fs::remove_file(&self.socket);
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let incoming = UnixListenerStream::new(listener.try_into().unwrap());
                let server = tonic::transport::Server::builder()
                    .add_service(AdminServer::new(Service(Arc::clone(&known))))
                    .serve_with_incoming(incoming);
                // A stage every 50 ms once a renewal was asked for: slow enough to be watched.
                let stages = async {
                    loop {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        if known.calls().iter().any(|call| call.starts_with("renew")) {
                            known.go_on();
                        }
                    }
                };
                tokio::select! {
                    served = server => served.unwrap(),
                    () = stages => {}
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }

    /// Ends as by `kill -9`: every stream breaks, the socket's file stays.
    pub(crate) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop();
    }
}
