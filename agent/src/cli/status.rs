//! `certwell-agent status`: what the running agent last saw, judged. It asks nobody, so it works when all else is
//! down.

use std::io;

use certwell_proto::Exit;
use serde::Serialize;

use super::{Failure, exit_of_identity, failure_of, say, say_json, seconds};
use crate::{
    app, clock,
    config::Config,
    disk::permissions::PermissionError,
    doctor::places::try_writing,
    issuer::{IdentityError, IdentityStore},
    plan::status::{self, Judgement},
    tasks::{installer::places, state_file::StateFile},
};

/// What `--json` prints: the state file, and what follows from it.
#[derive(Debug, Serialize)]
struct Status {
    #[serde(flatten)]
    state: StateFile,
    /// Whether an agent runs on this state directory.
    running: bool,
    /// Whether everything that is issued is served.
    converged: bool,
    /// Sentences, most pressing first.
    problems: Vec<String>,
}

pub(super) fn perform(config: &Config, json: bool) -> Result<Exit, Failure> {
    let identity = IdentityStore::new(config.identity_directory());
    let enrolled = match identity.is_enrolled() {
        Ok(true) => Ok(()),
        Ok(false) => Err(IdentityError::NotEnrolled),
        Err(error) => Err(error),
    };
    enrolled.map_err(|error| Failure::new(exit_of_identity(&error), error))?;
    let running = app::is_running(config).map_err(|error| failure_of(&error))?;
    let path = config.state_file();
    let state: StateFile = match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            Failure::new(
                Exit::Internal,
                format!(
                    "{} can't be read: {error}; it is made anew when the agent runs",
                    path.display()
                ),
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Exit::NotConverged,
                "the agent has not run here yet: systemctl restart certwell-agent",
            ));
        }
        Err(error) => {
            return Err(Failure::new(
                Exit::Denied,
                format!("{} can't be read: {error}", path.display()),
            ));
        }
    };
    let Judgement {
        mut converged,
        mut problems,
    } = status::judge(&state, running, clock::now());
    if !running && let Err(error @ PermissionError::Untrusted { .. }) = places::check(config) {
        // It won't start before that is mended.
        problems.insert(0, error.to_string());
    }
    let directory = &config.state_directory;
    if running && let Some(problem) = status::unwritable(directory, &try_writing(directory)) {
        converged = false;
        problems.insert(0, problem);
    }
    let status = Status {
        state,
        running,
        converged,
        problems,
    };
    if json {
        say_json(&status)?;
    } else {
        print(&status);
    }
    Ok(if status.converged {
        Exit::Done
    } else {
        Exit::NotConverged
    })
}

fn print(status: &Status) {
    let Status {
        state,
        running,
        problems,
        ..
    } = status;
    match (running, state.connected, state.since) {
        (false, ..) => say(format_args!(
            "{} in fleet {}: the agent is not running",
            state.host, state.fleet
        )),
        (true, true, Some(since)) => {
            say(format_args!(
                "{} in fleet {}: connected since {}",
                state.host,
                state.fleet,
                seconds(since)
            ));
        }
        _ => say(format_args!(
            "{} in fleet {}: not connected, last contact {}",
            state.host,
            state.fleet,
            state
                .last_contact
                .map_or_else(|| "never".to_owned(), |at| seconds(at).to_string())
        )),
    }
    if let Some(probe) = &state.probe {
        say(format_args!(
            "probe: {} of {} addresses of the fleet answered, last looked at {}",
            probe.answered,
            probe.addresses,
            seconds(probe.at)
        ));
    }
    let width = state
        .certificates
        .iter()
        .map(|certificate| certificate.name.len())
        .max()
        .unwrap_or(0)
        .max(11);
    if !state.certificates.is_empty() {
        say(format_args!(
            "{:width$}  {:>7}  {:>7}  {:>7}  UNTIL",
            "CERTIFICATE", "DESIRED", "ACTIVE", "SERVED"
        ));
    }
    let number =
        |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for certificate in &state.certificates {
        say(format_args!(
            "{:width$}  {:>7}  {:>7}  {:>7}  {}",
            certificate.name,
            number(Some(certificate.desired).filter(|desired| *desired > 0)),
            number(certificate.active),
            number(certificate.served),
            certificate
                .not_after
                .map_or_else(|| "-".to_owned(), |at| seconds(at).to_string()),
        ));
    }
    if let Some(at) = state.nginx_started {
        say(format_args!(
            "nginx failed within a minute after the last activation; the agent had it started, once, at {}",
            seconds(at)
        ));
    }
    for problem in problems {
        say(format_args!("! {problem}"));
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::tasks::state_file::CertificateState;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state() -> StateFile {
        StateFile {
            version: 1,
            host: "sally".into(),
            fleet: "hachyderm".into(),
            connected: true,
            since: Some(at(1)),
            last_contact: Some(at(1)),
            problem: None,
            nginx_started: None,
            identity_not_after: None,
            probe: None,
            certificates: vec![CertificateState {
                name: "media".into(),
                desired: 3,
                active: Some(3),
                served: Some(2),
                listeners: 1,
                not_before: Some(at(0)),
                not_after: Some(at(1_000)),
                outcome: Some("converged".into()),
                problem: None,
            }],
            written: at(1),
        }
    }

    /// What scripts read, as docs/cli.md shows it.
    #[test]
    fn the_json_is_as_it_was() {
        let wanted = serde_json::json!({
            "version": 1,
            "host": "sally",
            "fleet": "hachyderm",
            "connected": true,
            "since": "1970-01-01T00:00:01Z",
            "last_contact": "1970-01-01T00:00:01Z",
            "problem": null,
            "nginx_started": null,
            "probe": null,
            "identity_not_after": null,
            "certificates": [{
                "name": "media",
                "desired": 3,
                "active": 3,
                "served": 2,
                "listeners": 1,
                "not_before": "1970-01-01T00:00:00Z",
                "not_after": "1970-01-01T00:16:40Z",
                "outcome": "converged",
                "problem": null,
            }],
            "written": "1970-01-01T00:00:01Z",
            "running": true,
            "converged": false,
            "problems": [],
        });
        let status = Status {
            state: state(),
            running: true,
            converged: false,
            problems: Vec::new(),
        };
        assert_eq!(serde_json::to_value(&status).unwrap(), wanted);
    }
}
