//! `certwell-agent enroll TOKEN|-`.

use std::io::{self, Read as _};

use certwell_proto::{Exit, JoinToken};
use zeroize::Zeroizing;

use super::{Failure, exit_of_identity, failure_of, say};
use crate::{
    app, clock,
    config::Config,
    issuer::{
        DialError, IdentityStore,
        enrollment::{self, EnrollError},
    },
    tasks::identity::unix_now,
};

/// A token has some hundreds of characters.
const LONGEST_INPUT: u64 = 64 * 1024;

pub(super) async fn perform(config: &Config, token: &str, again: bool) -> Result<Exit, Failure> {
    let token = read_token(token)?;
    clock::plausible(clock::now()).map_err(|error| Failure::new(Exit::Configuration, error))?;
    let _lock = app::lock_state(config).map_err(|error| failure_of(&error))?;
    let store = IdentityStore::new(config.identity_directory());
    let info = app::gather_host_info(config).await;
    let enrolled = enrollment::enroll(&store, &token, again, info, unix_now())
        .await
        .map_err(|error| Failure::new(exit_of(&error), &error))?;
    say(format_args!(
        "enrolled as {} in fleet {} (identity {})",
        enrolled.host,
        enrolled.fleet,
        enrolled.fingerprint.short()
    ));
    say(
        "next: systemctl enable --now certwell-agent (or `certwell-agent run`), then `certwell-agent status`",
    );
    Ok(Exit::Done)
}

fn read_token(text: &str) -> Result<JoinToken, Failure> {
    let mut typed = Zeroizing::new(String::new());
    let text = if text == "-" {
        io::stdin()
            .take(LONGEST_INPUT)
            .read_to_string(&mut typed)
            .map_err(|error| {
                Failure::new(
                    Exit::Usage,
                    format!("the token can't be read from standard input: {error}"),
                )
            })?;
        typed.as_str()
    } else {
        text
    };
    text.parse().map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("the join token can't be used: {error}"),
        )
    })
}

fn exit_of(error: &EnrollError) -> Exit {
    match error {
        EnrollError::AlreadyEnrolled { .. } => Exit::Conflict,
        EnrollError::Dial(DialError::NoEndpoint) => Exit::Usage,
        EnrollError::Dial(DialError::Unreachable(_)) | EnrollError::NoAnswer(_) => {
            Exit::Unreachable
        }
        EnrollError::Dial(DialError::WrongIssuer { .. }) | EnrollError::Refused(_) => Exit::Denied,
        EnrollError::Identity(error) => exit_of_identity(error),
        EnrollError::Answer(_) | EnrollError::Key(_) | EnrollError::Tls(_) => Exit::Internal,
    }
}
