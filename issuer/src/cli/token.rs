//! `certwell token create`: nothing but tokens on standard output, so that it can be piped.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use certwell_proto::{Exit, HostName, v1};

use super::{
    args::Format,
    client::{Admin, CliError, ask},
    json,
    screen::Screen,
};
use crate::plan::words;

#[derive(serde::Serialize)]
struct Tokens {
    tokens: Vec<Created>,
}

#[derive(serde::Serialize)]
struct Created {
    host: String,
    token: String,
    expires: String,
}

/// Makes a join token for each host.
pub(super) async fn create(
    mut admin: Admin,
    hosts: &[HostName],
    ttl: Duration,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let ttl_seconds = u32::try_from(ttl.as_secs())
        .map_err(|_| CliError::new(Exit::Usage, "--ttl: that is too long for a token"))?;
    let request = v1::CreateTokenRequest {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ttl_seconds,
    };
    let tokens = ask(admin.create_token(request)).await?.tokens;
    if format.json {
        let tokens = tokens
            .into_iter()
            .map(|t| Created {
                host: t.host,
                token: t.token,
                expires: json::millis(t.expires_ms),
            })
            .collect();
        screen.json(&json::Document::new(Tokens { tokens }))?;
        return Ok(Exit::Done);
    }
    for token in &tokens {
        if hosts.len() == 1 {
            screen.line(&token.token)?;
        } else {
            screen.line(&format!("{} {}", token.host, token.token))?;
        }
    }
    if let Some(token) = tokens.first() {
        writeln!(
            io::stderr(),
            "Give it to `certwell-agent enroll -` on {} before {}; it works once.",
            words::list(tokens.iter().map(|t| &t.host)),
            words::instant(words::from_millis(token.expires_ms))
        )?;
    }
    Ok(Exit::Done)
}
