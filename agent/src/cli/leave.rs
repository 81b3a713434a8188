//! `certwell-agent leave`: what `enroll` did is undone. nginx goes on serving what it serves.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
};

use certwell_proto::Exit;

use super::{Failure, exit_of_identity, failure_of, patiently, say, tell};
use crate::{
    app,
    certbot::note::Adopted,
    config::Config,
    disk::{Permissions, leaving},
    inventory,
    issuer::{IdentityError, IdentityStore},
    nginx::Parsed,
    unit::{self, Unit},
};

pub(super) async fn perform(path: &Path, config: &Config, yes: bool) -> Result<Exit, Failure> {
    super::must_be_root(path, "leave")?;
    let unit = Unit::look(path).await?;
    let store = IdentityStore::new(config.identity_directory());
    let enrolled = store
        .is_enrolled()
        .map_err(|error| Failure::new(exit_of_identity(&error), error))?;
    if !enrolled && !store.is_begun() && !config.ledger_file().exists() {
        return Err(Failure::new(
            Exit::NotFound,
            "this host is in no fleet: there is nothing to leave",
        ));
    }
    // One that is damaged can be left as well.
    let named = store.look().ok();
    let (who, fleet) = match &named {
        Some(identity) => (
            identity.host.to_string(),
            format!("fleet {}", identity.fleet),
        ),
        None => ("this host".to_owned(), "its fleet".to_owned()),
    };
    let permissions = Permissions::new(config.file_group.as_deref())
        .map_err(|error| Failure::new(Exit::Configuration, error))?;
    say(format_args!(
        "{who} is to leave {fleet}: {}its identity and keys are removed",
        if unit.is_there() {
            format!("{} is stopped and disabled, ", unit::NAME)
        } else {
            String::new()
        }
    ));
    tell_what_stays(config)?;
    if !yes {
        agreed()?;
    }
    // One that somebody runs by hand: nothing is changed before that is told.
    if !unit.is_active() && app::is_running(config).map_err(|error| failure_of(&error))? {
        let error = app::AppError::Locked(config.state_directory.clone());
        return Err(failure_of(&error));
    }
    if unit.is_there() {
        let waiting = format!("waiting for {} to stop", unit::NAME);
        patiently(&waiting, unit::disable()).await?;
    }
    let _lock = app::lock_state(config).map_err(|error| failure_of(&error))?;
    leaving::forget(config, permissions)?;
    store.forget()?;
    say(format_args!("{who} has left {fleet}"));
    let retired = named.map_or_else(|| "NAME".to_owned(), |identity| identity.host.to_string());
    say(format_args!(
        "next, on the issuer: `certwell hosts retire {retired}`, and take it out of the configuration; until then nobody there knows of it. Where another machine takes its place: `certwell token create --host {retired}` instead"
    ));
    Ok(Exit::Done)
}

/// What goes on being served, until when, and how it is looked after from now on.
fn tell_what_stays(config: &Config) -> Result<(), Failure> {
    let facts = inventory::on_disk(config, &Parsed::default())?;
    let served: Vec<_> = facts
        .own
        .iter()
        .filter(|own| !own.generation.is_none())
        .collect();
    if !served.is_empty() {
        say(format_args!(
            "what lies in {} stays, so that nginx goes on serving it; nothing renews it any more:",
            config.live_directory.display()
        ));
    }
    for own in served {
        let until = own.leaves.iter().map(|leaf| leaf.not_after).min();
        let until = until.map_or_else(|| "nobody knows when".to_owned(), |end| end.to_string());
        tell(format_args!("    {} ends {until}", own.name));
    }
    let map = &config.nginx.challenge_map;
    if config.exec.is_none() && map.exists() {
        tell(format_args!(
            "{} stays as well, as server blocks may use it (`certwell-agent doctor --undo` takes out what --fix-include put in)",
            map.display()
        ));
    }
    let adopted = Adopted::load(&config.adopted_file())
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    for lineage in adopted.lineages.keys() {
        tell(format_args!(
            "{lineage} was taken over from certbot: `certwell-agent adopt --undo {lineage}` gives it back, now or later, and certbot renews it again"
        ));
    }
    Ok(())
}

/// Asks where somebody can answer.
fn agreed() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "Leave? [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(Failure::new(Exit::Denied, "nothing was changed")),
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(exit_of_identity(&error), error)
    }
}
