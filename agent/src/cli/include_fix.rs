//! `certwell-agent doctor --fix-include` and `--undo`: what is done in which order. How it is told: [`told`].

mod told;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use certwell_proto::Exit;
use nix::unistd::Uid;
use tokio::time::Instant;

use self::told::Told;
use super::{Failure, exit_of_io};
use crate::{
    clock,
    config::Config,
    disk::{Permissions, durable::DiskError},
    doctor,
    nginx::{
        Nginx, Tested,
        include_fix::{Fixes, Proposal, propose, propose::ProposeError, record::RecordError},
        reload, run,
    },
    plan::{confirm, doctor::nginx::Read},
};

/// For one run of nginx, as in the daemon.
const RUN_LIMIT: Duration = Duration::from_secs(120);
/// What stood in the way of reading nginx's configuration is mended first, the server blocks after it.
const ROUNDS: usize = 3;

/// What a person asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Nothing is asked.
    pub(super) yes: bool,
    /// nginx is reloaded.
    pub(super) reload: bool,
    /// Where a CA's requests arrive.
    pub(super) port: u16,
    /// What is said is for a program.
    pub(super) json: bool,
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let exit = match &error {
            RecordError::Meanwhile(_) | RecordError::Since { .. } | RecordError::Locked => {
                Exit::Conflict
            }
            RecordError::Damaged { .. } => Exit::Internal,
            RecordError::Disk(error) => exit_of_io(&error.source),
        };
        Self::new(exit, error)
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::new(exit_of_io(&error.source), error)
    }
}

impl From<ProposeError> for Failure {
    fn from(error: ProposeError) -> Self {
        let exit = match &error {
            // Not the configuration's fault.
            ProposeError::Refused(words)
                if words.contains("(13: Permission denied)") && !Uid::effective().is_root() =>
            {
                return Self::new(
                    Exit::Denied,
                    format!(
                        "nginx can't be asked without the rights of root ({words}): run this as root"
                    ),
                );
            }
            ProposeError::Refused(_) => Exit::NginxRefused,
            ProposeError::Unknown(_) => Exit::NotFound,
            ProposeError::Silent(_) => Exit::NotConverged,
            ProposeError::File { .. } => Exit::Conflict,
            ProposeError::Read { source, .. } => exit_of_io(source),
        };
        Self::new(exit, error)
    }
}

pub(super) async fn put_in(config: &Config, wanted: Wanted) -> Result<Exit, Failure> {
    let mut told = Told::put_in(wanted.json);
    let ended = all_rounds(config, wanted, &mut told).await;
    told.end(ended)
}

async fn all_rounds(config: &Config, wanted: Wanted, told: &mut Told) -> Result<(), Failure> {
    refuse_other_servers(config)?;
    for round in 0..ROUNDS {
        let (facts, root) = doctor::nginx(config, wanted.port).await;
        let proposal = propose(&facts, &root)?;
        if proposal.changes.is_empty() {
            if facts.port_80.has_no_server() {
                return Err(Failure::new(
                    Exit::NotConverged,
                    format!(
                        "there is no server block at port {} to put it into: enable the ready one, certwell-port80.conf",
                        wanted.port
                    ),
                ));
            }
            if round == 0 {
                told.line(
                    "nothing is to be put in: every server block that needs the include begins with it",
                );
            }
            return Ok(());
        }
        one_round(config, &proposal, wanted, told).await?;
        if matches!(facts.read, Read::Known(_)) {
            break;
        }
    }
    Ok(())
}

async fn one_round(
    config: &Config,
    proposal: &Proposal,
    wanted: Wanted,
    told: &mut Told,
) -> Result<(), Failure> {
    told.proposed(proposal);
    let nginx = find(config)?;
    if !wanted.yes {
        agreed(told.is_for_a_program())?;
    }
    let fixes = open(config)?;
    let fix = fixes.keep(&proposal.changes)?;
    let put = match fix.put_in(&proposal.changes) {
        Ok(put) => put,
        Err(error) => {
            fix.forget()?;
            return Err(error.into());
        }
    };
    let count = put.count();
    if let Err(words) = tested(&nginx).await {
        put.take_back()?;
        fix.forget()?;
        return Err(Failure::new(
            Exit::NginxRefused,
            format!("with that nginx refuses its configuration, so all was put back: {words}"),
        ));
    }
    told.changed(&put, proposal.servers);
    told.line(format_args!(
        "put in: {count} file{} changed, {} server block{} {} with the include, nginx -t is content",
        if count == 1 { "" } else { "s" },
        proposal.servers,
        if proposal.servers == 1 { "" } else { "s" },
        if proposal.servers == 1 {
            "begins"
        } else {
            "begin"
        },
    ));
    told.line("certwell-agent doctor --undo takes it out again");
    reloaded(config, &nginx, wanted.reload, told).await
}

