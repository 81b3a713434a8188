//! From TOML to the model. Every mistake is gathered, so that one look mends them all.

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config, ConfigError, Mistake,
    alarm::{NOWHERE, base_of},
};
use crate::{nginx::Reload, tasks::post_install};

const KEYS: &[&str] = &[
    "state-directory",
    "live-directory",
    "certbot-directory",
    "file-group",
    "post-install",
    "post-install-limit",
    "nginx",
    "exec",
    "alarm",
    "metrics",
];
const NGINX_KEYS: &[&str] = &[
    "pid-file",
    "binary",
    "config",
    "prefix",
    "challenge-map",
    "reload",
    "edit-hold",
    "start-after-failure",
];

/// Reads `path`; relative paths in it become relative to its directory.
///
/// # Errors
/// When it can't be read, or holds mistakes: all of them, each with its place.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut config = parse_of(&text, path).map_err(|mistakes| ConfigError::Mistakes {
        path: path.to_owned(),
        mistakes,
    })?;
    // Links are made of these paths: they must lead to the same place from wherever they lie.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    config.resolve(absolute.parent().unwrap_or(Path::new("/")));
    Ok(config)
}

/// Reads `path` as far as it can be used: what is wrong or missing is by the defaults, and told besides.
pub fn load_what_is_right(path: &Path) -> (Config, Option<ConfigError>) {
    let (mut config, error) = match std::fs::read_to_string(path) {
        Ok(text) => {
            let (config, mistakes) = read(&text, path);
            let error = (!mistakes.is_empty()).then(|| ConfigError::Mistakes {
                path: path.to_owned(),
                mistakes,
            });
            (config, error)
        }
        Err(source) => {
            let error = ConfigError::Read {
                path: path.to_owned(),
                source,
            };
            (Config::default(), Some(error))
        }
    };
    config.resolve(path.parent().unwrap_or(Path::new("")));
    (config, error)
}

/// Reads a text; its paths stay as they are written.
///
/// # Errors
/// All mistakes, in the order of their lines.
pub fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    parse_of(text, Path::new(NOWHERE))
}

fn parse_of(text: &str, path: &Path) -> Result<Config, Vec<Mistake>> {
    match read(text, path) {
        (config, mistakes) if mistakes.is_empty() => Ok(config),
        (_, mistakes) => Err(mistakes),
    }
}

fn read(text: &str, path: &Path) -> (Config, Vec<Mistake>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        text,
        file: path,
        base: base_of(path),
        mistakes: Vec::new(),
    };
    for error in errors {
        reader.mistake(
            error.span().unwrap_or(0..0),
            error.message().trim_end().replace('\n', ", "),
        );
    }
    let mut config = Config::default();
    // A text that is no TOML gives keys that nobody wrote: its syntax is mended first.
    if reader.mistakes.is_empty() {
        reader.root(root.get_ref(), &mut config);
    }
    reader
        .mistakes
        .sort_by_key(|mistake| (mistake.line, mistake.column));
    (config, reader.mistakes)
}

pub(super) struct Reader<'a> {
    text: &'a str,
    /// What it was read from.
    pub(super) file: &'a Path,
    /// Where the paths begin that are read while it is.
    pub(super) base: PathBuf,
    mistakes: Vec<Mistake>,
}

