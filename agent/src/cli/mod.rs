//! The verbs of `certwell-agent`, and how each ends.
//!
//! ```text
//! args    the command line
//! check   whether agent.toml can be used
//! hold    keeps the running agent's hands off a certificate
//! enroll  a join token becomes an identity, and the unit is started
//! leave   the host leaves its fleet
//! left_to_do  what a host that was just enrolled lacks
//! alarm   tests whether this host's own alarm arrives
//! status  what the state file says, judged
//! inventory  every certificate of this host
//! adopt   a certbot lineage is taken over, or given back
//! doctor  what is in the agent's way
//! include_fix  the include is put into nginx's port-80 servers, or taken out
//! ```

mod adopt;
mod alarm;
mod args;
mod check;
mod doctor;
mod enroll;
mod hold;
mod include_fix;
mod inventory;
mod leave;
mod left_to_do;
mod status;

use std::{
    fmt::Display,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use certwell_proto::Exit;
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use jiff::Timestamp;
use nix::unistd::Uid;
use serde::Serialize;

pub use self::args::Cli;
use self::args::Verb;
use crate::{
    app::{self, AppError},
    config::{self, Config, ConfigError},
    issuer::IdentityError,
    nginx::dump,
    tasks::installer::OpenError,
    unit::UnitError,
};

/// What takes longer is told.
const MOMENT: Duration = Duration::from_secs(1);

/// How a verb failed: the sentence, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    sentence: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Display) -> Self {
        Self {
            exit,
            sentence: sentence.to_string(),
        }
    }

    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// With what failed after it, if anything did.
    pub(crate) fn and(mut self, other: Option<Self>) -> Self {
        if let Some(other) = other {
            self.sentence = format!("{}\n{}", self.sentence, other.sentence);
        }
        self
    }
}

/// The whole binary.
pub fn main() -> ExitCode {
    // The only cryptography in this process. It fails when it is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The parser's child has no use for the rest, and begins as small as it can.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|verb| verb == dump::SUBCOMMAND)
    {
        return dump::run_child();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            }
            .into();
        }
    };
    match perform(&cli) {
        Ok(exit) => exit.into(),
        Err(Failure { exit, sentence }) => {
            // A mistake of the configuration has lines.
            let lines: Vec<String> = sentence.split('\n').map(escaped).collect();
            let _ = writeln!(io::stderr(), "certwell-agent: {}", lines.join("\n"));
            exit.into()
        }
    }
}

fn perform(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.verb {
        Verb::Run => {
            keep_from_core_files()?;
            let config = load(cli)?;
            certwell_log::begin("certwell-agent", true)
                .map_err(|problem| Failure::new(Exit::Configuration, problem))?;
            runtime()?
                .block_on(app::run(config))
                .map_err(|error| failure_of(&error))?;
            Ok(Exit::Done)
        }
        Verb::Enroll {
            again,
            no_start,
            json,
            token,
        } => {
            keep_from_core_files()?;
            let wanted = enroll::Wanted {
                token,
                again: *again,
                no_start: *no_start,
                json: *json,
            };
            runtime()?.block_on(enroll::perform(&cli.config, &load(cli)?, wanted))
        }
        Verb::Leave { yes, json } => {
            keep_from_core_files()?;
            runtime()?.block_on(leave::perform(&cli.config, &load(cli)?, *yes, *json))
        }
        Verb::Status { json } => status::perform(&load(cli)?, *json),
        Verb::Inventory { json } => {
            keep_from_core_files()?;
            runtime()?.block_on(inventory::perform(&load(cli)?, *json))
        }
        Verb::Adopt {
            lineage,
            certificate,
            undo,
            json,
        } => runtime()?.block_on(adopt::perform(
            &load(cli)?,
            lineage,
            certificate.as_ref(),
            *undo,
            *json,
        )),
        Verb::Doctor {
            json,
            fix_include,
            yes,
            no_reload,
            undo,
            port,
        } => {
            keep_from_core_files()?;
            let wanted = include_fix::Wanted {
                yes: *yes,
                reload: !*no_reload,
                port: *port,
                json: *json,
            };
            let runtime = runtime()?;
            if *fix_include {
                runtime.block_on(include_fix::put_in(&load(cli)?, wanted))
            } else if *undo {
                runtime.block_on(include_fix::take_out(&load(cli)?, wanted))
            } else {
                runtime.block_on(doctor::perform(cli, *json, *port))
            }
        }
        Verb::Hold {
            name,
            length,
            note,
            release: _,
            json,
        } => {
            let config = load(cli)?;
            match name {
                None => hold::list(&config, *json),
                Some(name) => hold::change(&config, name, *length, note.clone(), *json),
            }
        }
        Verb::Alarm {
            what: args::AlarmVerb::Test { json },
        } => {
            keep_from_core_files()?;
            runtime()?.block_on(alarm::test(&load(cli)?, *json))
        }
        Verb::Check { json } => check::perform(cli, *json),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "certwell-agent", &mut script);
            write_out(&script)
        }
        Verb::Man {
            directory: Some(directory),
        } => clap_mangen::generate_to(Cli::command(), directory)
            .map(|()| Exit::Done)
            .map_err(|error| {
                let exit = match error.kind() {
                    io::ErrorKind::NotFound => Exit::NotFound,
                    io::ErrorKind::PermissionDenied => Exit::Denied,
                    _ => Exit::Internal,
                };
                let place = directory.display();
                let sentence = format!("can't write manual pages into {place}: {error}");
                Failure::new(exit, sentence)
            }),
        Verb::Man { directory: None } => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Failure::new(Exit::Internal, error))?;
            write_out(&page)
        }
        Verb::NginxListeners => Ok(if dump::run_child() == ExitCode::SUCCESS {
            Exit::Done
        } else {
            Exit::Internal
        }),
    }
}

