//! The verb `check`: whether the issuer could begin, and all that is in its way.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use certwell_proto::Exit;
use serde::Serialize;

use super::{exit_of, print, print_json, sentence, service_user::as_service, show};
use crate::{
    admin::socket,
    config::{self, Config, ConfigErrors, Mistake},
    store::keys::{Kek, KeyError},
};

const VERSION: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    mistakes: Vec<Told>,
    /// Null where the files have mistakes.
    #[serde(flatten)]
    declared: Declared,
}

#[derive(Debug, Default, Serialize)]
struct Declared {
    certificates: Option<usize>,
    hosts: Option<usize>,
    authorities: Option<usize>,
}

/// As by `certwell-agent check`.
#[derive(Debug, Serialize)]
struct Told {
    what: &'static str,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    problem: String,
    remedy: Option<String>,
}

pub(super) fn check(path: &Path, json: bool) -> anyhow::Result<Exit> {
    let config = match load(path) {
        Ok(config) => config,
        Err(error) if json => {
            let errors = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<ConfigErrors>());
            let Some(errors) = errors else {
                return Err(error);
            };
            let mistakes = errors.mistakes.iter().map(Told::at).collect();
            say(mistakes, Declared::default())?;
            return Ok(exit_of(&error));
        }
        Err(error) => return Err(error),
    };
    let faults = look_around(&config);
    let exit = faults.first().map_or(Exit::Done, exit_of);
    if json {
        let declared = Declared {
            certificates: Some(config.certificates.len()),
            hosts: Some(config.hosts.len()),
            authorities: Some(config.authorities.len()),
        };
        let mistakes = faults.iter().map(|fault| Told::of(fault, path)).collect();
        say(mistakes, declared)?;
        return Ok(exit);
    }
    faults.iter().for_each(show);
    if faults.is_empty() {
        say_ok(&config)?;
    }
    Ok(exit)
}

/// As the service will read it.
fn load(path: &Path) -> anyhow::Result<Config> {
    let (issuer, _) = config::Issuer::load(path)?;
    let config = as_service(&issuer.state_directory, || Config::load(path))
        .context("looking with the rights of the service's user failed")??;
    Ok(config)
}

/// What the machine lacks.
fn look_around(config: &Config) -> Vec<anyhow::Error> {
    let issuer = &config.issuer;
    let mut faults = Vec::new();
    if let Err(error) = socket::group(issuer.admin_group.as_deref()) {
        faults.push(error.into());
    }
    // Before `init`, or without the right to look, only the files can be judged.
    if std::fs::read_dir(&issuer.state_directory).is_ok() {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let key = Kek::load(
            &issuer.key_encryption_key,
            credentials.as_deref(),
            &issuer.state_directory,
        );
        if let Err(error) = key {
            faults.push(error.into());
        }
    }
    faults
}

fn say_ok(config: &Config) -> anyhow::Result<()> {
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let authorities = match config.authorities.len() {
        1 => "1 authority".to_owned(),
        count => format!("{count} authorities"),
    };
    let (certificates, hosts) = (config.certificates.len(), config.hosts.len());
    let (certificates, hosts) = (counted(certificates, "certificate"), counted(hosts, "host"));
    print(format!("ok: {certificates}, {hosts}, {authorities}\n").as_bytes())
}

fn say(mistakes: Vec<Told>, declared: Declared) -> anyhow::Result<()> {
    let document = Document {
        version: VERSION,
        mistakes,
        declared,
    };
    print_json(&document)
}

impl Told {
    fn at(mistake: &Mistake) -> Self {
        let excerpt = mistake.excerpt.as_ref();
        Self {
            what: match mistake.unreadable {
                true => "configuration-unreadable",
                false => "configuration-mistake",
            },
            file: mistake.path.display().to_string(),
            line: excerpt.map(|excerpt| excerpt.line),
            column: excerpt.map(|excerpt| excerpt.column),
            problem: mistake.problem.clone(),
            remedy: mistake.advice.clone(),
        }
    }

    /// Of what the machine lacks for the configuration at `path`.
    fn of(fault: &anyhow::Error, path: &Path) -> Self {
        let (what, file) = match fault.downcast_ref::<KeyError>() {
            Some(error) => ("key-unusable", error.path()),
            None => ("admin-group-unknown", path),
        };
        Self {
            what,
            file: file.display().to_string(),
            line: None,
            column: None,
            problem: sentence(fault),
            remedy: None,
        }
    }
}
