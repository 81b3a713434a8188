//! `certwell events`, and how an event reads.

use certwell_proto::{Exit, v1};
use tokio_stream::StreamExt as _;

use super::{
    args::Format,
    client::{Admin, CliError},
    json,
    screen::Screen,
};
use crate::plan::words;

/// Past events, oldest first, then new ones.
pub(super) async fn events(
    mut admin: Admin,
    request: v1::EventsRequest,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let follow = request.follow;
    let mut stream = admin.events(request).await?.into_inner();
    let mut any = false;
    while let Some(event) = stream.next().await {
        let event = event?;
        any = true;
        if format.json {
            screen.json_line(&json::Event::from(event))?;
        } else {
            let at = words::from_millis(event.at_ms).strftime("%Y-%m-%d %H:%M:%SZ");
            screen.sentence(&format!("{at} {}", sentence(&event)), 21)?;
        }
    }
    if follow {
        return Err(CliError::new(
            Exit::Unreachable,
            "the issuer ended the stream of events; is certwell-issuer being restarted?",
        ));
    }
    if !any && !format.json {
        screen.line("nothing has happened yet")?;
    }
    Ok(Exit::Done)
}

/// Kind, what it is about unless its text says so, and its text.
fn sentence(event: &v1::Event) -> String {
    let certificate = &event.certificate;
    if certificate.is_empty() || event.text.contains(certificate.as_str()) {
        on_host(event, "")
    } else {
        on_host(event, &format!("{certificate}: "))
    }
}

/// The same where everything is about one certificate.
pub(super) fn of_one_certificate(event: &v1::Event) -> String {
    on_host(event, "")
}

fn on_host(event: &v1::Event, certificate: &str) -> String {
    let kind = words::kind_word(event.kind());
    if event.host.is_empty() || event.text.contains(event.host.as_str()) {
        format!("{kind}: {certificate}{}", event.text)
    } else {
        format!("{kind}: {certificate}{}: {}", event.host, event.text)
    }
}
