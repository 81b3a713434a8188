//! What the test's issuer answers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use certwell_proto::{
    identity,
    v1::{self, enrollment_server::Enrollment, fleet_server::Fleet},
};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use super::{
    fleet::Authority,
    issuer::{Memory, REFUSED, SECRET},
    transport::Peer,
};

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) ca: Arc<Authority>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    pub(crate) desired: Arc<watch::Sender<v1::DesiredState>>,
}

impl Service {
    /// The peer's certificate; refused without.
    fn peer<T>(request: &Request<T>) -> Result<Vec<u8>, Status> {
        request
            .extensions()
            .get::<Peer>()
            .and_then(|peer| peer.0.clone())
            .ok_or_else(|| Status::unauthenticated("a client certificate is needed"))
    }
}

#[tonic::async_trait]
impl Enrollment for Service {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let request = request.into_inner();
        let mut memory = self.memory.lock().unwrap();
        memory.enroll_calls += 1;
        let proof = identity::enroll_proof_message(&request.token_secret, &request.identity_csr);
        identity::verify_proof(
            "bound_proof",
            &request.bound_key,
            &proof,
            &request.bound_proof,
        )
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let same = memory.enrolled.last()
            == Some(&(request.identity_csr.clone(), request.bound_key.clone()));
        if request.token_secret != SECRET || (memory.token_used && !same) {
            return Err(Status::permission_denied(
                "the token is unknown, expired or used",
            ));
        }
        memory.token_used = true;
        memory
            .enrolled
            .push((request.identity_csr.clone(), request.bound_key));
        if memory.lose > 0 {
            memory.lose -= 1;
            return Err(Status::unavailable("lost on the way"));
        }
        Ok(Response::new(v1::EnrollResponse {
            identity_certificate: self
                .ca
                .identity(&request.identity_csr, memory.identity_life),
            fleet_ca: self.ca.der(),
            fleet: "hachyderm".into(),
            host: "sally".into(),
            lineage: self.desired.borrow().lineage.clone(),
            endpoints: self.desired.borrow().endpoints.clone(),
        }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        Self::peer(&request)?;
        let request = request.into_inner();
        let mut memory = self.memory.lock().unwrap();
        let bound = memory
            .enrolled
            .last()
            .map(|(_, bound)| bound.clone())
            .unwrap();
        identity::verify_proof(
            "bound_proof",
            &bound,
            &identity::renew_proof_message(&request.identity_csr),
            &request.bound_proof,
        )
        .map_err(|error| Status::permission_denied(error.to_string()))?;
        memory.renewal_calls.push(tokio::time::Instant::now());
        if memory.refuse_renewals > 0 {
            memory.refuse_renewals -= 1;
            return Err(Status::unavailable("busy"));
        }
        memory.renewals += 1;
        memory.identity_life = 600;
        Ok(Response::new(v1::RenewResponse {
            identity_certificate: self.ca.identity(&request.identity_csr, 600),
        }))
    }
}

#[tonic::async_trait]
impl Fleet for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::DesiredState, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Self::peer(&request)?;
        {
            let mut memory = self.memory.lock().unwrap();
            memory.watches += 1;
            memory.seen_identities.push(peer);
        }
        if let Some(observed) = request.into_inner().observed {
            self.take(observed);
        }
        let stream = WatchStream::new(self.desired.subscribe()).map(Ok);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::Bundle>, Status> {
        Self::peer(&request)?;
        let request = request.into_inner();
        self.memory
            .lock()
            .unwrap()
            .fetches
            .push((request.certificate.clone(), request.generation));
        while self.memory.lock().unwrap().hold_fetches {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let memory = self.memory.lock().unwrap();
        memory
            .bundles
            .get(&(request.certificate, request.generation))
            .cloned()
            .map(Response::new)
            .ok_or_else(|| Status::not_found("no such certificate"))
    }

    async fn report(
        &self,
        request: Request<v1::Report>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        Self::peer(&request)?;
        let report = request.into_inner();
        if report.preflights.iter().any(|result| result.id == REFUSED) {
            self.memory.lock().unwrap().refused += 1;
            return Err(Status::invalid_argument("a report of the test's own"));
        }
        {
            let mut memory = self.memory.lock().unwrap();
            if memory.busy > 0 {
                memory.busy -= 1;
                return Err(Status::unavailable("busy"));
            }
        }
        self.take(report);
        Ok(Response::new(v1::ReportResponse {}))
    }
}

impl Service {
    fn take(&self, report: v1::Report) {
        let mut memory = self.memory.lock().unwrap();
        for certificate in report.certificates {
            memory.reports.insert(certificate.name.clone(), certificate);
        }
        for result in report.preflights {
            memory.preflights.insert(result.id.clone(), result);
        }
        memory.inventories.extend(report.inventory);
        memory.host_problem = report.host_problem;
    }
}
