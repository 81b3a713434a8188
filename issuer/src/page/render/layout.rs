//! What every page has: landmarks, the way around, the time that it was made.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use maud::{DOCTYPE, Markup, html};

use crate::page::view::moment::Moment;

/// The pages that one goes to from everywhere.
const PLACES: &[(&str, &str)] = &[
    ("/", "Fleet"),
    ("/hosts", "Hosts"),
    ("/inventory", "Inventory"),
    ("/alerts", "Alerts"),
    ("/events", "Events"),
];

/// What surrounds a page.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The fleet's name.
    pub fleet: String,
    /// When the page was made.
    pub made: Moment,
    /// The path of the place that is shown, for the way around.
    pub place: &'static str,
    /// Goes into the form that logs out; `None`: nobody is logged in.
    pub form_token: Option<String>,
    /// Path and query, to come back to after the login.
    pub path: String,
}

/// A page as an answer.
pub fn html(page: Markup) -> Response {
    let mut answer = page.into_string().into_response();
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    answer
}

/// A whole page.
pub fn page(frame: &Frame, title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&format!("{title} · {}", frame.fleet)))
            body data-live="" {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    p.brand { a href="/" { "certwell" } " " span.fleet { (frame.fleet) } }
                    nav aria-label="Pages" {
                        ul {
                            @for (path, name) in PLACES {
                                li { a href=(path) aria-current=[(*path == frame.place).then_some("page")] { (name) } }
                            }
                        }
                    }
                    (account(frame))
                }
                main id="main" tabindex="-1" { (body) }
                footer {
                    p {
                        "As of " time datetime=(frame.made.machine) { (frame.made.exact) } ". "
                        span id="live" role="status" { a href=(frame.path) { "Reload" } }
                    }
                }
            }
        }
    }
}

fn account(frame: &Frame) -> Markup {
    html! {
        div.account {
            @match &frame.form_token {
                Some(token) => {
                    form method="post" action="/logout" {
                        input type="hidden" name="form" value=(token);
                        button type="submit" { "Log out" }
                    }
                }
                None => { a href=(super::parts::with_next("/login", &frame.path)) { "Log in" } }
            }
        }
    }
}

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="robots" content="noindex";
            title { (title) }
            link rel="stylesheet" href="/page.css";
            link rel="icon" type="image/svg+xml" href="/favicon.svg";
            script src="/page.js" defer {}
        }
    }
}

/// A page that is nothing but a few words, before it is known whom they reach.
pub fn plain(title: &str, text: &str) -> Markup {
    bare(
        title,
        html! {
            h1 { (title) }
            p { (text) }
            p { a href="/" { "To the fleet" } }
        },
    )
}

/// A page that says nothing of the fleet.
pub(super) fn bare(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&format!("{title} · certwell")))
            body {
                main.bare id="main" {
                    p.brand { "certwell" }
                    (body)
                }
            }
        }
    }
}
