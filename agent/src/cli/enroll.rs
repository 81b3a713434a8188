//! `certwell-agent enroll TOKEN|-`: a join token becomes an identity, the unit is started, and what is left to do on
//! this host is told.

use std::{
    io::{self, Read as _},
    path::Path,
};

use certwell_proto::{Exit, JoinToken};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Failure, exit_of_identity, failure_of,
    left_to_do::{self, LeftToDo},
    patiently, say, say_json,
};
use crate::{
    app, clock,
    config::Config,
    issuer::{
        DialError, IdentityStore,
        enrollment::{self, EnrollError, Enrolled},
    },
    tasks::identity::unix_now,
    unit::{self, Unit, UnitError},
};

/// A token has some hundreds of characters.
const LONGEST_INPUT: u64 = 64 * 1024;
const VERSION: u32 = 1;

/// What a person asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The token, or `-`.
    pub(super) token: &'a str,
    /// Though the host is enrolled.
    pub(super) again: bool,
    /// The unit is left alone.
    pub(super) no_start: bool,
    /// What is said is for a program.
    pub(super) json: bool,
}

/// What `--json` prints, once the host is enrolled.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    host: String,
    fleet: String,
    /// Of the identity.
    fingerprint: String,
    unit: &'static str,
    /// Why the unit doesn't run though it should.
    problem: Option<&'a str>,
    /// Null where the agent wasn't started.
    left_to_do: Option<left_to_do::Told<'a>>,
}

pub(super) async fn perform(
    path: &Path,
    config: &Config,
    wanted: Wanted<'_>,
) -> Result<Exit, Failure> {
    let token = read_token(wanted.token)?;
    clock::plausible(clock::now()).map_err(|error| Failure::new(Exit::Configuration, error))?;
    super::must_be_root(path, "enroll")?;
    let unit = Unit::look(path).await?;
    let store = IdentityStore::new(config.identity_directory());
    let enrolled = store
        .is_enrolled()
        .map_err(|error| Failure::new(exit_of_identity(&error), error))?;
    if enrolled && !wanted.again {
        let host = store.look().map_or_else(
            |_| "another host".to_owned(),
            |identity| identity.host.to_string(),
        );
        let error = EnrollError::AlreadyEnrolled { host };
        return Err(Failure::new(
            Exit::Conflict,
            format!("{error}{}", idle(&unit)),
        ));
    }
    // The running agent holds the state directory; it comes back, whatever comes of the enrollment.
    let stopped = unit.is_active() && !wanted.no_start;
    if stopped {
        patiently("waiting for the agent to stop", unit::stop()).await?;
    }
    let joined = tokio::select! {
        joined = join(config, &store, &token, wanted.again) => joined,
        _ = tokio::signal::ctrl_c(), if stopped => {
            Err(Failure::new(Exit::Internal, "interrupted: nothing is known of the enrollment; run it again"))
        }
    };
    let enrolled = match joined {
        Ok(enrolled) => enrolled,
        Err(failure) => {
            return Err(match stopped {
                true => failure.and(start().await.err()),
                false => failure,
            });
        }
    };
    if !wanted.json {
        say(format_args!(
            "enrolled as {} in fleet {} (identity {})",
            enrolled.host,
            enrolled.fleet,
            enrolled.fingerprint.short()
        ));
    }
    let in_json = |unit, problem, left: Option<&LeftToDo>| {
        say_json(&Document {
            version: VERSION,
            host: enrolled.host.to_string(),
            fleet: enrolled.fleet.to_string(),
            fingerprint: enrolled.fingerprint.to_string(),
            unit,
            problem,
            left_to_do: left.map(LeftToDo::told),
        })
    };
    if wanted.no_start || !unit.is_there() {
        let masked = unit == Unit::Masked;
        let left_alone = wanted.no_start && unit.is_there();
        if wanted.json {
            in_json(unit_word(left_alone, masked), None, None)?;
        } else {
            say(how_to_start(left_alone, masked));
        }
        return Ok(Exit::Done);
    }
    let began = clock::now();
    if let Err(failure) = start().await {
        if wanted.json {
            in_json("down", Some(&failure.sentence), None)?;
        }
        return Err(failure);
    }
    if !wanted.json {
        say(format_args!(
            "{} is running, and starts with this machine",
            unit::NAME
        ));
    }
    let left = left_to_do::find(config, began).await;
    if wanted.json {
        in_json("running", None, Some(&left))?;
    } else {
        left.print();
    }
    Ok(Exit::Done)
}

/// With the lock, which is given back before the unit is started.
async fn join(
    config: &Config,
    store: &IdentityStore,
    token: &JoinToken,
    again: bool,
) -> Result<Enrolled, Failure> {
    let _lock = app::lock_state(config).map_err(|error| failure_of(&error))?;
    let info = app::gather_host_info(config).await;
    let asking = enrollment::enroll(store, token, again, info, unix_now());
    patiently("waiting for the issuer", asking)
        .await
        .map_err(|error| Failure::new(exit_of(&error), &error))
}

async fn start() -> Result<(), Failure> {
    let waiting = format!("waiting for {} to be ready", unit::NAME);
    patiently(&waiting, unit::start())
        .await
        .map_err(|error| match error {
            error @ UnitError::Down { .. } => Failure::new(
                Exit::NotConverged,
                format!("this host is enrolled, but {error}"),
            ),
            error => error.into(),
        })
}

fn unit_word(left_alone: bool, masked: bool) -> &'static str {
    match (left_alone, masked) {
        (_, true) => "masked",
        (true, false) => "left-alone",
        (false, false) => "none",
    }
}

fn how_to_start(there: bool, masked: bool) -> String {
    let unit = unit::NAME;
    let last = "then `certwell-agent doctor` tells what is left to do, and `certwell-agent status` what is served";
    if masked {
        format!(
            "next: {unit} is masked: systemctl unmask {unit}, systemctl enable --now {unit}; {last}"
        )
    } else if there {
        format!("next: systemctl enable --now {unit}; {last}")
    } else {
        format!(
            "next: run `certwell-agent run` under a service manager (on hosts with systemd: systemctl enable --now {unit}); {last}"
        )
    }
}

/// What a person may have wanted who enrolls a host that is enrolled.
fn idle(unit: &Unit) -> String {
    match unit {
        Unit::There { active: false, .. } => format!(
            ". Its agent doesn't run: systemctl enable {0}; systemctl restart {0}",
            unit::NAME
        ),
        Unit::There { enabled: false, .. } => format!(
            ". Its agent runs, but won't start with this machine: systemctl enable {}",
            unit::NAME
        ),
        Unit::Masked => format!(". Its unit is masked: systemctl unmask {}", unit::NAME),
        _ => String::new(),
    }
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
        EnrollError::AlreadyEnrolled { .. } | EnrollError::OtherFleet { .. } => Exit::Conflict,
        EnrollError::Dial(DialError::NoEndpoint) => Exit::Usage,
        EnrollError::Dial(DialError::Unreachable(_)) | EnrollError::NoAnswer(_) => {
            Exit::Unreachable
        }
        EnrollError::Dial(DialError::WrongIssuer { .. }) | EnrollError::Refused(_) => Exit::Denied,
        EnrollError::Identity(error) => exit_of_identity(error),
        EnrollError::Answer(_) | EnrollError::Key(_) | EnrollError::Tls(_) => Exit::Internal,
    }
}
