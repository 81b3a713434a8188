//! Certificates by hosts. On a narrow screen the stylesheet makes a list of each row; roles keep it a table for those
//! who hear it.

use maud::{Markup, html};

use super::parts;
use crate::page::view::{
    cell::Cell,
    matrix::{Grid, Line, Matrix},
};

pub(super) fn matrix(matrix: &Matrix) -> Markup {
    match matrix {
        Matrix::Empty => html! {
            p.empty { "No certificate is to be served yet: declare one, with its hosts, in the issuer’s configuration." }
        },
        Matrix::Grid(grid) => table(grid),
        Matrix::Summary(lines) => summary(lines),
    }
}

fn table(grid: &Grid) -> Markup {
    let column = |name: &str| match grid.rows_are_hosts {
        true => parts::certificate(name),
        false => parts::host(name),
    };
    let row = |name: &str| match grid.rows_are_hosts {
        true => parts::host(name),
        false => parts::certificate(name),
    };
    html! {
        table.matrix role="table" {
            caption.quiet { "Each cell: the state, and the furthest fact that the desired generation has reached there." }
            thead role="rowgroup" {
                tr role="row" {
                    th scope="col" role="columnheader" { (if grid.rows_are_hosts { "Host" } else { "Certificate" }) }
                    @for name in &grid.columns { th scope="col" role="columnheader" { (column(name)) } }
                }
            }
            tbody role="rowgroup" {
                @for (name, cells) in &grid.rows {
                    tr role="row" {
                        th scope="row" role="rowheader" { (row(name)) }
                        @for (column, cell) in grid.columns.iter().zip(cells) { (one(column, cell.as_ref())) }
                    }
                }
            }
        }
    }
}

fn one(column: &str, cell: Option<&Cell>) -> Markup {
    html! {
        @match cell {
            None => { td.unwanted role="cell" { span.of { (column) } span { "not wanted here" } } }
            Some(cell) => {
                td role="cell" class=(cell.mark.tone.class()) {
                    span.of { (column) }
                    (parts::cell(cell))
                }
            }
        }
    }
}

fn summary(lines: &[Line]) -> Markup {
    html! {
        p.quiet { "Only what isn’t well is shown host by host." }
        ul.summary {
            @for line in lines {
                li {
                    p {
                        (parts::certificate(&line.certificate)) " "
                        span.counts {
                            @for (mark, count) in &line.counts {
                                span class=(format!("mark {}", mark.tone.class())) {
                                    span aria-hidden="true" { (mark.symbol) } " " (count) " " (mark.word)
                                } " "
                            }
                            @if line.counts.is_empty() { span.mark.plain { "no host is to serve it" } }
                        }
                    }
                    @if !line.troubles.is_empty() {
                        ul.troubles {
                            @for cell in &line.troubles {
                                li class=(cell.mark.tone.class()) {
                                    (parts::host(&cell.host)) " " (parts::cell(cell))
                                    @if !cell.problem.is_empty() { p.problem { (cell.problem) } }
                                }
                            }
                            @if line.more > 0 {
                                li { a href=(parts::certificate_path(&line.certificate)) { "and " (line.more) " more" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
