//! `certwell-agent leave`: what `enroll` did is undone. nginx goes on serving what it serves.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
};

use certwell_proto::Exit;
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, exit_of_identity, failure_of, patiently, say, say_json, tell};
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

const VERSION: u32 = 1;

/// What `--json` prints, once it has left.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    /// Null where the identity is damaged.
    host: Option<&'a str>,
    fleet: Option<&'a str>,
    /// Whether there was a unit to stop and disable.
    unit_stopped: bool,
    #[serde(flatten)]
    stays: &'a Stays,
}

/// What goes on being served, until when, and how it is looked after from now on.
#[derive(Debug, Serialize)]
struct Stays {
    live_directory: String,
    /// What lies there; nothing renews it any more.
    certificates: Vec<Served>,
    challenge_map: Option<String>,
    /// Lineages of certbot's that can be given back.
    adopted: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Served {
    certificate: String,
    not_after: Option<Timestamp>,
}

pub(super) async fn perform(
    path: &Path,
    config: &Config,
    yes: bool,
    json: bool,
) -> Result<Exit, Failure> {
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
    let named = named.map(|identity| (identity.host.to_string(), identity.fleet.to_string()));
    let permissions = Permissions::new(config.file_group.as_deref())
        .map_err(|error| Failure::new(Exit::Configuration, error))?;
    let stays = what_stays(config)?;
    let (who, fleet) = match &named {
        Some((host, fleet)) => (host.clone(), format!("fleet {fleet}")),
        None => ("this host".to_owned(), "its fleet".to_owned()),
    };
    if !json {
        say(format_args!(
            "{who} is to leave {fleet}: {}its identity and keys are removed",
            if unit.is_there() {
                format!("{} is stopped and disabled, ", unit::NAME)
            } else {
                String::new()
            }
        ));
        print(&stays);
    }
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
    let (host, of) = named.as_ref().map(|(host, of)| (&**host, &**of)).unzip();
    if json {
        say_json(&Document {
            version: VERSION,
            host,
            fleet: of,
            unit_stopped: unit.is_there(),
            stays: &stays,
        })?;
        return Ok(Exit::Done);
    }
    say(format_args!("{who} has left {fleet}"));
    let retired = host.unwrap_or("NAME");
    say(format_args!(
        "next, on the issuer: `certwell hosts retire {retired}`, and take it out of the configuration; until then nobody there knows of it. Where another machine takes its place: `certwell token create --host {retired}` instead"
    ));
    Ok(Exit::Done)
}

fn what_stays(config: &Config) -> Result<Stays, Failure> {
    let facts = inventory::on_disk(config, &Parsed::default())?;
    let served = facts.own.iter().filter(|own| !own.generation.is_none());
    let certificates = served.map(|own| Served {
        certificate: own.name.to_string(),
        not_after: own.leaves.iter().map(|leaf| leaf.not_after).min(),
    });
    let map = &config.nginx.challenge_map;
    let adopted = Adopted::load(&config.adopted_file())
        .map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(Stays {
        live_directory: config.live_directory.display().to_string(),
        certificates: certificates.collect(),
        challenge_map: (config.exec.is_none() && map.exists()).then(|| map.display().to_string()),
        adopted: adopted.lineages.into_keys().collect(),
    })
}

fn print(stays: &Stays) {
    if !stays.certificates.is_empty() {
        say(format_args!(
            "what lies in {} stays, so that nginx goes on serving it; nothing renews it any more:",
            stays.live_directory
        ));
    }
    for Served {
        certificate,
        not_after,
    } in &stays.certificates
    {
        let until = not_after.map_or_else(|| "nobody knows when".to_owned(), |end| end.to_string());
        tell(format_args!("    {certificate} ends {until}"));
    }
    if let Some(map) = &stays.challenge_map {
        tell(format_args!(
            "{map} stays as well, as server blocks may use it (`certwell-agent doctor --undo` takes out what --fix-include put in)"
        ));
    }
    for lineage in &stays.adopted {
        tell(format_args!(
            "{lineage} was taken over from certbot: `certwell-agent adopt --undo {lineage}` gives it back, now or later, and certbot renews it again"
        ));
    }
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
