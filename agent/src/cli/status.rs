//! `certwell-agent status`: what the running agent last saw, judged. It asks nobody, so it works when all else is
//! down.

use std::io;

use certwell_proto::Exit;
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, exit_of_identity, failure_of, say};
use crate::{
    app, clock,
    config::Config,
    issuer::{IdentityError, IdentityStore},
    plan::age,
    tasks::state_file::{CertificateState, StateFile},
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
                "the agent has not run here yet: systemctl start certwell-agent",
            ));
        }
        Err(error) => {
            return Err(Failure::new(
                Exit::Denied,
                format!("{} can't be read: {error}", path.display()),
            ));
        }
    };
    let status = judge(state, running, clock::now());
    if json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|error| Failure::new(Exit::Internal, error))?;
        say(text);
    } else {
        print(&status);
    }
    Ok(if status.converged {
        Exit::Done
    } else {
        Exit::NotConverged
    })
}

/// What follows from the state.
fn judge(state: StateFile, running: bool, now: Timestamp) -> Status {
    let connected = running && state.connected;
    let mut problems = Vec::new();
    let mut converged = running;
    for certificate in &state.certificates {
        if !is_converged(certificate) {
            converged = false;
        }
        if let Some(not_after) = certificate.not_after
            && not_after <= now
        {
            converged = false;
            problems.insert(0, format!("{} expired at {not_after}", certificate.name));
        } else if let (false, Some(not_before), Some(not_after)) =
            (connected, certificate.not_before, certificate.not_after)
            && age::is_old(not_before, not_after, now)
        {
            converged = false;
            problems.push(format!(
                "{} has less than a quarter of its life left (until {not_after}) and the issuer is not reached: see to the issuer",
                certificate.name
            ));
        }
        if let Some(problem) = &certificate.problem {
            problems.push(format!("{}: {problem}", certificate.name));
        }
    }
    if state.certificates.is_empty() && state.last_contact.is_none() {
        converged = false;
        problems.push("the issuer has not told yet what is wanted here".to_owned());
    }
    if !running {
        problems.insert(
            0,
            "the agent is not running: systemctl start certwell-agent".to_owned(),
        );
    }
    problems.extend(state.problem.clone());
    Status {
        state,
        running,
        converged,
        problems,
    }
}

fn is_converged(certificate: &CertificateState) -> bool {
    let CertificateState {
        desired,
        active,
        served,
        problem,
        ..
    } = certificate;
    match desired {
        // Nothing is on offer, as during a pause: what is active is to stay.
        0 => problem.is_none() && active.is_some_and(|active| active > 0) && served == active,
        desired => *served == Some(*desired),
    }
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
    for problem in problems {
        say(format_args!("! {problem}"));
    }
}

fn seconds(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state(served: Option<u64>, connected: bool) -> StateFile {
        StateFile {
            version: 1,
            host: "sally".into(),
            fleet: "hachyderm".into(),
            connected,
            since: Some(at(1)),
            last_contact: Some(at(1)),
            problem: None,
            identity_not_after: None,
            certificates: vec![CertificateState {
                name: "media".into(),
                desired: 3,
                active: Some(3),
                served,
                listeners: 1,
                not_before: Some(at(0)),
                not_after: Some(at(1_000)),
                outcome: Some("converged".into()),
                problem: None,
            }],
            written: at(1),
        }
    }

    #[test]
    fn converged_means_served_and_alive() {
        assert!(judge(state(Some(3), true), true, at(100)).converged);
        assert!(!judge(state(Some(2), true), true, at(100)).converged);
        assert!(!judge(state(None, true), true, at(100)).converged);
        assert!(
            !judge(state(Some(3), true), true, at(1_000)).converged,
            "expired"
        );
        assert!(
            !judge(state(Some(3), true), false, at(100)).converged,
            "not running"
        );
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
        let status = judge(state(Some(2), true), true, at(100));
        assert_eq!(serde_json::to_value(&status).unwrap(), wanted);
    }

    #[test]
    fn while_nothing_is_on_offer_what_is_active_is_as_it_should_be() {
        let mut paused = state(Some(3), true);
        paused.certificates[0].desired = 0;
        assert!(judge(paused.clone(), true, at(100)).converged);
        let with = |change: fn(&mut CertificateState)| {
            let mut changed = paused.clone();
            change(&mut changed.certificates[0]);
            judge(changed, true, at(100)).converged
        };
        assert!(!with(|c| c.served = None));
        assert!(!with(|c| c.served = Some(2)));
        assert!(!with(|c| c.problem = Some("generation 4 is refused".into())));
        assert!(
            !with(|c| (c.active, c.served) = (Some(0), None)),
            "the placeholder"
        );
    }

    #[test]
    fn a_host_that_has_not_heard_from_the_issuer_is_not_converged() {
        let mut state = state(None, false);
        state.certificates.clear();
        state.last_contact = None;
        assert!(!judge(state.clone(), true, at(100)).converged);
        state.last_contact = Some(at(1));
        assert!(judge(state, true, at(100)).converged, "nothing is wanted");
    }

    #[test]
    fn without_the_issuer_an_old_certificate_is_an_alarm() {
        assert!(judge(state(Some(3), false), true, at(700)).converged);
        let old = judge(state(Some(3), false), true, at(800));
        assert!(!old.converged);
        assert!(
            old.problems[0].contains("see to the issuer"),
            "{:?}",
            old.problems
        );
        assert!(
            judge(state(Some(3), true), true, at(800)).converged,
            "connected"
        );
    }
}
