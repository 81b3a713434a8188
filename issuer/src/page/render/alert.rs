//! Alerts, with the one control of the page: somebody takes one.

use maud::{Markup, html};

use super::parts;
use crate::page::view::alert::{Alert, Member};

/// For how long one takes an alert, in seconds, and how that is called.
pub const SPANS: [(u32, &str); 5] = [
    (3_600, "1 hour"),
    (4 * 3_600, "4 hours"),
    (12 * 3_600, "12 hours"),
    (24 * 3_600, "1 day"),
    (3 * 24 * 3_600, "3 days"),
];

/// The page of all alerts.
pub fn page(open: &[Alert], past: &[Alert], form_token: Option<&str>) -> Markup {
    html! {
        h1 { "Alerts" }
        section aria-labelledby="open" {
            h2 id="open" { "Open" }
            @if open.is_empty() { p.empty { "✓ None is open." } }
            @else { (list(open, form_token, "/alerts")) }
        }
        @if !past.is_empty() {
            section aria-labelledby="past" {
                h2 id="past" { "Past" }
                ul.past {
                    @for alert in past {
                        li {
                            (parts::mark(alert.mark)) " "
                            span.title { (alert.title) } " "
                            span.quiet {
                                @if let Some(at) = &alert.resolved { (parts::when(at)) }
                                ", it began " (parts::when(&alert.since))
                                @if let Some(taken) = &alert.acknowledged {
                                    ", acknowledged by " (taken.by)
                                    @if !taken.note.is_empty() { ": " (taken.note) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Open alerts on the first page; nothing where none is.
pub(super) fn section(open: &[Alert], form_token: Option<&str>) -> Markup {
    html! {
        @if !open.is_empty() {
            section aria-labelledby="alerts" {
                h2 id="alerts" { "Open alerts" }
                (list(open, form_token, "/"))
            }
        }
    }
}

fn list(alerts: &[Alert], form_token: Option<&str>, back: &str) -> Markup {
    html! { ul.alerts { @for alert in alerts { (one(alert, form_token, back)) } } }
}

fn one(alert: &Alert, form_token: Option<&str>, back: &str) -> Markup {
    html! {
        li class=(alert.mark.tone.class()) id=(format!("alert-{}", alert.id)) {
            h3 { (parts::mark(alert.mark)) " " span.title { (alert.title) } }
            p.quiet {
                "Number " (alert.id) ", since " (parts::when(&alert.since)) ", class " code { (alert.class) }
                @if let Some(until) = &alert.silenced { ", silenced, until " (parts::when(until)) }
            }
            p { (alert.cause) }
            @if !alert.members.is_empty() { ul.members { @for of in &alert.members { li { (member(of)) } } } }
            @if !alert.next.is_empty() { p.next { (alert.next) } }
            @if !alert.command.is_empty() { p { "Run " code { (alert.command) } } }
            @for text in &alert.deliveries { p.quiet { (text) } }
            @match &alert.acknowledged {
                Some(taken) => {
                    p.taken {
                        "✓ Acknowledged by " (taken.by) ", until " (parts::when(&taken.until))
                        @if !taken.note.is_empty() { ": " (taken.note) }
                    }
                }
                None => (acknowledge(alert, form_token, back))
            }
        }
    }
}

fn member(of: &Member) -> Markup {
    html! {
        @if !of.host.is_empty() { (parts::host(&of.host)) " " }
        @if !of.certificate.is_empty() { (parts::certificate(&of.certificate)) " " }
        span.problem { (of.text) }
        @if !of.served.is_empty() {
            span.quiet {
                " serves " (of.served)
                @if let Some(ends) = &of.ends { ", which ends " (parts::dated(ends)) }
            }
        }
    }
}

fn acknowledge(alert: &Alert, form_token: Option<&str>, back: &str) -> Markup {
    html! {
        @match form_token {
            None => {
                p { a href=(parts::with_next("/login", back)) { "Log in to acknowledge alert " (alert.id) } }
            }
            Some(token) => {
                form.acknowledge method="post" action=(format!("/alerts/{}/acknowledge", alert.id)) {
                    input type="hidden" name="form" value=(token);
                    input type="hidden" name="next" value=(back);
                    label for=(format!("for-{}", alert.id)) { "For" }
                    select id=(format!("for-{}", alert.id)) name="for" {
                        @for (seconds, span) in SPANS {
                            option value=(seconds) selected[seconds == 4 * 3_600] { (span) }
                        }
                    }
                    label for=(format!("note-{}", alert.id)) { "Note" }
                    input id=(format!("note-{}", alert.id)) name="note" type="text" maxlength="200" autocomplete="off";
                    button type="submit" { "Acknowledge alert " (alert.id) }
                }
            }
        }
    }
}
