//! Which path is answered by what. Handlers ask, and hand the answer to a view.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use certwell_proto::v1;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use maud::Markup;
use tonic::Status;

use super::{
    Page, ask,
    door::{self, Visitor},
    live, login,
    refusal::Refusal,
    render::{self, layout::Frame},
    view::{self, moment::Moment},
};
use crate::{clock, metrics};

/// Of a form.
const BODY: usize = 16 * 1024;
/// Events on one page.
const EVENTS: u32 = 100;
/// Events in a history.
const HISTORY: u32 = 50;

/// Everything that the page's listener answers.
pub fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(fleet))
        .route("/certificates/{name}", get(certificate))
        .route("/hosts", get(hosts))
        .route("/hosts/{name}", get(host))
        .route("/inventory", get(inventory))
        .route("/alerts", get(alerts))
        .route("/alerts/{id}/acknowledge", post(acknowledge))
        .route("/events", get(events))
        .route("/live", get(live::stream))
        .route("/metrics", get(metrics))
        .route(
            "/login",
            get(async |query| login::show(query)).post(login::enter),
        )
        .route("/logout", post(login::leave))
        .route("/page.css", get(async || asset(CSS)))
        .route("/page.js", get(async || asset(SCRIPT)))
        .route("/favicon.svg", get(async || asset(ICON)))
        .fallback(async || door::nowhere())
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(page.clone(), door::guard))
        .with_state(page)
}

type Answer = Result<Response, Refusal>;

/// Content type and text.
type Asset = (&'static str, &'static str);
const CSS: Asset = ("text/css; charset=utf-8", include_str!("assets/page.css"));
const SCRIPT: Asset = (
    "text/javascript; charset=utf-8",
    include_str!("assets/page.js"),
);
const ICON: Asset = ("image/svg+xml", include_str!("assets/favicon.svg"));

fn asset((kind, text): Asset) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // Another version of the issuer may have another one; it is small, and never from far.
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("max-age=60"),
        ),
    ];
    (headers, text).into_response()
}

fn frame(
    page: &Page,
    visitor: &Visitor,
    fleet: &str,
    place: &'static str,
    now: Timestamp,
) -> Frame {
    Frame {
        fleet: fleet.to_owned(),
        made: Moment::new(now, now),
        place,
        form_token: visitor
            .session
            .map(|session| session.form_token(&page.key, now)),
        path: visitor.path.clone(),
    }
}

fn shown(frame: &Frame, title: &str, body: Markup) -> Answer {
    Ok(render::layout::html(render::layout::page(
        frame, title, body,
    )))
}

