//! `certwell-agent adopt LINEAGE [--undo]`: what is done in which order. How it is told: [`done`].

mod done;

use certwell_proto::{CertificateName, Exit};

use self::done::{Done, Served};
use super::{Failure, exit_of_io};
use crate::{
    certbot::{
        Places,
        adoption::StepError,
        lock::{CertbotLock, LockError},
        work::{Applied, Before, Direction, Work},
        wrong::WorkError,
    },
    clock,
    config::Config,
    disk::Permissions,
    plan::{
        adopt::{self, Entry},
        confirm::Verdict,
    },
};

pub(super) async fn perform(
    config: &Config,
    lineage: &str,
    certificate: Option<&CertificateName>,
    back: bool,
    json: bool,
) -> Result<Exit, Failure> {
    if config.exec.is_some() {
        return Err(Failure::new(
            Exit::Configuration,
            format!(
                "this host's server isn't nginx ([exec] in agent.toml), and only nginx's listeners can be followed to certbot's files: name {}/NAME in its configuration instead",
                config.live_directory.display()
            ),
        ));
    }
    let there = Places::new(&config.certbot_directory, lineage)
        .exists()
        .map_err(WorkError::from)?;
    if !there {
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "certbot has no lineage {lineage} in {}; `certwell-agent inventory` lists those that there are",
                config.certbot_directory.display()
            ),
        ));
    }
    Permissions::new(config.file_group.as_deref())
        .map_err(|error| Failure::new(Exit::Configuration, error))?
        .make_lasting_directory(&config.state_directory)
        .map_err(WorkError::from)?;
    let _lock = CertbotLock::take(&config.certbot_directory).map_err(|error| match error {
        LockError::Held(_) => Failure::new(Exit::Conflict, error),
        LockError::Disk(error) => WorkError::from(error).into(),
    })?;
    let work = Work::on(config, lineage)?;
    if back {
        give_back(work, lineage, json).await
    } else {
        take_over(work, lineage, certificate, json).await
    }
}

async fn take_over(
    mut work: Work<'_>,
    lineage: &str,
    wanted: Option<&CertificateName>,
    json: bool,
) -> Result<Exit, Failure> {
    // A run that was cut off goes on with the certificate that it began with.
    let noted = work.note().map(|note| note.certificate.clone());
    let certificate = match wanted {
        Some(name) => name.to_string(),
        None => noted.unwrap_or_else(|| lineage.to_owned()),
    };
    work.by(certificate.clone());
    let mut done = Done::new(&work, lineage, certificate);
    done.leads_to(&work);
    let found = work.look()?;
    let in_place = matches!(&found.live, Entry::Link(to) if *to == work.target());
    if in_place && work.note().is_some_and(|note| note.settled) {
        return done.unchanged().say(json);
    }
    if matches!(found.live, Entry::Link(_))
        && !in_place
        && let Some(by) = work.linked()?
    {
        return Err(Failure::new(
            Exit::Conflict,
            format!(
                "{lineage} is adopted by {by} already; give it back first: certwell-agent adopt --undo {lineage}"
            ),
        ));
    }
    let before = match work.before().await? {
        Ok(before) => before,
        // It may be just the broken lineage that it refuses, or what a run that was cut off left: that is seen below.
        Err(words) if in_place || adopt::is_to_blame(&words, &work.live()) => Before::default(),
        Err(words) => {
            return Err(Failure::new(
                Exit::NginxRefused,
                format!(
                    "{lineage}: nginx refuses its configuration as it is, so nothing was touched: {words}"
                ),
            ));
        }
    };
    // What is in the way is known before anything is touched.
    work.next(Direction::Adopt)?;
    done.generation = Some(work.fit(&before)?.0);
    work.may_reload(&before)?;
    if let Err(error) = work.walk(Direction::Adopt) {
        if matches!(error, WorkError::Step(StepError::CannotExchange { .. })) {
            work.walk(Direction::Undo)?;
            work.forget()?;
        }
        return Err(error.into());
    }
    done.served = match judge(work.apply(&before).await?) {
        Judged::Well(served) => Some(served),
        Judged::Pending(why) => {
            return Err(done.unserved(
                json,
                format!(
                    "{lineage} is adopted on disk, and not served yet: {why}; see to that, and run this again (or certwell-agent adopt --undo {lineage})"
                ),
            ));
        }
        Judged::Bad(exit, why) => {
            work.walk(Direction::Undo)?;
            // nginx had what was there before; it is told only where it took the other.
            let told = match exit {
                Exit::NginxRefused => Judged::Well(Served::Stopped),
                _ => judge(work.apply(&before).await?),
            };
            let and = match told {
                Judged::Well(_) => {
                    work.forget()?;
                    String::new()
                }
                Judged::Pending(why) | Judged::Bad(_, why) => format!(
                    "; and then {why}: see to that, and run certwell-agent adopt --undo {lineage}"
                ),
            };
            return Err(Failure::new(
                exit,
                format!(
                    "{lineage}: with certwell's certificate {why}, so certbot's directory was put back{and}"
                ),
            ));
        }
    };
    work.save(true)?;
    done.hooks = work.hooks();
    done.say(json)
}

