//! Every certificate of every host.

use maud::{Markup, html};

use super::parts;
use crate::page::view::inventory::{Inventory, Row};

/// Its content.
pub fn page(inventory: &Inventory) -> Markup {
    html! {
        h1 { "Inventory" }
        (parts::headline(inventory.tone, &inventory.headline))
        p.quiet { "Every certificate that any host’s server refers to or certbot keeps; managed or not, served or dead." }
        @if !inventory.gaps.is_empty() {
            section.problems aria-labelledby="gaps" {
                h2 id="gaps" { "Not known" }
                ul { @for gap in &inventory.gaps { li { (gap) } } }
            }
        }
        @if !inventory.rows.is_empty() {
            table.inventory role="table" {
                caption.sr { "All certificates, the worst first" }
                thead role="rowgroup" {
                    tr role="row" {
                        @for name in ["Names", "Ends", "Left", "Served", "Renewed by", "Where"] {
                            th scope="col" role="columnheader" { (name) }
                        }
                    }
                }
                tbody role="rowgroup" { @for row in &inventory.rows { (one(row)) } }
            }
        }
        @if !inventory.leftover.is_empty() {
            section aria-labelledby="leftover" {
                h2 id="leftover" { "Names that only leftovers cover" }
                ul.names { @for name in &inventory.leftover { li { code { (name) } } } }
            }
        }
    }
}

fn one(row: &Row) -> Markup {
    html! {
        tr role="row" class=[row.unmanaged.map(|_| "unmanaged")] {
            th scope="row" role="rowheader" {
                @match row.names.as_slice() {
                    [] => { "can’t be read" }
                    [first] => { (parts::breakable(first)) }
                    [first, rest @ ..] => {
                        details {
                            summary { (parts::breakable(first)) " +" (rest.len()) }
                            @for name in rest { (parts::breakable(name)) br; }
                        }
                    }
                }
                @if !row.issuer.is_empty() { p.quiet.by { "by " (row.issuer) } }
            }
            td role="cell" {
                span.of { "Ends" }
                @match &row.ends {
                    Some(at) => { (parts::when(at)) }
                    None => { "–" }
                }
            }
            td role="cell" {
                span.of { "Left" }
                span class=(format!("mark {}", row.tone.class())) {
                    span aria-hidden="true" { (parts::symbol(row.tone)) } " " (row.left)
                }
            }
            td role="cell" { span.of { "Served" } (row.served) }
            td role="cell" {
                span.of { "Renewed by" }
                @match row.unmanaged {
                    Some(mark) => { (parts::mark(mark)) }
                    None => { (row.managed) }
                }
            }
            td role="cell" {
                span.of { "Where" }
                details {
                    summary {
                        @match row.places.as_slice() {
                            [(host, ..)] => { (parts::breakable(host)) }
                            places => { (places.len() + row.more_places) " places" }
                        }
                    }
                    ul {
                        @for (_, place, problems) in &row.places {
                            li { (place) @for problem in problems { p.problem { "! " (problem) } } }
                        }
                        @if row.more_places > 0 {
                            li.quiet { "and " (row.more_places) " more; " code { "certwell inventory" } " names all" }
                        }
                    }
                }
            }
        }
    }
}