async fn fleet(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Answer {
    let now = clock::now();
    let (status, hosts) = (
        ask::status(&page.admin).await?,
        ask::hosts(&page.admin).await?,
    );
    let told = ask::alerts(&page.admin, false).await?;
    let fleet = view::fleet::Fleet::new(&status, &hosts, now).with_alerts(&told.alerts);
    let (open, _) = view::alert::open_and_past(&told, now);
    let frame = frame(&page, &visitor, &status.fleet, "/", now);
    let body = render::fleet::fleet(&fleet, &open, frame.form_token.as_deref());
    shown(&frame, "Fleet", body)
}

async fn certificate(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer {
    let now = clock::now();
    let explanation = ask::explain(&page.admin, &name).await?;
    let status = ask::status(&page.admin).await?;
    let found = status
        .certificates
        .iter()
        .find(|certificate| certificate.name == name)
        .ok_or_else(|| missing(&format!("There is no certificate {name}.")))?;
    let of = ask::Of::Certificate(&name);
    let events = ask::newest_events(&page.admin, of, HISTORY).await?;
    let certificate = view::certificate::Certificate::new(found, explanation, now);
    let history = view::event::rows(&events, now);
    let frame = frame(&page, &visitor, &status.fleet, "/certificates", now);
    shown(
        &frame,
        &name,
        render::certificate::page(&certificate, &history),
    )
}

async fn hosts(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Answer {
    let now = clock::now();
    let (status, hosts) = (
        ask::status(&page.admin).await?,
        ask::hosts(&page.admin).await?,
    );
    let rows = view::host::rows(&hosts, &status, now);
    let frame = frame(&page, &visitor, &status.fleet, "/hosts", now);
    shown(&frame, "Hosts", render::host::list(&rows))
}

async fn host(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Answer {
    let now = clock::now();
    let (status, hosts) = (
        ask::status(&page.admin).await?,
        ask::hosts(&page.admin).await?,
    );
    let found = hosts
        .hosts
        .iter()
        .find(|host| host.name == name)
        .ok_or_else(|| missing(&format!("There is no host {name}.")))?;
    let events = ask::newest_events(&page.admin, ask::Of::Host(&name), HISTORY).await?;
    let history = view::event::rows(&events, now);
    let host = view::host::Host::new(found, &status, now);
    let frame = frame(&page, &visitor, &status.fleet, "/hosts", now);
    shown(&frame, &name, render::host::page(&host, &history))
}

async fn alerts(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Answer {
    let now = clock::now();
    let told = ask::alerts(&page.admin, true).await?;
    let (open, past) = view::alert::open_and_past(&told, now);
    let status = ask::status(&page.admin).await?;
    let frame = frame(&page, &visitor, &status.fleet, "/alerts", now);
    let body = render::alert::page(&open, &past, frame.form_token.as_deref());
    shown(&frame, "Alerts", body)
}

async fn acknowledge(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<u64>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let fields = login::fields(&body);
    let form = fields.get("form").map(String::as_str);
    door::may_change(&page, &visitor, &headers, form)?;
    let for_seconds = fields
        .get("for")
        .and_then(|seconds| seconds.parse().ok())
        .ok_or_else(|| {
            Refusal::Answer(StatusCode::BAD_REQUEST, "For how long isn’t said.".into())
        })?;
    let request = v1::AcknowledgeAlertRequest {
        id,
        for_seconds,
        note: fields.get("note").cloned().unwrap_or_default(),
    };
    ask::acknowledge(&page.admin, request).await?;
    let back = fields.get("next").map_or("/alerts", String::as_str);
    Ok(login::see_other(login::local(back)))
}

async fn inventory(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
) -> Answer {
    let now = clock::now();
    let told = ask::inventory(&page.admin).await?;
    let inventory = view::inventory::Inventory::new(&told, now);
    let status = ask::status(&page.admin).await?;
    let frame = frame(&page, &visitor, &status.fleet, "/inventory", now);
    shown(&frame, "Inventory", render::inventory::page(&inventory))
}

async fn events(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Answer {
    let now = clock::now();
    let query = login::fields(query.unwrap_or_default().as_bytes());
    let before: Option<u64> = query.get("before").and_then(|id| id.parse().ok());
    let events = match before {
        // Ids are given one after the other: so many lie between.
        Some(before) => {
            let after = before.saturating_sub(u64::from(EVENTS) + 1);
            ask::events_between(&page.admin, after, before).await?
        }
        None => ask::newest_events(&page.admin, ask::Of::Everybody, EVENTS).await?,
    };
    let rows = view::event::rows(&events, now);
    let older = rows.last().map(|row| row.id).filter(|id| *id > 1);
    let status = ask::status(&page.admin).await?;
    let frame = frame(&page, &visitor, &status.fleet, "/events", now);
    shown(
        &frame,
        "Events",
        render::event::page(&rows, older, before.is_none()),
    )
}

/// For Prometheus, which comes through the same door.
async fn metrics(State(page): State<Arc<Page>>) -> Answer {
    let registry = &page.admin.registry;
    let facts = registry
        .facts()
        .await
        .ok_or_else(|| Status::unavailable("the issuer is stopping"))?;
    // The rest is told though nobody answers for alerts.
    let open = ask::alerts(&page.admin, false)
        .await
        .unwrap_or_default()
        .alerts;
    let text = metrics::render(&facts, &open, registry.measured(), clock::now());
    let kind = HeaderValue::from_static(certwell_metrics::text::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn missing(text: &str) -> Refusal {
    Refusal::Answer(StatusCode::NOT_FOUND, text.to_owned())
}
