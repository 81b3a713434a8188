//! What is seen from outside.

use maud::{Markup, html};

use super::parts;
use crate::page::view::seen::Look;

pub(super) fn looks(looks: &[Look], caption: &str) -> Markup {
    html! {
        @if !looks.is_empty() {
            table.looks role="table" {
                caption { (caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for name in ["Address", "Name", "State", "Key, TLS", "Leaf ends", "Looked"] {
                            th scope="col" role="columnheader" { (name) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for look in looks {
                        tr role="row" {
                            td role="cell" {
                                code { (look.address) }
                                @if look.by_dns { " " span.label { "by DNS" } }
                            }
                            td role="cell" { (parts::breakable(&look.name)) }
                            td role="cell" {
                                (parts::mark(look.mark))
                                @if !look.text.is_empty() { p.problem { (look.text) } }
                            }
                            td role="cell" { (look.how) }
                            td role="cell" {
                                span.of { "Leaf ends" }
                                @if let Some(ends) = &look.ends { (parts::when(ends)) } @else { "–" }
                            }
                            td role="cell" { span.of { "Looked" } (parts::when(&look.at)) }
                        }
                    }
                }
            }
        }
    }
}