/// Those who work on the system's own agent, which is root's.
fn must_be_root(config: &Path, verb: &str) -> Result<(), Failure> {
    if config == Path::new(config::DEFAULT_PATH) && !Uid::effective().is_root() {
        return Err(Failure::new(
            Exit::Denied,
            format!("only root may {verb}: sudo certwell-agent {verb} …"),
        ));
    }
    Ok(())
}

/// Says on standard error what is waited for, where that takes longer than a moment.
async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let mut wait = std::pin::pin!(wait);
    tokio::select! {
        done = &mut wait => return done,
        () = tokio::time::sleep(MOMENT) => {
            let _ = writeln!(io::stderr(), "{what} …");
        }
    }
    wait.await
}

/// To standard output; a reader that has gone away is no failure of ours.
fn write_out(text: &[u8]) -> Result<Exit, Failure> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, error))
        }
        _ => Ok(Exit::Done),
    }
}

/// A line on standard output; a reader that has gone away is no failure of ours.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// What `--json` prints, and nothing else does.
fn say_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    say(text);
    Ok(())
}

/// The same of what others named.
pub(crate) fn tell(line: impl Display) {
    say(escaped(&line.to_string()));
}

/// With what a terminal would obey shown as it is written in a program.
fn escaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out
}

/// As people read instants.
pub(crate) fn seconds(at: Timestamp) -> Timestamp {
    at.round(jiff::Unit::Second).unwrap_or(at)
}

fn load(cli: &Cli) -> Result<Config, Failure> {
    config::load(&cli.config).map_err(|error| {
        let sentence = match &error {
            ConfigError::Read { .. } => error.to_string(),
            ConfigError::Mistakes { mistakes, .. } => {
                let count = mistakes.len();
                format!(
                    "{count} mistake{} in the configuration\n{error}",
                    if count == 1 { "" } else { "s" }
                )
            }
        };
        Failure::new(Exit::Configuration, sentence)
    })
}

/// Private keys pass through memory: should the process be killed by a fault of its own, none is left in a core file.
fn keep_from_core_files() -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!(
                "core dumps can't be switched off: {error}; let the agent call prctl (SystemCallFilter in the unit)"
            ),
        )
    })
}

/// One thread: the agent waits nearly always, and its steps on disk are to happen on one.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, format!("the runtime can't begin: {error}")))
}

/// The exit code for each way in which the agent can't begin.
pub(crate) fn failure_of(error: &AppError) -> Failure {
    let exit = match error {
        // The clock is this host's setting, as its files are.
        AppError::Clock(_) | AppError::Permission(_) => Exit::Configuration,
        AppError::Locked(_) => Exit::Conflict,
        AppError::Identity(error) => exit_of_identity(error),
        AppError::Open(OpenError::Permission(_)) => Exit::Configuration,
        AppError::Disk(error) | AppError::Open(OpenError::Disk(error)) => exit_of_io(&error.source),
        AppError::Open(OpenError::Ledger(_)) | AppError::Signals(_) | AppError::Broken => {
            Exit::Internal
        }
    };
    Failure::new(exit, error)
}

impl From<UnitError> for Failure {
    fn from(error: UnitError) -> Self {
        let exit = match error {
            UnitError::Down { .. } => Exit::NotConverged,
            UnitError::Run { .. } | UnitError::Refused { .. } => Exit::Internal,
        };
        Self::new(exit, error)
    }
}

pub(crate) fn exit_of_identity(error: &IdentityError) -> Exit {
    match error {
        IdentityError::NotEnrolled => Exit::NotFound,
        IdentityError::Permission(_) => Exit::Configuration,
        IdentityError::Disk(error) => exit_of_io(&error.source),
        IdentityError::Damaged { .. } | IdentityError::Key(_) => Exit::Internal,
    }
}

fn exit_of_io(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::PermissionDenied {
        Exit::Denied
    } else {
        Exit::Internal
    }
}
