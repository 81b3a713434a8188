//! The declared state: `issuer.toml` and `conf.d/*.toml` beside it.
//!
//! ```text
//! model      the validated configuration
//! mistake    mistakes with path, line, column and caret; all of them at once
//! section    one table: keys by type, unknown ones refused
//! declared   what the files say, each value checked by itself
//! resolve    names that point elsewhere
//! limit      what one host can be told, and whose challenges it can answer
//! duration   30s, 15m, 6h, 7d
//! watch      reload on change; a bad edit keeps the last good
//! ```

mod declared;
pub mod duration;
mod limit;
mod mistake;
mod model;
mod resolve;
mod section;
mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use declared::check_endpoint;
pub use mistake::{ConfigErrors, Excerpt, Mistake};
pub use model::{
    Alerts, Authority, Certificate, Config, Host, Issuer, KeyType, Page, Probe, ProbeUrl, Renewal,
    Roots,
};
pub use watch::{Current, watch};

use self::{
    declared::Declared,
    mistake::{Mistakes, Place, Source},
};

/// Directory of further files, beside `issuer.toml`.
pub const DIRECTORY: &str = "conf.d";

impl Config {
    /// Reads `issuer.toml` at `path` and `conf.d/*.toml` beside it.
    ///
    /// # Errors
    /// Every mistake in every file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let mut unreadable = Vec::new();
        let mut sources = Vec::new();
        let files = match source_files(path) {
            Ok(files) => files,
            Err(error) => {
                unreadable.push((path.with_file_name(DIRECTORY), error));
                vec![path.to_owned()]
            }
        };
        for file in files {
            match fs::read_to_string(&file) {
                Ok(text) => sources.push(Source { path: file, text }),
                Err(error) => unreadable.push((file, error)),
            }
        }
        let mut mistakes = Mistakes::new(&sources);
        for (file, error) in unreadable {
            let advice = (error.kind() == io::ErrorKind::NotFound).then(|| {
                "`certwell-issuer init` makes one; --config names another place".to_owned()
            });
            mistakes.unreadable(file, &error, advice);
        }
        let config = read(path, &mut mistakes);
        match (mistakes.into_errors(), config) {
            (None, Some(config)) => Ok(config),
            (Some(errors), _) => Err(errors),
            // Not reached: where there is no configuration there is a mistake.
            (None, None) => Err(ConfigErrors {
                mistakes: Vec::new(),
            }),
        }
    }
}

impl Issuer {
    /// `[issuer]` alone, with the mistakes elsewhere: a backup is made with these too.
    ///
    /// # Errors
    /// Every mistake in every file, when `issuer.toml` can't be parsed or one of them is in `[issuer]`.
    pub fn load(path: &Path) -> Result<(Self, Option<ConfigErrors>), ConfigErrors> {
        let errors = match Config::load(path) {
            Ok(config) => return Ok((config.issuer, None)),
            Err(errors) => errors,
        };
        match read_issuer(path) {
            Some(issuer) => Ok((issuer, Some(errors))),
            None => Err(errors),
        }
    }
}

fn read_issuer(path: &Path) -> Option<Issuer> {
    let text = fs::read_to_string(path).ok()?;
    let sources = [Source {
        path: path.to_owned(),
        text,
    }];
    let (table, errors) = DeTable::parse_recoverable(&sources[0].text);
    if !errors.is_empty() {
        return None;
    }
    let mut mistakes = Mistakes::new(&sources);
    let absolute = std::path::absolute(path).ok()?;
    let issuer = declared::issuer_alone(table.get_ref(), absolute.parent()?, &mut mistakes);
    issuer.filter(|_| mistakes.is_empty())
}

/// `issuer.toml` itself, then the files of `conf.d` by their names.
///
/// # Errors
/// When `conf.d` exists and can't be listed.
pub fn source_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut more = Vec::new();
    match fs::read_dir(path.with_file_name(DIRECTORY)) {
        Ok(entries) => {
            for entry in entries {
                let file = entry?.path();
                let hidden = file
                    .file_name()
                    .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if !hidden
                    && file
                        .extension()
                        .is_some_and(|extension| extension == "toml")
                {
                    more.push(file);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    more.sort();
    Ok(std::iter::once(path.to_owned()).chain(more).collect())
}

fn read(path: &Path, mistakes: &mut Mistakes<'_>) -> Option<Config> {
    let sources = mistakes.sources;
    // Relative paths inside the files are relative to the directory of issuer.toml.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let mut whole = mistakes.is_empty();
    let mut declared = Declared::default();
    for (file, source) in sources.iter().enumerate() {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let place = Place::new(file, error.span().unwrap_or(0..0));
            mistakes.add(place, error.message().trim().replace('\n', ", "));
        }
        if errors.is_empty() {
            declared.read(file, table.get_ref(), (path, directory), mistakes);
        } else {
            whole = false;
        }
    }
    if !whole {
        // What an unreadable file would have declared is unknown: references can't be judged.
        return None;
    }
    if !declared.has_issuer {
        mistakes.of_file(
            path.to_owned(),
            "the table [issuer] is missing",
            Some("add [issuer] with fleet and endpoints".to_owned()),
        );
    }
    resolve::resolve(declared, mistakes)
}
