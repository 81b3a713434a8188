//! The Admin service: each call is a question to the registry, or a change in the store that the registry is told.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use certwell_proto::{
    Fingerprint, Generation, HostName, JoinToken, Secret,
    v1::{self, EventKind, admin_server::Admin},
};
use jiff::SignedDuration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    alerts,
    events::Asked,
    lookup::{
        declared_certificate, declared_notifier, joinable_host, known_host, known_hosts,
        no_certificate, no_host, revocable_host,
    },
};
use crate::{
    alert::Alerting,
    clock,
    fleet::{
        Events, Registry,
        ca::Ca,
        revocations::{Revocations, RevocationsError},
    },
    page::Access,
    plan::{
        explain::explain,
        facts::FleetFacts,
        inventory::{report, sprawl, wire},
        status,
    },
    store::{EventFilter, Store, StoreError, TokenRecord},
};

/// Tokens live at most so long.
const LONGEST_TTL: Duration = Duration::from_secs(7 * 86_400);

/// A renewal that was asked for is answered when its intent is committed, and after this long in any case: a CA that
/// can't be reached, or a store that is slow, doesn't make it less taken.
const TAKEN: Duration = Duration::from_secs(1);

/// Implements `certwell.v1.Admin`.
pub struct AdminService {
    /// What is known.
    pub registry: Registry,
    /// Where changes are committed.
    pub store: Arc<dyn Store>,
    /// For the pin in join tokens.
    pub ca: Ca,
    /// What is written down.
    pub events: Events,
    /// Who owns the alerts.
    pub alerting: Alerting,
    /// Outside the database.
    pub revocations: Revocations,
    /// How the page is reached; `None`: it isn't served.
    pub page: Option<Access>,
    /// Where backups are: each revocation is written down there too, for the disk may be lost before the next one.
    pub backups: PathBuf,
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(status::status(
            &*self.facts().await?,
            clock::now(),
        )))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let name = request.into_inner().certificate;
        let facts = self.facts().await?;
        let sentences = name
            .parse()
            .ok()
            .and_then(|name| explain(&facts, &name, clock::now()))
            .ok_or_else(|| no_certificate(&name, &facts))?;
        Ok(Response::new(v1::ExplainResponse { sentences }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let ttl = Duration::from_secs(request.ttl_seconds.into());
        if ttl.is_zero() || ttl > LONGEST_TTL {
            return Err(Status::invalid_argument(
                "a token lives between a second and 7 days",
            ));
        }
        if request.hosts.is_empty() {
            return Err(Status::invalid_argument("name at least one host"));
        }
        let facts = self.facts().await?;
        let mut hosts = Vec::with_capacity(request.hosts.len());
        // All of them are checked before the first token is made.
        for name in &request.hosts {
            let host = joinable_host(name, &facts)?;
            if hosts.contains(&host) {
                return Err(Status::invalid_argument(format!(
                    "{host} is named twice; a second token would void the first"
                )));
            }
            hosts.push(host);
        }
        let mut tokens = Vec::with_capacity(hosts.len());
        for host in hosts {
            tokens.push(self.token(host, ttl, &facts).await?);
        }
        Ok(Response::new(v1::CreateTokenResponse { tokens }))
    }

    async fn list_hosts(
        &self,
        _request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        Ok(Response::new(status::hosts(
            &*self.facts().await?,
            clock::now(),
        )))
    }

    async fn revoke_host(
        &self,
        request: Request<v1::RevokeHostRequest>,
    ) -> Result<Response<v1::RevokeHostResponse>, Status> {
        let (host, warning) = self.cut_off(&request.into_inner().host, false).await?;
        self.events
            .host(EventKind::Admin, &host, "its identity was revoked".into())
            .await;
        Ok(Response::new(v1::RevokeHostResponse { warning }))
    }

    async fn retire_host(
        &self,
        request: Request<v1::RetireHostRequest>,
    ) -> Result<Response<v1::RetireHostResponse>, Status> {
        let (host, warning) = self.cut_off(&request.into_inner().host, true).await?;
        self.store
            .forget_host(&host)
            .await
            .map_err(|e| store_failed(&e))?;
        let text = "retired; remove it from the configuration too".to_owned();
        self.events.host(EventKind::Admin, &host, text).await;
        Ok(Response::new(v1::RetireHostResponse { warning }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let facts = self.facts().await?;
        let name = declared_certificate(&request.into_inner().certificate, &facts)?;
        let paused = facts.paused
            || facts
                .certificates
                .get(&name)
                .is_some_and(|known| known.paused);
        if paused {
            return Err(Status::failed_precondition(format!(
                "{name} is paused; `certwell resume` it first"
            )));
        }
        let generation = match timeout(TAKEN, self.registry.renew(&name)).await {
            Ok(begun) => begun.ok_or_else(|| no_certificate(name.as_str(), &facts))?,
            Err(_) => facts
                .certificates
                .get(&name)
                .and_then(|known| known.issued.as_ref())
                .map_or(Generation::NONE, |issued| issued.generation)
                .next(),
        };
        self.events
            .certificate(
                EventKind::Admin,
                &name,
                generation,
                "a renewal was asked for".into(),
            )
            .await;
        Ok(Response::new(v1::RenewCertificateResponse {
            generation: generation.0,
        }))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        self.set_paused(&request.into_inner().certificate, true)
            .await?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        self.set_paused(&request.into_inner().certificate, false)
            .await?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn inventory(
        &self,
        request: Request<v1::InventoryRequest>,
    ) -> Result<Response<v1::InventoryResponse>, Status> {
        let facts = self.facts().await?;
        let hosts = known_hosts(&request.into_inner().hosts, &facts)?;
        Ok(Response::new(wire::inventories(&facts, &hosts)))
    }

    async fn send_inventory(
        &self,
        request: Request<v1::SendInventoryRequest>,
    ) -> Result<Response<v1::SendInventoryResponse>, Status> {
        let request = request.into_inner();
        let facts = self.facts().await?;
        let hosts = known_hosts(&request.hosts, &facts)?;
        let notifier = declared_notifier(&request.notifier, &facts)?;
        let now = clock::now();
        let inventories = facts.inventories.iter();
        let asked_for = inventories.filter(|(host, _)| hosts.is_empty() || hosts.contains(*host));
        let all = sprawl::certificates(asked_for, now);
        let (title, _) = report::headline(&all, now);
        let began = tokio::time::Instant::now();
        let sent = notifier.send_text(&title, &report::text(&all, now)).await;
        let took = began.elapsed().as_millis();
        let (accepted, text) = match sent {
            Ok(accepted) => (true, accepted.text),
            Err(refused) => (false, refused.text),
        };
        let name = &request.notifier;
        let event = match accepted {
            true => format!("the inventory was sent through {name}"),
            false => format!("the inventory was not taken by {name}: {text}"),
        };
        self.events.issuer(EventKind::Admin, event).await;
        Ok(Response::new(v1::SendInventoryResponse {
            answer: Some(v1::NotifierAnswer {
                notifier: request.notifier,
                accepted,
                text,
                took_ms: u32::try_from(took).unwrap_or(u32::MAX),
            }),
        }))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn events(
        &self,
        request: Request<v1::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let request = request.into_inner();
        let of = EventFilter {
            certificate: match request.certificate.as_str() {
                "" => None,
                name => Some(declared_certificate(name, &*self.facts().await?)?),
            },
            host: match request.host.as_str() {
                "" => None,
                name => Some(known_host(name, &*self.facts().await?)?),
            },
        };
        // Followed before the past is read, so that nothing falls between; doubles are left out by their ids.
        let live = request.follow.then(|| self.events.follow());
        let mut after = request.after;
        if request.last > 0 {
            let newest = self.store.before_newest_events(after, &of, request.last);
            after = newest.await.map_err(|e| store_failed(&e))?;
        }
        let (sender, receiver) = mpsc::channel(64);
        let asked = Asked {
            store: self.store.clone(),
            after,
            of,
            live,
            sender,
        };
        tokio::spawn(asked.send());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn page(
        &self,
        request: Request<v1::PageRequest>,
    ) -> Result<Response<v1::PageResponse>, Status> {
        let Some(access) = &self.page else {
            return Ok(Response::new(v1::PageResponse::default()));
        };
        let token = if request.into_inner().token {
            let text = "the page's token was shown".to_owned();
            self.events.issuer(EventKind::Admin, text).await;
            access.token.reveal().to_owned()
        } else {
            String::new()
        };
        Ok(Response::new(v1::PageResponse {
            url: access.url(),
            token_file: access.token_file.display().to_string(),
            reading_needs_token: access.reading_needs_token,
            token,
        }))
    }

    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        alerts::list(&self.alerting, request).await
    }

    async fn acknowledge_alert(
        &self,
        request: Request<v1::AcknowledgeAlertRequest>,
    ) -> Result<Response<v1::AcknowledgeAlertResponse>, Status> {
        alerts::acknowledge(&self.alerting, request).await
    }

    async fn silence(
        &self,
        request: Request<v1::SilenceRequest>,
    ) -> Result<Response<v1::SilenceResponse>, Status> {
        let facts = self.facts().await?;
        alerts::silence(&self.alerting, &facts, request).await
    }

    async fn end_silence(
        &self,
        request: Request<v1::EndSilenceRequest>,
    ) -> Result<Response<v1::EndSilenceResponse>, Status> {
        alerts::end_silence(&self.alerting, request).await
    }

    async fn test_notifiers(
        &self,
        request: Request<v1::TestNotifiersRequest>,
    ) -> Result<Response<v1::TestNotifiersResponse>, Status> {
        alerts::test(&self.alerting, request).await
    }

    async fn drill(
        &self,
        request: Request<v1::DrillRequest>,
    ) -> Result<Response<v1::DrillResponse>, Status> {
        alerts::drill(&self.alerting, request).await
    }
}

impl AdminService {
    async fn facts(&self) -> Result<Arc<FleetFacts>, Status> {
        self.registry
            .facts()
            .await
            .ok_or_else(|| Status::unavailable("the issuer is stopping"))
    }

    async fn token(
        &self,
        host: HostName,
        ttl: Duration,
        facts: &FleetFacts,
    ) -> Result<v1::CreatedToken, Status> {
        let mut secret = vec![0_u8; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| Status::internal("the random generator failed"))?;
        let expires = clock::now() + SignedDuration::try_from(ttl).unwrap_or(SignedDuration::ZERO);
        let record = TokenRecord {
            hash: JoinToken::secret_hash(&secret),
            host: host.clone(),
            expires,
            used_by: None,
            void: false,
        };
        self.store
            .put_token(&record)
            .await
            .map_err(|e| store_failed(&e))?;
        self.events
            .host(
                EventKind::Admin,
                &host,
                format!("a join token was made, good until {expires}"),
            )
            .await;
        let token = JoinToken {
            secret: Secret::new(secret),
            ca_pin: Fingerprint::of(self.ca.certificate()),
            endpoints: facts.config.issuer.endpoints.clone(),
            host: host.clone(),
            fleet: facts.fleet.clone(),
        };
        Ok(v1::CreatedToken {
            host: host.to_string(),
            token: token.to_text(),
            expires_ms: expires.as_millisecond(),
        })
    }

    /// Tokens first, so that nobody joins after the instant of the revocation; then the living, whatever becomes of
    /// the rest; then the file and the database, each whether or not the other could be written. An error means
    /// that the host is cut off now, and that a restart may not remember it. The sentence says what is left to do.
    async fn cut_off(&self, name: &str, retire: bool) -> Result<(HostName, String), Status> {
        let facts = self.facts().await?;
        let record = revocable_host(name, &facts, clock::now())?;
        let host = record.name.clone();
        let known = facts.hosts.get(&host);
        if known.is_none_or(|known| known.record.is_none()) {
            self.registry.host(record).await;
        }
        let tokens = self.store.void_tokens(&host).await;
        let record = self
            .registry
            .revoke(&host, retire)
            .await
            .ok_or_else(|| no_host(name, &facts))?;
        let written = record
            .revoked
            .map_or(Ok(()), |at| self.revocations.append(&host, at));
        let stored = self.store.put_host(&record).await;
        written.map_err(|e| {
            tracing::error!(host = %host, error = &e as &dyn std::error::Error, "a revocation can't be written");
            Status::internal(format!("{host} is cut off, but not for good: {e}; mend that and revoke it again"))
        })?;
        stored.and(tokens.map(drop)).map_err(|e| store_failed(&e))?;
        let warning = match beside_backups(&self.revocations, &self.backups) {
            Ok(()) => String::new(),
            Err(error) => {
                let text = format!(
                    "{host} is cut off, but a restore from a backup made before now would not know it: {error}; \
                     mend that and make a new backup with `certwell-issuer backup`"
                );
                self.events
                    .host(EventKind::Admin, &host, text.clone())
                    .await;
                text
            }
        };
        Ok((host, warning))
    }

    async fn set_paused(&self, name: &str, paused: bool) -> Result<(), Status> {
        let facts = self.facts().await?;
        let certificate = match name {
            "" => None,
            name => Some(declared_certificate(name, &facts)?),
        };
        self.store
            .set_paused(certificate.as_ref(), paused)
            .await
            .map_err(|e| store_failed(&e))?;
        self.registry.pause(certificate.clone(), paused).await;
        let text = if paused {
            "orders and offers are paused"
        } else {
            "orders and offers go on"
        };
        match &certificate {
            Some(name) => {
                self.events
                    .certificate(EventKind::Admin, name, 0.into(), text.into())
                    .await;
            }
            None => self.events.issuer(EventKind::Admin, text.into()).await,
        }
        Ok(())
    }
}

/// Writes down where backups are what is missing there of revocations. Where no backups are made there is nothing that
/// a restore could begin with.
///
/// # Errors
/// When the directory is there and can't be written.
pub fn beside_backups(revocations: &Revocations, backups: &Path) -> Result<(), RevocationsError> {
    if backups.is_dir() {
        revocations.copy_missing(backups)?;
    }
    Ok(())
}

pub(super) fn store_failed(error: &StoreError) -> Status {
    tracing::error!(error = error as &dyn std::error::Error, "the store failed");
    match error {
        StoreError::Conflict(problem) => Status::failed_precondition(problem.clone()),
        other => Status::internal(other.to_string()),
    }
}