async fn give_back(mut work: Work<'_>, lineage: &str, json: bool) -> Result<Exit, Failure> {
    let noted = work.note().map(|note| note.certificate.clone());
    let Some(certificate) = noted.or(work.linked()?) else {
        return Err(Failure::new(
            Exit::NotFound,
            format!("{lineage} is not adopted: there is nothing to undo"),
        ));
    };
    work.by(certificate.clone());
    let mut done = Done::new(&work, lineage, certificate);
    work.next(Direction::Undo)?;
    // What nginx refuses may be just what is to be undone.
    let before = work.before().await?.unwrap_or_default();
    work.may_reload(&before)?;
    work.walk(Direction::Undo)?;
    done.served = match judge(work.apply(&before).await?) {
        Judged::Well(served) => Some(served),
        Judged::Bad(Exit::NginxRefused, why) => {
            // certbot's own pair is broken: certwell's stays.
            work.walk(Direction::Adopt)?;
            work.save(true)?;
            return Err(Failure::new(
                Exit::NginxRefused,
                format!("{lineage}: with certbot's own files {why}, so it stays adopted"),
            ));
        }
        Judged::Pending(why) | Judged::Bad(_, why) => {
            return Err(done.unserved(
                json,
                format!(
                    "{lineage} is certbot's again on disk, and not served yet: {why}; see to that, and run this again"
                ),
            ));
        }
    };
    work.forget()?;
    let end = work.leaf().map(|leaf| leaf.not_after);
    done.expired = end.filter(|end| *end <= clock::now());
    done.say(json)
}

/// What nginx's answer means.
enum Judged {
    /// It is served, or will be.
    Well(Served),
    /// It isn't served yet: why.
    Pending(String),
    /// It must not stay: how it ends, and why.
    Bad(Exit, String),
}

fn judge(applied: Applied) -> Judged {
    let proof = match applied {
        Applied::Stopped => {
            return Judged::Well(Served::Stopped);
        }
        Applied::Refused(words) => {
            return Judged::Bad(Exit::NginxRefused, format!("nginx -t fails ({words})"));
        }
        Applied::Untold(why) => return Judged::Pending(why),
        Applied::Told(proof) => proof,
    };
    match proof.verdict {
        Verdict::Converged => Judged::Well(Served::Reloaded {
            proven: proof.proven,
            exempt: proof.exempt,
            handshakes: proof.handshakes,
        }),
        Verdict::Regressed => Judged::Bad(Exit::NotConverged, proof.why),
        Verdict::NotApplied | Verdict::Wait => Judged::Pending(proof.why),
    }
}

impl From<WorkError> for Failure {
    fn from(error: WorkError) -> Self {
        let exit = match &error {
            WorkError::Conflict { .. }
            | WorkError::Edited { .. }
            | WorkError::Unfit(_)
            | WorkError::Closed(_)
            | WorkError::Step(StepError::CannotExchange { .. }) => Exit::Conflict,
            WorkError::Step(StepError::Disk(error)) | WorkError::Disk(error) => {
                exit_of_io(&error.source)
            }
            WorkError::Absent(_) => Exit::NotFound,
            WorkError::Note(_) | WorkError::Run(_) | WorkError::Dump(_) => Exit::Internal,
        };
        Self::new(exit, error)
    }
}
