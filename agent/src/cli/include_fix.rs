//! `certwell-agent doctor --fix-include` and `--undo`: what is done in which order, and how it is told.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use certwell_proto::Exit;
use nix::unistd::Uid;
use tokio::time::Instant;

use super::{Failure, escaped, exit_of_io, say};
use crate::{
    clock,
    config::Config,
    disk::{Permissions, durable::DiskError},
    doctor,
    nginx::{
        Nginx, Tested,
        include_fix::{Fixes, Proposal, diff, propose, propose::ProposeError, record::RecordError},
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
                say(
                    "nothing is to be put in: every server block that needs the include begins with it",
                );
            }
            return Ok(Exit::Done);
        }
        one_round(config, &proposal, wanted).await?;
        if matches!(facts.read, Read::Known(_)) {
            break;
        }
    }
    Ok(Exit::Done)
}

async fn one_round(config: &Config, proposal: &Proposal, wanted: Wanted) -> Result<(), Failure> {
    let _ = io::stdout().write_all(shown(&diff::unified(&proposal.changes)).as_bytes());
    if !wanted.yes {
        agreed()?;
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
    let nginx = find(config)?;
    if let Err(words) = tested(&nginx).await {
        put.take_back()?;
        fix.forget()?;
        return Err(Failure::new(
            Exit::NginxRefused,
            format!("with that nginx refuses its configuration, so all was put back: {words}"),
        ));
    }
    say(format_args!(
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
    say("certwell-agent doctor --undo takes it out again");
    reloaded(config, &nginx, wanted.reload).await
}

/// A file's own text, of which a terminal obeys nothing but tabs and ends of lines.
fn shown(diff: &str) -> String {
    let line = |line: &str| {
        let (text, end) = match line.strip_suffix('\r') {
            Some(text) => (text, "\r"),
            None => (line, ""),
        };
        let parts: Vec<String> = text.split('\t').map(escaped).collect();
        format!("{}{end}", parts.join("\t"))
    };
    let lines: Vec<String> = diff.split('\n').map(line).collect();
    lines.join("\n")
}

pub(super) async fn take_out(config: &Config, wanted: Wanted) -> Result<Exit, Failure> {
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
    if count == 0 {
        say("nothing of it is left to take out");
    } else {
        say(format_args!(
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
        reloaded(config, &nginx, wanted.reload).await?;
    }
    Ok(Exit::Done)
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
fn agreed() -> Result<(), Failure> {
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

async fn reloaded(config: &Config, nginx: &Nginx, wanted: bool) -> Result<(), Failure> {
    let Some(master) = &nginx.master else {
        say("nginx isn't running: it reads it when it starts");
        return Ok(());
    };
    if !wanted {
        say("nginx isn't reloaded: it goes on as it was until it is");
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
            say("nginx is reloaded");
            Ok(())
        }
        Ok(reload::Waited::Old) => Err(failed(
            &"nginx keeps its old workers (its error log says why)",
        )),
        Ok(reload::Waited::Gone) => Err(failed(&"nginx stopped while it was to reload")),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_that_a_file_says() {
        assert_eq!(
            shown("+\ta\r\n+b\rc \u{1b}[2J\n"),
            "+\ta\r\n+b\\rc \\u{1b}[2J\n"
        );
    }
}
