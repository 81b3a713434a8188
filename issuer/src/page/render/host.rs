//! The hosts, and one of them.

use maud::{Markup, html};

use super::{certificate::on_host, event, parts};
use crate::page::view::{
    event::Row as Event,
    host::{Host, Row},
    mark::Tone,
};

/// All of them.
pub fn list(rows: &[Row]) -> Markup {
    html! {
        h1 { "Hosts" }
        @if rows.is_empty() { p.empty { "No host is declared: add [host.NAME] to the issuer’s configuration." } }
        @else {
            table.hosts role="table" {
                caption.sr { "Every declared host, those in trouble first" }
                thead role="rowgroup" {
                    tr role="row" {
                        @for name in ["Host", "State", "Last heard", "Certificates", "Labels"] {
                            th scope="col" role="columnheader" { (name) }
                        }
                    }
                }
                tbody role="rowgroup" { @for row in rows { (one(row)) } }
            }
        }
    }
}

fn one(row: &Row) -> Markup {
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (parts::host(&row.name)) }
            td role="cell" {
                (parts::mark(row.mark))
                @if !row.problem.is_empty() { p.problem { (row.problem) } }
            }
            td role="cell" {
                span.of { "Last heard" }
                @match &row.last_seen {
                    Some(at) => { (parts::when(at)) }
                    None => { "never" }
                }
            }
            td role="cell" {
                span.of { "Certificates" }
                (row.certificates)
                @if row.troubled > 0 { ", " span.mark.warn { (row.troubled) " not well" } }
            }
            td role="cell" {
                @if !row.labels.is_empty() { span.of { "Labels" } }
                @for label in &row.labels { span.label { (label) } " " }
            }
        }
    }
}

/// One host.
pub fn page(host: &Host, events: &[Event]) -> Markup {
    let row = &host.row;
    html! {
        p.crumb { "Host" }
        h1 { (parts::breakable(&row.name)) }
        p class=(format!("headline {}", row.mark.tone.class())) id="headline" {
            span.symbol aria-hidden="true" { (row.mark.symbol) }
            span {
                (parts::upper_first(&format!("{} ", row.mark.word)).trim_end())
                @if row.mark.tone != Tone::Plain {
                    @if let Some(at) = &row.last_seen { ", last heard " (parts::when(at)) }
                }
                "."
            }
        }
        @if !row.problem.is_empty() { p.problem { (row.problem) } }
        dl.about {
            @for (name, value) in &host.info { div { dt { (name) } dd { (value) } } }
            @if let Some(ends) = &host.identity_ends { div { dt { "Identity until" } dd { (parts::dated(ends)) } } }
            @if !row.labels.is_empty() { div { dt { "Labels" } dd { @for label in &row.labels { span.label { (label) } " " } } } }
        }
        section aria-labelledby="certificates" {
            h2 id="certificates" { "Certificates" }
            @if host.certificates.is_empty() { p.empty { "It needs none." } }
            @for one in &host.certificates { (on_host(one, &one.cell.certificate, parts::certificate(&one.cell.certificate))) }
        }
        (event::history(events, &row.name))
    }
}
