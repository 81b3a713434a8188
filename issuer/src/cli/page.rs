//! `certwell page`: where the page for browsers is, and how to log in.

use certwell_proto::{Exit, v1};

use super::{
    args::Format,
    client::{Admin, CliError, ask},
    json,
    screen::Screen,
};

#[derive(serde::Serialize)]
struct Page<'a> {
    url: &'a str,
    token_file: &'a str,
    reading_needs_token: bool,
}

/// Tells the address, or the token alone.
pub(super) async fn page(
    mut admin: Admin,
    token: bool,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let page = ask(admin.page(v1::PageRequest { token })).await?;
    if page.url.is_empty() {
        return Err(CliError::new(
            Exit::NotFound,
            "the issuer serves no page: `listen` in [page] of its configuration is \"\", or its address is taken",
        ));
    }
    if token {
        screen.line(&page.token)?;
    } else if format.json {
        screen.json(&json::Document::new(Page {
            url: &page.url,
            token_file: &page.token_file,
            reading_needs_token: page.reading_needs_token,
        }))?;
    } else {
        screen.line(&page.url)?;
        let who = if page.reading_needs_token {
            "Log in"
        } else {
            "Whoever reaches it may look; to acknowledge alerts, log in"
        };
        screen.sentence(
            &format!(
                "{who} with the token in {}, which `certwell page --token` prints",
                page.token_file
            ),
            0,
        )?;
    }
    Ok(Exit::Done)
}
