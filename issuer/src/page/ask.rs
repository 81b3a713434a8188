//! Asks the Admin service, as `certwell` does, without a socket in between.

use certwell_proto::v1::{self, admin_server::Admin as _};
use tokio_stream::StreamExt as _;
use tonic::{Request, Status};

use crate::admin::service::AdminService;

pub(super) async fn status(admin: &AdminService) -> Result<v1::StatusResponse, Status> {
    let answer = admin.status(Request::new(v1::StatusRequest {})).await?;
    Ok(answer.into_inner())
}

pub(super) async fn hosts(admin: &AdminService) -> Result<v1::ListHostsResponse, Status> {
    let answer = admin
        .list_hosts(Request::new(v1::ListHostsRequest {}))
        .await?;
    Ok(answer.into_inner())
}

pub(super) async fn alerts(
    admin: &AdminService,
    all: bool,
) -> Result<v1::ListAlertsResponse, Status> {
    let answer = admin
        .list_alerts(Request::new(v1::ListAlertsRequest { all }))
        .await?;
    Ok(answer.into_inner())
}

/// In the name of the page.
pub(super) async fn acknowledge(
    admin: &AdminService,
    request: v1::AcknowledgeAlertRequest,
) -> Result<(), Status> {
    admin.acknowledge_alert(Request::new(request)).await?;
    Ok(())
}

pub(super) async fn inventory(admin: &AdminService) -> Result<v1::InventoryResponse, Status> {
    let answer = admin
        .inventory(Request::new(v1::InventoryRequest::default()))
        .await?;
    Ok(answer.into_inner())
}

pub(super) async fn explain(
    admin: &AdminService,
    certificate: &str,
) -> Result<Vec<String>, Status> {
    let request = v1::ExplainRequest {
        certificate: certificate.to_owned(),
    };
    Ok(admin
        .explain(Request::new(request))
        .await?
        .into_inner()
        .sentences)
}

/// Whose events.
pub(super) enum Of<'a> {
    Everybody,
    Certificate(&'a str),
    Host(&'a str),
}

/// The newest events; oldest first.
pub(super) async fn newest_events(
    admin: &AdminService,
    of: Of<'_>,
    last: u32,
) -> Result<Vec<v1::Event>, Status> {
    let (certificate, host) = match of {
        Of::Everybody => ("", ""),
        Of::Certificate(name) => (name, ""),
        Of::Host(name) => ("", name),
    };
    let request = v1::EventsRequest {
        certificate: certificate.to_owned(),
        host: host.to_owned(),
        last,
        ..v1::EventsRequest::default()
    };
    let mut stream = admin.events(Request::new(request)).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event?);
    }
    Ok(events)
}

/// The events whose ids lie between these two, oldest first.
pub(super) async fn events_between(
    admin: &AdminService,
    after: u64,
    before: u64,
) -> Result<Vec<v1::Event>, Status> {
    let request = v1::EventsRequest {
        after,
        ..v1::EventsRequest::default()
    };
    let mut stream = admin.events(Request::new(request)).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        let event = event?;
        if event.id >= before {
            break;
        }
        events.push(event);
    }
    Ok(events)
}
