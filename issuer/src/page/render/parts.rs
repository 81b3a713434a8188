//! States, instants, links: what all pages are made of.

use maud::{Markup, html};

use crate::page::view::{
    cell::Cell,
    mark::{Mark, Tone},
    moment::Moment,
};

/// A state: symbol and word.
pub(super) fn mark(mark: Mark) -> Markup {
    html! {
        span class=(format!("mark {}", mark.tone.class())) {
            span aria-hidden="true" { (mark.symbol) } " " (mark.word)
        }
    }
}

/// An instant, near; exact for whoever points at it.
pub(super) fn when(moment: &Moment) -> Markup {
    html! { time datetime=(moment.machine) title=(moment.exact) { (moment.near) } }
}

/// An instant, exact and near.
pub(super) fn dated(moment: &Moment) -> Markup {
    html! { time datetime=(moment.machine) { (moment.exact) } " (" (moment.near) ")" }
}

/// The symbol that goes before a sentence of this tone.
pub(super) fn symbol(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "✓",
        Tone::Plain => "·",
        Tone::Busy => "…",
        Tone::Warn => "!",
        Tone::Bad => "✗",
    }
}

/// The one thing that matters.
pub(super) fn headline(tone: Tone, text: &str) -> Markup {
    html! {
        p class=(format!("headline {}", tone.class())) id="headline" {
            span.symbol aria-hidden="true" { (symbol(tone)) }
            span { (upper_first(text)) "." }
        }
    }
}

/// A sentence that begins one.
pub(super) fn upper_first(text: &str) -> String {
    let text = text.trim_end_matches('.');
    // Names keep their letters.
    match text.split_once(' ') {
        Some((word, _)) if word.chars().all(|c| c.is_ascii_lowercase()) => {
            let mut letters = text.chars();
            letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect())
                .unwrap_or_default()
        }
        _ => text.to_owned(),
    }
}

/// Where a certificate is shown.
pub(super) fn certificate(name: &str) -> Markup {
    html! { a href=(certificate_path(name)) { (breakable(name)) } }
}

/// Where a host is shown.
pub(super) fn host(name: &str) -> Markup {
    html! { a href=(format!("/hosts/{}", escaped(name))) { (breakable(name)) } }
}

/// The path of a certificate's page.
pub(super) fn certificate_path(name: &str) -> String {
    format!("/certificates/{}", escaped(name))
}

/// A name that may break after its dots and dashes, where the screen is narrow.
pub(super) fn breakable(name: &str) -> Markup {
    html! {
        @for part in name.split_inclusive(['.', '-', '/']) { (part) wbr; }
    }
}

/// `path` with where to go next.
pub(super) fn with_next(path: &str, next: &str) -> String {
    format!("{path}?next={}", escaped(next))
}

fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// How far it has come, as seven little bars.
pub(super) fn pips(cell: &Cell) -> Markup {
    html! { span class=(format!("pips r{} {}", cell.reached, cell.mark.tone.class())) aria-hidden="true" {} }
}

/// What one reads of a cell: state, furthest fact, when, what is served instead.
pub(super) fn cell(cell: &Cell) -> Markup {
    html! {
        (mark(cell.mark))
        span.fact {
            (cell.fact())
            @if cell.generation > 0 { " " span.generation { (cell.generation) } }
            @if let Some(at) = &cell.at { " · " (when(at)) }
        }
        @if !cell.serves.is_empty() { span.serves { (cell.serves) } }
        (pips(cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_begin_with_a_capital_and_names_stay_as_they_are() {
        for (text, shown) in [
            ("all 4 hosts serve media", "All 4 hosts serve media"),
            ("media.example.org: nothing", "media.example.org: nothing"),
            ("cdn-1 does not", "cdn-1 does not"),
            ("", ""),
        ] {
            assert_eq!(upper_first(text), shown);
        }
    }

    #[test]
    fn names_go_into_paths_escaped() {
        assert_eq!(certificate_path("a/b?c d"), "/certificates/a%2Fb%3Fc%20d");
        assert_eq!(
            with_next("/login", "/events?before=3"),
            "/login?next=%2Fevents%3Fbefore%3D3"
        );
        assert_eq!(
            host("<x>").into_string(),
            "<a href=\"/hosts/%3Cx%3E\">&lt;x&gt;<wbr></a>"
        );
    }
}