pub(super) async fn take_out(config: &Config, wanted: Wanted) -> Result<Exit, Failure> {
    let mut told = Told::taken_out(wanted.json);
    let ended = the_last(config, wanted, &mut told).await;
    told.end(ended)
}

async fn the_last(config: &Config, wanted: Wanted, told: &mut Told) -> Result<(), Failure> {
    refuse_other_servers(config)?;
    let fixes = open(config)?;
    let Some(fix) = fixes.last()? else {
        return Err(Failure::new(
            Exit::Conflict,
            "there is nothing to take out: no include was put in by certwell-agent doctor --fix-include",
        ));
    };
    let nginx = find(config)?;
    let before = tested(&nginx).await;
    let put = fix.take_back()?;
    let after = tested(&nginx).await;
    if let (Ok(()), Err(words)) = (&before, &after) {
        put.take_back()?;
        return Err(Failure::new(
            Exit::NginxRefused,
            format!("without it nginx refuses its configuration, so it stays: {words}"),
        ));
    }
    let count = put.count();
    told.changed(&put, 0);
    if count == 0 {
        told.line("nothing of it is left to take out");
    } else {
        told.line(format_args!(
            "taken out: {count} file{} as before",
            if count == 1 { " is" } else { "s are" },
        ));
    }
    fix.forget()?;
    if let Err(words) = after {
        return Err(Failure::new(
            Exit::NginxRefused,
            format!("nginx refuses its configuration, as it did before: {words}"),
        ));
    }
    if count > 0 {
        reloaded(config, &nginx, wanted.reload, told).await?;
    }
    Ok(())
}

fn refuse_other_servers(config: &Config) -> Result<(), Failure> {
    if config.exec.is_none() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Configuration,
        "this host's server isn't nginx ([exec] in agent.toml): how it answers HTTP-01 is put into its own configuration by hand",
    ))
}

fn open(config: &Config) -> Result<Fixes, Failure> {
    let permissions = Permissions::new(config.file_group.as_deref())
        .map_err(|error| Failure::new(Exit::Configuration, error))?;
    permissions.make_directory(&config.state_directory)?;
    Ok(Fixes::open(config.include_fix_directory())?)
}

fn find(config: &Config) -> Result<Nginx, Failure> {
    Nginx::find(&config.nginx, clock::now()).map_err(|error| Failure::new(Exit::NotFound, error))
}

/// The error holds nginx's words, or why it couldn't be asked.
async fn tested(nginx: &Nginx) -> Result<(), String> {
    match run::test(&nginx.invocation, RUN_LIMIT).await {
        Ok(Tested::Passed { .. }) => Ok(()),
        Ok(Tested::Refused { words }) => Err(words),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks at a terminal; nowhere else is a yes taken for granted.
fn agreed(for_a_program: bool) -> Result<(), Failure> {
    if for_a_program {
        return Err(Failure::new(
            Exit::Usage,
            "nothing was changed: with --json nobody is asked; --yes puts it in",
        ));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "nothing was changed: there is no terminal to ask at; --yes puts it in",
        ));
    }
    let mut stderr = io::stderr();
    let _ = write!(
        stderr,
        "Put this in, have nginx test it, and reload it? [y/N] "
    );
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(Exit::Denied, "nothing was changed")),
    }
}

async fn reloaded(
    config: &Config,
    nginx: &Nginx,
    wanted: bool,
    told: &mut Told,
) -> Result<(), Failure> {
    let Some(master) = &nginx.master else {
        told.nginx(
            "not-running",
            "nginx isn't running: it reads it when it starts",
        );
        return Ok(());
    };
    if !wanted {
        told.nginx(
            "not-reloaded",
            "nginx isn't reloaded: it goes on as it was until it is",
        );
        return Ok(());
    }
    let settings = &config.nginx;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::NotConverged,
            format!(
                "it is on disk and tested, but not in use yet: {error}; mend that, then reload nginx"
            ),
        )
    };
    let began = Instant::now();
    reload::reload(settings, master, RUN_LIMIT)
        .await
        .map_err(|error| failed(&error))?;
    let deadline = began + confirm::deadline(began.elapsed());
    match reload::wait_for_new_workers(settings, master, deadline).await {
        Ok(reload::Waited::New(_)) => {
            told.nginx("reloaded", "nginx is reloaded");
            Ok(())
        }
        Ok(reload::Waited::Old) => Err(failed(
            &"nginx keeps its old workers (its error log says why)",
        )),
        Ok(reload::Waited::Gone) => Err(failed(&"nginx stopped while it was to reload")),
        Err(error) => Err(failed(&error)),
    }
}
