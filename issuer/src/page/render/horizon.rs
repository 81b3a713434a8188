//! The axis of ends: drawn for the eye, and each line in words for all others. Places are attributes in percent, for
//! the policy of the page allows no style inside the text.

use maud::{Markup, html};

use super::parts;
use crate::page::view::horizon::{Horizon, Line, Point};

/// Lines that are shown before one asks for the rest.
const SHOWN: usize = 15;

pub(super) fn horizon(horizon: &Horizon) -> Markup {
    if horizon.lines.is_empty() {
        return html! { p.empty { "Nothing is issued yet." } };
    }
    let shown = horizon.lines.len().min(SHOWN);
    let (first, rest) = horizon.lines.split_at(shown);
    html! {
        p.quiet.legend {
            "From now to the right" @if horizon.bent { ", with more room for what is near" } ": "
            span { span.key.renewal aria-hidden="true" { "◆" } " planned renewal," } " "
            span { span.key aria-hidden="true" { "¼" } " last quarter of its life," } " "
            span { span.key aria-hidden="true" { "⅛" } " last eighth," } " "
            span { span.key.end aria-hidden="true" { "▌" } " end." }
        }
        div.horizon {
            (axis(horizon))
            ol { @for line in first { (one(line)) } }
            @if !rest.is_empty() {
                details id="later" {
                    summary { (rest.len()) " more that end later" }
                    ol { @for line in rest { (one(line)) } }
                }
            }
        }
    }
}

fn axis(horizon: &Horizon) -> Markup {
    html! {
        div.axis aria-hidden="true" {
            svg width="100%" height="18" {
                text x="0" y="13" { "now" }
                @for (place, label) in &horizon.ticks {
                    text x=(percent(*place)) y="13" text-anchor="middle" { (label) }
                }
            }
        }
    }
}

fn one(line: &Line) -> Markup {
    let at = |wanted: Point| {
        line.points
            .iter()
            .find(|(point, _)| *point == wanted)
            .map(|(_, place)| *place)
    };
    let end = at(Point::End).unwrap_or(0.0);
    // What is past has no place: then it began before now. Without fractions all of it is one.
    let begins = |point: Point| match line.has_fractions {
        true => at(point).unwrap_or(0.0),
        false => end,
    };
    let (quarter, eighth) = (begins(Point::Quarter), begins(Point::Eighth));
    html! {
        li class=(line.tone.class()) {
            p {
                span.name { (parts::certificate(&line.certificate)) " " span.what { (line.what) } }
                span.left {
                    span aria-hidden="true" { (parts::symbol(line.tone)) " " }
                    (line.left)
                    @if !line.renewal.is_empty() { span.renewal { " · " (line.renewal) } }
                }
            }
            p.sr { (line.sentence) }
            svg width="100%" height="28" aria-hidden="true" focusable="false" {
                line.ground x1="0" x2="100%" y1="18" y2="18" {}
                (bar("life", 0.0, quarter))
                (bar("quarter", quarter, eighth))
                (bar("eighth", eighth, end))
                @if let Some(place) = at(Point::Quarter) { (tick(place, "¼")) }
                @if let Some(place) = at(Point::Eighth) { (tick(place, "⅛")) }
                @if let Some(place) = at(Point::Renewal) {
                    svg.renewal x=(percent(place)) y="18" overflow="visible" { path d="M0 -8 6 0 0 8 -6 0z" {} }
                }
                rect.end x=(percent(end)) y="9" width="4" height="18" {}
            }
        }
    }
}

fn bar(class: &str, from: f64, to: f64) -> Markup {
    html! { @if to > from { rect class=(class) x=(percent(from)) y="14" height="8" width=(percent(to - from)) {} } }
}

fn tick(place: f64, label: &str) -> Markup {
    html! {
        line.tick x1=(percent(place)) x2=(percent(place)) y1="12" y2="24" {}
        text.fraction x=(percent(place)) y="10" text-anchor="middle" { (label) }
    }
}

fn percent(place: f64) -> String {
    format!("{place:.2}%")
}
