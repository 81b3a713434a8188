//! Calls about alerts: what is asked for is checked here, and who asks is the kernel's word.

use std::time::Duration;

use certwell_proto::v1;
use jiff::SignedDuration;
use nix::unistd::{Uid, User};
use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};

use super::lookup::{declared_certificate, no_host};
use crate::{
    alert::{Alerting, Denied},
    clock,
    plan::{alert::Class, facts::FleetFacts},
    store::SilenceRecord,
};

/// Nobody sees to one alert for longer, and no maintenance takes longer: what goes on is said again.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// A note is a sentence or two.
const NOTE: usize = 500;

pub(super) async fn list(
    alerting: &Alerting,
    request: Request<v1::ListAlertsRequest>,
) -> Result<Response<v1::ListAlertsResponse>, Status> {
    Ok(Response::new(
        alerting
            .list(request.into_inner().all)
            .await
            .map_err(refused)?,
    ))
}

pub(super) async fn acknowledge(
    alerting: &Alerting,
    request: Request<v1::AcknowledgeAlertRequest>,
) -> Result<Response<v1::AcknowledgeAlertResponse>, Status> {
    let by = caller(&request);
    let v1::AcknowledgeAlertRequest {
        id,
        for_seconds,
        note,
    } = request.into_inner();
    let lasts = lasting("an acknowledgement", for_seconds)?;
    let alert = alerting
        .acknowledge(id, lasts, by, noted(&note)?)
        .await
        .map_err(refused)?;
    Ok(Response::new(v1::AcknowledgeAlertResponse {
        alert: Some(alert),
    }))
}

pub(super) async fn silence(
    alerting: &Alerting,
    facts: &FleetFacts,
    request: Request<v1::SilenceRequest>,
) -> Result<Response<v1::SilenceResponse>, Status> {
    let by = caller(&request);
    let asked = request.into_inner();
    let lasts = lasting("a silence", asked.for_seconds)?;
    let host = match asked.host.as_str() {
        "" => None,
        name => {
            let host = name.parse().ok();
            let known = host.filter(|host| facts.config.hosts.contains_key(host));
            Some(known.ok_or_else(|| no_host(name, facts))?)
        }
    };
    let certificate = match asked.certificate.as_str() {
        "" => None,
        name => Some(declared_certificate(name, facts)?),
    };
    let class = match asked.class.as_str() {
        "" => None,
        slug => Some(slug.parse::<Class>().map_err(|()| no_class(slug))?),
    };
    if host.is_none() && certificate.is_none() && class.is_none() {
        return Err(Status::invalid_argument(
            "a silence is of a host, a certificate, a class, or of several of these: name at least one",
        ));
    }
    let now = clock::now();
    let silence = SilenceRecord {
        id: 0,
        host,
        certificate,
        class,
        since: now,
        until: now + SignedDuration::try_from(lasts).unwrap_or_default(),
        by,
        note: noted(&asked.note)?,
    };
    let silence = alerting.silence(silence).await.map_err(refused)?;
    Ok(Response::new(v1::SilenceResponse {
        silence: Some(silence),
    }))
}

pub(super) async fn end_silence(
    alerting: &Alerting,
    request: Request<v1::EndSilenceRequest>,
) -> Result<Response<v1::EndSilenceResponse>, Status> {
    let by = caller(&request);
    alerting
        .end_silence(request.into_inner().id, by)
        .await
        .map_err(refused)?;
    Ok(Response::new(v1::EndSilenceResponse {}))
}

pub(super) async fn test(
    alerting: &Alerting,
    request: Request<v1::TestNotifiersRequest>,
) -> Result<Response<v1::TestNotifiersResponse>, Status> {
    let answers = alerting
        .test(request.into_inner().notifiers)
        .await
        .map_err(refused)?;
    Ok(Response::new(v1::TestNotifiersResponse { answers }))
}

pub(super) async fn drill(
    alerting: &Alerting,
    request: Request<v1::DrillRequest>,
) -> Result<Response<v1::DrillResponse>, Status> {
    let alert = alerting.drill(caller(&request)).await.map_err(refused)?;
    Ok(Response::new(v1::DrillResponse { alert: Some(alert) }))
}

/// The user's name, by the credentials of the socket's other end; the page has none.
fn caller<T>(request: &Request<T>) -> String {
    let peer = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred);
    let Some(peer) = peer else {
        return "page".to_owned();
    };
    match User::from_uid(Uid::from_raw(peer.uid())) {
        Ok(Some(user)) => user.name,
        _ => format!("user {}", peer.uid()),
    }
}

fn lasting(what: &str, seconds: u32) -> Result<Duration, Status> {
    let lasts = Duration::from_secs(seconds.into());
    if lasts.is_zero() || lasts > LONGEST {
        return Err(Status::invalid_argument(format!(
            "{what} lasts between a second and 7 days"
        )));
    }
    Ok(lasts)
}

fn noted(note: &str) -> Result<String, Status> {
    if note.chars().count() > NOTE {
        return Err(Status::invalid_argument(format!(
            "a note has at most {NOTE} characters"
        )));
    }
    Ok(note
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect())
}

fn no_class(slug: &str) -> Status {
    let known: Vec<&str> = Class::ALL.iter().map(|class| class.slug()).collect();
    Status::not_found(format!(
        "there is no class {slug:?}; there are: {}",
        known.join(", ")
    ))
}

fn refused(denied: Denied) -> Status {
    let text = denied.to_string();
    match denied {
        Denied::NotFound(_) => Status::not_found(text),
        Denied::Conflict(_) => Status::failed_precondition(text),
        Denied::Store(_) => Status::internal(text),
        Denied::Stopping => Status::unavailable(text),
    }
}
