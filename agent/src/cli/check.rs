//! `certwell-agent check`: whether agent.toml can be used, and every mistake of it.

use std::path::Path;

use certwell_proto::Exit;
use serde::Serialize;

use super::{Cli, Failure, load, say, say_json};
use crate::{
    config::{self, Config, ConfigError, Mistake},
    disk::{Permissions, permissions::PermissionError},
};

const VERSION: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    mistakes: Vec<Told>,
}

/// As by `certwell-issuer check`. Here what to do is part of the sentence.
#[derive(Debug, Serialize)]
struct Told {
    /// The same words as doctor's.
    what: &'static str,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    problem: String,
    remedy: Option<String>,
}

pub(super) fn perform(cli: &Cli, json: bool) -> Result<Exit, Failure> {
    if json {
        return as_json(&cli.config);
    }
    permissions(&load(cli)?).map_err(|error| Failure::new(Exit::Configuration, error))?;
    say("ok");
    Ok(Exit::Done)
}

fn as_json(path: &Path) -> Result<Exit, Failure> {
    let mistakes = match config::load(path) {
        Ok(config) => {
            let fault = permissions(&config).err();
            let told = |error: PermissionError| {
                Told::of_file("file-group-unknown", path, error.to_string())
            };
            fault.map(told).into_iter().collect()
        }
        Err(error @ ConfigError::Read { .. }) => {
            vec![Told::of_file(
                "configuration-unreadable",
                path,
                error.to_string(),
            )]
        }
        Err(ConfigError::Mistakes { path, mistakes }) => mistakes
            .into_iter()
            .map(|mistake| Told::at(&path, mistake))
            .collect(),
    };
    let exit = match mistakes.is_empty() {
        true => Exit::Done,
        false => Exit::Configuration,
    };
    say_json(&Document {
        version: VERSION,
        mistakes,
    })?;
    Ok(exit)
}

/// What the machine must have for it.
fn permissions(config: &Config) -> Result<Permissions, PermissionError> {
    Permissions::new(config.file_group.as_deref())
}

impl Told {
    fn of_file(what: &'static str, file: &Path, problem: String) -> Self {
        Self {
            what,
            file: file.display().to_string(),
            line: None,
            column: None,
            problem,
            remedy: None,
        }
    }

    fn at(file: &Path, mistake: Mistake) -> Self {
        Self {
            line: Some(mistake.line),
            column: Some(mistake.column),
            ..Self::of_file("configuration-mistake", file, mistake.problem)
        }
    }
}
