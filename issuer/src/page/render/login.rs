//! The form for the token.

use maud::{Markup, html};

use super::layout;

/// Leads to `next` with the right token.
pub(in crate::page) fn page(next: &str, wrong: bool) -> Markup {
    layout::bare(
        "Log in",
        html! {
            h1 { "Log in" }
            @if wrong {
                p.wrong id="wrong" role="alert" { "✗ That isn’t the token." }
            }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "The page’s token" }
                input id="token" name="token" type="password" autocomplete="current-password" required autofocus
                    aria-describedby=(if wrong { "wrong hint" } else { "hint" });
                p.hint id="hint" {
                    "On the issuer’s machine " code { "certwell page --token" } " prints it."
                }
                button type="submit" { "Log in" }
            }
        },
    )
}