pub(super) type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    pub(super) fn mistake(&mut self, span: Range<usize>, problem: impl Into<String>) {
        self.mistakes.push(Mistake::at(self.text, span, problem));
    }

    fn root(&mut self, table: &DeTable<'_>, config: &mut Config) {
        self.refuse_unknown(table, KEYS, "");
        self.path(table, "state-directory", &mut config.state_directory);
        self.path(table, "live-directory", &mut config.live_directory);
        self.path(table, "certbot-directory", &mut config.certbot_directory);
        if let Some(value) = table.get("file-group") {
            config.file_group = self.text_of(value, "the name of a group, such as \"ssl-cert\"");
        }
        self.post_install(table, config);
        if let Some(value) = table.get("alarm") {
            config.alarms = self.alarms(value);
        }
        if let Some((key, value)) = table.get_key_value("exec") {
            if table.contains_key("nginx") {
                self.mistake(
                    key.span(),
                    "an agent sees to one server: leave either [nginx] or [exec] out",
                );
            }
            config.exec = self.exec(key.span(), value);
        }
        if let Some(value) = table.get("metrics")
            && let Some(metrics) = self.table_of(value, "metrics")
        {
            self.refuse_unknown(metrics, &["listen"], "metrics.");
            if let Some(value) = metrics.get("listen") {
                config.metrics = self.address(value);
            }
        }
        let Some(value) = table.get("nginx") else {
            return;
        };
        let Some(nginx) = self.table_of(value, "nginx") else {
            return;
        };
        self.refuse_unknown(nginx, NGINX_KEYS, "nginx.");
        let into = &mut config.nginx;
        self.path(nginx, "pid-file", &mut into.pid_file);
        self.path(nginx, "binary", &mut into.binary);
        self.path(nginx, "config", &mut into.config);
        self.path(nginx, "challenge-map", &mut into.challenge_map);
        if nginx.contains_key("prefix") {
            let mut prefix = PathBuf::new();
            self.path(nginx, "prefix", &mut prefix);
            into.prefix = Some(prefix);
        }
        if let Some(value) = nginx.get("reload")
            && let Some(text) = self.text_of(value, "\"signal\" or a command")
        {
            into.reload = match text.as_str() {
                "signal" => Reload::Signal,
                command => Reload::Command(command.to_owned()),
            };
        }
        if let Some(value) = nginx.get("edit-hold") {
            self.duration(value, &mut config.edit_hold);
        }
        if let Some(value) = nginx.get("start-after-failure") {
            match value.get_ref().as_bool() {
                Some(wanted) => config.start_after_failure = wanted,
                None => self.mistake(value.span(), "true or false is needed, without quotes"),
            }
        }
    }

    fn post_install(&mut self, table: &DeTable<'_>, config: &mut Config) {
        let mut limit = post_install::LIMIT;
        if let Some(value) = table.get("post-install-limit") {
            self.duration(value, &mut limit);
            if limit < Duration::from_secs(1) {
                self.mistake(value.span(), "a hook needs a second at least");
            }
            if !table.contains_key("post-install") {
                self.mistake(value.span(), "there is no post-install that it limits");
            }
        }
        if table.contains_key("post-install") {
            let mut path = PathBuf::new();
            self.path(table, "post-install", &mut path);
            config.post_install = Some(post_install::Settings { path, limit });
        }
    }

    fn address(&mut self, value: &Value<'_>) -> Option<SocketAddr> {
        const WANTED: &str = "an address and a port such as \"127.0.0.1:7481\"";
        let text = self.text_of(value, WANTED)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.mistake(value.span(), format!("{text:?} is not {WANTED}"));
        }
        address
    }

    pub(super) fn table_of<'a>(
        &mut self,
        value: &'a Value<'_>,
        name: &str,
    ) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mistake(
                value.span(),
                format!("{name} is a table: write [{name}] and its keys below it"),
            );
        }
        table
    }

    pub(super) fn refuse_unknown(&mut self, table: &DeTable<'_>, known: &[&str], prefix: &str) {
        for key in table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let hint = nearest(name, known).map_or_else(
                    || format!("known are {}", known.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                self.mistake(key.span(), format!("unknown key {prefix}{name}; {hint}"));
            }
        }
    }

    pub(super) fn text_of(&mut self, value: &Value<'_>, wanted: &str) -> Option<String> {
        match value.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() => Some(text.to_owned()),
            Some(_) => {
                self.mistake(value.span(), format!("is empty; {wanted} is needed"));
                None
            }
            None => {
                let found = value.get_ref().type_str();
                self.mistake(
                    value.span(),
                    format!("is of type {found}; {wanted} is needed"),
                );
                None
            }
        }
    }

    fn path(&mut self, table: &DeTable<'_>, key: &str, into: &mut PathBuf) {
        let Some(value) = table.get(key) else { return };
        let Some(text) = self.text_of(value, "a path in quotes") else {
            return;
        };
        if text.contains('\0') {
            self.mistake(value.span(), "a path can't hold a zero byte");
        } else {
            *into = text.into();
        }
    }

    pub(super) fn duration(&mut self, value: &Value<'_>, into: &mut Duration) {
        const WANTED: &str = "a duration such as \"90s\", \"30m\" or \"1h\"";
        let Some(text) = self.text_of(value, WANTED) else {
            return;
        };
        match text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|d| Duration::try_from(d).ok())
        {
            Some(duration) => *into = duration,
            None => self.mistake(value.span(), format!("{text:?} is not {WANTED}")),
        }
    }
}

/// A known key that differs by little, for a mistyped one.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
