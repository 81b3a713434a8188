//! The first page.

use maud::{Markup, html};

use super::{alert, horizon, matrix, parts};
use crate::page::view::{
    alert::Alert,
    fleet::{Fleet, Problem},
};

/// Its content; alerts can be acknowledged by a form with this token.
pub fn fleet(fleet: &Fleet, open: &[Alert], form_token: Option<&str>) -> Markup {
    html! {
        h1.sr { "The fleet " (fleet.name) " at a glance" }
        (parts::headline(fleet.tone, &fleet.headline.text))
        (alert::section(open, form_token))
        (problems(&fleet.problems, fleet.more_problems))
        section aria-labelledby="matrix" {
            h2 id="matrix" { "Certificates and hosts" }
            (matrix::matrix(&fleet.matrix))
            (hosts(fleet))
        }
        section aria-labelledby="horizon" {
            h2 id="horizon" { "Horizon" }
            (horizon::horizon(&fleet.horizon))
        }
    }
}

fn problems(problems: &[Problem], more: usize) -> Markup {
    html! {
        @if !problems.is_empty() {
            section.problems aria-labelledby="problems" {
                h2 id="problems" { "In the way" }
                ul {
                    @for problem in problems {
                        li {
                            @if !problem.certificate.is_empty() {
                                span.about {
                                    (parts::certificate(&problem.certificate))
                                    @if !problem.host.is_empty() { " on " (parts::host(&problem.host)) }
                                } " "
                            }
                            span.problem { (problem.text) }
                        }
                    }
                    @if more > 0 { li.quiet { "and " (more) " more: see each certificate" } }
                }
            }
        }
    }
}

fn hosts(fleet: &Fleet) -> Markup {
    html! {
        p.hosts { a href="/hosts" { (fleet.connected) " of " (fleet.hosts) " hosts are connected" } "." }
        @if !fleet.lost.is_empty() {
            ul.lost {
                @for (name, mark, problem) in fleet.lost.iter().take(12) {
                    li {
                        (parts::host(name)) " " (parts::mark(*mark))
                        @if !problem.is_empty() { " " span.problem { (problem) } }
                    }
                }
                @if fleet.lost.len() > 12 {
                    li { a href="/hosts" { "and " (fleet.lost.len() - 12) " more" } }
                }
            }
        }
    }
}
