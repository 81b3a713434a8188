//! What happened.

use maud::{Markup, html};

use super::parts;
use crate::page::view::event::Row;

/// Newest first, as a list.
/// What all of them are about isn't repeated.
pub(super) fn list(rows: &[Row], about: &str) -> Markup {
    html! {
        @if rows.is_empty() { p.empty { "Nothing has happened yet." } }
        @else {
            ol.events {
                @for row in rows {
                    li {
                        span.at { (parts::when(&row.at)) } " "
                        span.kind { (row.kind) } " "
                        span.text {
                            @if names(row, &row.certificate, about) {
                                (parts::certificate(&row.certificate)) ": "
                            }
                            @if names(row, &row.host, about) { (parts::host(&row.host)) ": " }
                            (row.text)
                        }
                    }
                }
            }
        }
    }
}

/// Whether a name says more than the text and the page do.
fn names(row: &Row, name: &str, about: &str) -> bool {
    !name.is_empty() && name != about && !row.text.contains(name)
}

/// The page of all events; `older` leads to those before.
pub fn page(rows: &[Row], older: Option<u64>, is_newest: bool) -> Markup {
    html! {
        h1 { "Events" }
        @if !is_newest { p { a href="/events" { "To the newest" } } }
        (list(rows, ""))
        @if let Some(before) = older {
            p { a rel="next" href=(format!("/events?before={before}")) { "Older ones" } }
        }
    }
}

/// The history on another page.
pub(super) fn history(rows: &[Row], of: &str) -> Markup {
    html! {
        section aria-labelledby="history" {
            h2 id="history" { "History" }
            @if rows.is_empty() { p.empty { "No event of " (of) " is among the newest." } }
            @else { (list(rows, of)) }
        }
    }
}
