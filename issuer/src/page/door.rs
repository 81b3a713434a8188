//! What every request passes: its host, its limits, whether it may look; and what every answer carries.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{Page, origin, refusal::Refusal, session::Session};
use crate::clock;

/// The name of the session's cookie.
pub(super) const COOKIE: &str = "certwell-session";
/// From a request's headers to the headers of its answer.
const LIMIT: Duration = Duration::from_secs(20);
/// Shown to whoever comes: they say nothing of the fleet.
const OPEN: &[&str] = &["/login", "/page.css", "/page.js", "/favicon.svg"];

/// Everything from here, nothing from elsewhere, nothing inside the text; in no other page's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HEADERS: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Not no-referrer: browsers would then leave the origin out of forms.
    ("referrer-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Who sends a request.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Once logged in.
    pub(super) session: Option<Session>,
    /// The page's own origin, as the request sees it.
    pub(super) origin: String,
    /// Path and query, to come back to.
    pub(super) path: String,
}

/// Admits a request, or refuses it; sees to the headers of either answer.
pub(super) async fn guard(
    State(page): State<Arc<Page>>,
    mut request: Request,
    next: Next,
) -> Response {
    let answer = match admit(&page, &request) {
        Err(refusal) => refusal.into_response(),
        Ok(visitor) => {
            request.extensions_mut().insert(visitor);
            match tokio::time::timeout(LIMIT, next.run(request)).await {
                Ok(answer) => answer,
                Err(_) => Refusal::Slow.into_response(),
            }
        }
    };
    let mut answer = answer;
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn admit(page: &Page, request: &Request) -> Result<Visitor, Refusal> {
    let headers = request.headers();
    let uri = request.uri();
    // A request line with a host of its own goes before the header, so there must be none.
    if uri.authority().is_some() {
        return Err(Refusal::Host("a request line holds a path alone"));
    }
    let origin = origin::own_origin(headers, page.origin.as_deref()).map_err(Refusal::Host)?;
    let visitor = Visitor {
        session: session(page, headers),
        origin,
        path: uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
    };
    let may_read = !page.reading_needs_token
        || visitor.session.is_some()
        || bearer(headers).is_some_and(|token| page.token.is(token));
    if may_read || OPEN.contains(&uri.path()) {
        Ok(visitor)
    } else {
        Err(Refusal::LoginNeeded(visitor.path))
    }
}

fn session(page: &Page, headers: &HeaderMap) -> Option<Session> {
    let now = clock::now();
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .find_map(|(_, value)| Session::open(value, &page.key, now))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Whether this visitor may change something by this form, which was sent by the page itself and holds `form_token`.
///
/// # Errors
/// Why not.
pub(super) fn may_change(
    page: &Page,
    visitor: &Visitor,
    headers: &HeaderMap,
    form_token: Option<&str>,
) -> Result<(), Refusal> {
    same_origin(visitor, headers)?;
    let session = visitor
        .session
        .ok_or_else(|| Refusal::LoginNeeded("/".to_owned()))?;
    let made = form_token.is_some_and(|token| session.has_made(token, &page.key, clock::now()));
    made.then_some(()).ok_or(Refusal::StaleForm)
}

/// Whether a form was sent by the page itself.
///
/// # Errors
/// When it wasn't.
pub(super) fn same_origin(visitor: &Visitor, headers: &HeaderMap) -> Result<(), Refusal> {
    origin::is_same(headers, &visitor.origin)
        .then_some(())
        .ok_or(Refusal::OtherOrigin)
}

/// What is answered in the place of a page that isn't there.
pub(super) fn nowhere() -> Response {
    Refusal::Answer(StatusCode::NOT_FOUND, "There is no such page here.".into()).into_response()
}
