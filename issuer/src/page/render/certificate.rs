//! One certificate.

use maud::{Markup, html};

use super::{event, horizon, parts, seen};
use crate::page::view::{
    cell::{Cell, FACTS},
    certificate::{Certificate, OnHost},
    event::Row,
};

/// Its content.
pub fn page(certificate: &Certificate, events: &[Row]) -> Markup {
    html! {
        p.crumb { "Certificate" }
        h1 { (parts::breakable(&certificate.name)) }
        (parts::headline(certificate.tone, &certificate.headline.text))
        @if let Some(next) = &certificate.next { p.next { (next) } }
        (about(certificate))
        @if !certificate.horizon.lines.is_empty() {
            section aria-labelledby="horizon" {
                h2 id="horizon" { "Horizon" }
                (horizon::horizon(&certificate.horizon))
            }
        }
        section aria-labelledby="hosts" {
            h2 id="hosts" { "Hosts" }
            @if certificate.hosts.is_empty() { p.empty { "No host is to serve it." } }
            @for host in &certificate.hosts { (on_host(host, &host.cell.host, parts::host(&host.cell.host))) }
        }
        @if !certificate.findings.is_empty() || !certificate.elsewhere.is_empty() {
            section.problems aria-labelledby="outside" {
                h2 id="outside" { "From outside" }
                ul {
                    @for (text, since) in &certificate.findings {
                        li { span.problem { (text) } " " span.quiet { "since " (parts::when(since)) } }
                    }
                }
                (seen::looks(&certificate.elsewhere, "Where public DNS leads that is no host of it"))
            }
        }
        @if !certificate.sentences.is_empty() {
            section aria-labelledby="explained" {
                h2 id="explained" { "Explained" }
                @for sentence in &certificate.sentences { p.sentence { (sentence) } }
            }
        }
        (event::history(events, &certificate.name))
    }
}

fn about(certificate: &Certificate) -> Markup {
    html! {
        dl.about {
            div { dt { "Covers" } dd { @for name in &certificate.identifiers { span.identifier { (parts::breakable(name)) } " " } } }
            div {
                dt { "Generation" }
                dd { @if certificate.generation == 0 { "none yet" } @else { (certificate.generation) } }
            }
            @if !certificate.authority.is_empty() { div { dt { "Authority" } dd { (certificate.authority) } } }
            @if let Some((begin, end)) = &certificate.life {
                div { dt { "Valid from" } dd { (parts::dated(begin)) } }
                div { dt { "Valid until" } dd { (parts::dated(end)) } }
            }
            @if certificate.paused { div { dt { "Renewal" } dd { "paused: no orders and no offers" } } }
            @else if let Some(renewal) = &certificate.renewal { div { dt { "Renewal" } dd { (parts::dated(renewal)) } } }
            @if certificate.ignores_dns { div { dt { "Public DNS" } dd { "not looked at: " code { "probe-dns = false" } } } }
        }
    }
}

/// A certificate on a host, under the name of the one that the page isn't about, which a link leads to: inside, since a
/// summary is one control, and those who hear it get no other one in it.
pub(super) fn on_host(host: &OnHost, name: &str, link: Markup) -> Markup {
    html! {
        details.on-host id=(format!("on-{name}")) open[!host.cell.is_well()] {
            summary {
                h3 { (parts::breakable(name)) }
                (parts::cell(&host.cell))
            }
            p { "Everything about " (link) }
            @if !host.cell.problem.is_empty() { p.problem { (host.cell.problem) } }
            @if let Some(ends) = &host.ends { p.quiet { "What it serves ends " (parts::dated(ends)) "." } }
            (facts(&host.cell))
            (listeners(host))
            (seen::looks(&host.looks, "Seen from outside"))
        }
    }
}

fn facts(cell: &Cell) -> Markup {
    html! {
        table.facts role="table" {
            caption { "The seven facts" }
            thead role="rowgroup" {
                tr role="row" { @for name in FACTS { th scope="col" role="columnheader" { (name) } } }
            }
            tbody role="rowgroup" {
                tr role="row" {
                    @for (name, fact) in FACTS.iter().zip(&cell.facts) {
                        td role="cell" {
                            span.of { (name) }
                            @match fact {
                                None => { span.never { "not yet" } }
                                Some(fact) => {
                                    span.generation {
                                        @match fact.generation {
                                            Some(generation) => { (generation) }
                                            None => { "another" }
                                        }
                                    }
                                    " · " (parts::when(&fact.at))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn listeners(host: &OnHost) -> Markup {
    html! {
        @if !host.listeners.is_empty() {
            table.listeners role="table" {
                caption { "Listeners, as the host’s own handshakes found them" }
                thead role="rowgroup" {
                    tr role="row" {
                        @for name in ["Address", "Name", "State", "Leaf"] { th scope="col" role="columnheader" { (name) } }
                    }
                }
                tbody role="rowgroup" {
                    @for listener in &host.listeners {
                        tr role="row" {
                            td role="cell" { code { (listener.address) } }
                            td role="cell" { (parts::breakable(&listener.name)) }
                            td role="cell" { (parts::mark(listener.mark)) }
                            td role="cell" { code title=(listener.fingerprint) { (listener.fingerprint.get(..12).unwrap_or("")) } }
                        }
                    }
                }
            }
        }
    }
}
