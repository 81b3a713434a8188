//! What `certwell-agent status` says of the state that the running agent wrote.

use std::path::Path;

use jiff::Timestamp;

use super::{age, doctor::disk::Trial};
use crate::tasks::state_file::{CertificateState, StateFile};

/// What follows from the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether everything that is issued is served, by an agent that runs.
    pub converged: bool,
    /// Sentences, most pressing first.
    pub problems: Vec<String>,
}

/// `running`: whether an agent works on this state directory now.
pub fn judge(state: &StateFile, running: bool, now: Timestamp) -> Judgement {
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
            "the agent is not running: systemctl restart certwell-agent".to_owned(),
        );
    }
    problems.extend(state.problem.clone());
    Judgement {
        converged,
        problems,
    }
}

/// What a directory that the running agent can't write means for what is shown, if it can't.
pub fn unwritable(directory: &Path, trial: &Trial) -> Option<String> {
    let (problem, remedy) = match trial {
        Trial::Passed | Trial::Untried => return None,
        Trial::ReadOnly => (
            "is read-only",
            "mount it writable again, dmesg tells why it isn't",
        ),
        Trial::Full => (
            "is full",
            "make room there, df -h and df -i tell what is used up",
        ),
        Trial::Denied(words) | Trial::Failed(words) => {
            (words.as_str(), "see dmesg, and whose the directory is")
        }
    };
    Some(format!(
        "{} can't be written ({problem}): nothing new can be installed, and what is shown here may be old; {remedy}",
        directory.display()
    ))
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
            nginx_started: None,
            identity_not_after: None,
            probe: None,
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
        assert!(judge(&state(Some(3), true), true, at(100)).converged);
        assert!(!judge(&state(Some(2), true), true, at(100)).converged);
        assert!(!judge(&state(None, true), true, at(100)).converged);
        assert!(
            !judge(&state(Some(3), true), true, at(1_000)).converged,
            "expired"
        );
        assert!(
            !judge(&state(Some(3), true), false, at(100)).converged,
            "not running"
        );
    }

    #[test]
    fn while_nothing_is_on_offer_what_is_active_is_as_it_should_be() {
        let mut paused = state(Some(3), true);
        paused.certificates[0].desired = 0;
        assert!(judge(&paused, true, at(100)).converged);
        let with = |change: fn(&mut CertificateState)| {
            let mut changed = paused.clone();
            change(&mut changed.certificates[0]);
            judge(&changed, true, at(100)).converged
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
        assert!(!judge(&state, true, at(100)).converged);
        state.last_contact = Some(at(1));
        assert!(judge(&state, true, at(100)).converged, "nothing is wanted");
    }

    #[test]
    fn without_the_issuer_an_old_certificate_is_an_alarm() {
        assert!(judge(&state(Some(3), false), true, at(700)).converged);
        let old = judge(&state(Some(3), false), true, at(800));
        assert!(!old.converged);
        assert!(
            old.problems[0].contains("see to the issuer"),
            "{:?}",
            old.problems
        );
        assert!(
            judge(&state(Some(3), true), true, at(800)).converged,
            "connected"
        );
    }
}
