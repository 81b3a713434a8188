//! In by the token, and out again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use axum::{
    Extension,
    body::Bytes,
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::{sleep, timeout};

use super::{
    Page,
    door::{self, COOKIE, Visitor},
    refusal::Refusal,
    render,
    session::{self, Session},
};
use crate::clock;

/// After a wrong token no other wrong one is answered for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// So long a wrong one waits for others.
const PATIENCE: Duration = Duration::from_secs(5);

/// The form.
pub(super) fn show(RawQuery(query): RawQuery) -> Response {
    let fields = fields(query.unwrap_or_default().as_bytes());
    let next = local(fields.get("next").map_or("/", String::as_str));
    render::layout::html(render::login::page(next, false)).into_response()
}

/// Compares the token, and begins a session.
pub(super) async fn enter(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    door::same_origin(&visitor, &headers)?;
    let fields = fields(&body);
    let next = local(fields.get("next").map_or("/", String::as_str));
    if !fields
        .get("token")
        .is_some_and(|token| page.token.is(token))
    {
        // They wait for each other; whoever has the right one waits for none of them.
        let turn = timeout(PATIENCE, page.guesses.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal::TooMany);
        };
        tracing::warn!("somebody tried to log in to the page with a wrong token");
        // By itself: whoever hangs up doesn't shorten it.
        tokio::spawn(async move {
            sleep(PAUSE).await;
            drop(turn);
        });
        return Err(Refusal::WrongToken(next.to_owned()));
    }
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| {
        Refusal::Answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The random generator failed.".into(),
        )
    })?;
    let value = Session::new(id).seal(&page.key, clock::now());
    Ok(go(next, &cookie(&visitor, &value, session::LIFE.as_secs())))
}

/// Takes the cookie away.
pub(super) async fn leave(
    State(page): State<Arc<Page>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let fields = fields(&body);
    door::may_change(
        &page,
        &visitor,
        &headers,
        fields.get("form").map(String::as_str),
    )?;
    Ok(go("/", &cookie(&visitor, "", 0)))
}

fn cookie(visitor: &Visitor, value: &str, seconds: i64) -> String {
    let secure = if visitor.origin.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn go(to: &str, cookie: &str) -> Response {
    let mut answer = see_other(to);
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
    answer
}

/// After a form that did something: the page that shows it.
pub(super) fn see_other(to: &str) -> Response {
    let mut answer = StatusCode::SEE_OTHER.into_response();
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    answer.headers_mut().insert(header::LOCATION, to);
    answer
}

/// What a form or a query holds; of several fields of one name the last.
pub(super) fn fields(encoded: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(encoded).into_owned().collect()
}

/// A path of ours, and nothing that a browser takes for another site.
pub(super) fn local(path: &str) -> &str {
    let fits = path.starts_with('/')
        && !path.starts_with("//")
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if fits { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_led_nowhere_but_here() {
        for path in ["/", "/hosts/sally", "/events?before=3"] {
            assert_eq!(local(path), path);
        }
        for path in [
            "",
            "//evil.example.net/",
            "https://evil.example.net/",
            "/\\evil.example.net",
            "\\\\evil",
            "/a\r\nset-cookie: b",
            "/ü",
            "javascript:alert(1)",
        ] {
            assert_eq!(local(path), "/", "{path:?}");
        }
    }
}
