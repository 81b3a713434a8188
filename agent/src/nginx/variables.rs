//! Pure: what a certificate path with variables can be when a handshake comes.
//!
//! `$ssl_server_name` is the name that was asked for, `$server_name` the first name of the server block; a `map` over
//! either tells its values. What other variables hold is known to nginx alone.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    servers::ServerName,
    syntax::{Effective, Tree},
};

const ASKED: &str = "ssl_server_name";
const OWN: &str = "server_name";

/// One thing that the path can be. Variables that are left in it can be anything, but for `$ssl_server_name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expansion {
    /// For which handshakes.
    pub when: When,
    /// As nginx puts it together.
    pub path: String,
}

/// The handshakes for which a path is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// All that the server block answers.
    Always,
    /// Those that ask for this name.
    Asked(String),
    /// Those that ask for none of these.
    NotAsked(Vec<String>),
    /// Nobody knows.
    Unknown,
}

/// Which names lead to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lead {
    /// None.
    No,
    /// These.
    Names(Vec<String>),
    /// All of the server block but these.
    AllBut(Vec<String>),
    /// It can be any.
    Unknown,
}

/// The `map` blocks of one level, by the variable that each sets.
#[derive(Debug, Default)]
pub(super) struct Maps<'a>(HashMap<&'a str, Map<'a>>);

#[derive(Debug)]
struct Map<'a> {
    source: Cow<'a, str>,
    hostnames: bool,
    entries: Vec<(&'a str, &'a str)>,
}

impl<'a> Maps<'a> {
    pub(super) fn of<'t: 'a>(tree: &'t Tree<'_>, items: &[Effective<'t>]) -> Self {
        let maps = items.iter().filter(|item| item.directive.name == "map");
        Self(
            maps.filter_map(|item| {
                let [source, variable] = item.directive.args.as_slice() else {
                    return None;
                };
                let inside = tree.inside(*item);
                let entries = inside
                    .iter()
                    .filter_map(|entry| {
                        let value = entry.directive.args.first()?;
                        Some((&*entry.directive.name, &**value))
                    })
                    .collect();
                let map = Map {
                    source: Cow::Borrowed(source),
                    hostnames: inside
                        .iter()
                        .any(|entry| entry.directive.name == "hostnames"),
                    entries,
                };
                Some((variable.strip_prefix('$')?, map))
            })
            .collect(),
        )
    }

    /// Everything that a path of a server block with these names can be.
    pub(super) fn expand(&self, written: &str, names: &[ServerName]) -> Vec<Expansion> {
        let own = names.first().map_or(String::new(), primary);
        let path = replaced(written, OWN, &own);
        let mapped = variables(&path).find_map(|name| Some((name, self.0.get(name)?)));
        let Some((variable, map)) = mapped else {
            return vec![Expansion {
                when: When::Always,
                path,
            }];
        };
        let (exact, vague): (Vec<_>, Vec<_>) = map
            .entries
            .iter()
            .filter(|(key, _)| !matches!(*key, "hostnames" | "volatile" | "default"))
            .map(|(key, value)| (key.strip_prefix('\\').unwrap_or(key), value))
            .partition(|(key, _)| map.is_exact(key));
        let default = map.entries.iter().find(|(key, _)| *key == "default");
        let with = |when: When, value: &str| Expansion {
            when,
            path: replaced(&replaced(&path, variable, value), OWN, &own),
        };
        let source = map.source.strip_prefix('$').map(bare);
        let lower = |key: &str| key.to_ascii_lowercase();
        match source {
            Some(OWN) if vague.is_empty() => {
                let chosen = exact.iter().find(|(key, _)| lower(key) == own);
                chosen
                    .map(|(_, value)| **value)
                    .or(default.map(|(_, value)| *value))
                    .map(|value| with(When::Always, value))
                    .into_iter()
                    .collect()
            }
            Some(ASKED) => {
                let reaches = |key: &str| {
                    names.iter().any(|name| match name {
                        ServerName::Exact(name) => name == key || name.starts_with('_'),
                        _ => true,
                    }) || names.is_empty()
                };
                let keys: Vec<String> = exact.iter().map(|(key, _)| lower(key)).collect();
                let rest = if vague.is_empty() {
                    When::NotAsked(keys.iter().filter(|key| reaches(key)).cloned().collect())
                } else {
                    When::Unknown
                };
                let asked = exact
                    .iter()
                    .zip(&keys)
                    .filter(|(_, key)| reaches(key))
                    .map(|((_, value), key)| with(When::Asked(key.clone()), value));
                let unknown = vague.iter().map(|(_, value)| with(When::Unknown, value));
                let rest = default.map(|(_, value)| with(rest, value));
                asked.chain(unknown).chain(rest).collect()
            }
            _ => map
                .entries
                .iter()
                .map(|(_, value)| with(When::Unknown, value))
                .collect(),
        }
    }
}

impl Map<'_> {
    fn is_exact(&self, key: &str) -> bool {
        let wild = key.starts_with('*') || key.starts_with('.') || key.ends_with(".*");
        !(key.is_empty() || key.starts_with('~') || (self.hostnames && wild))
    }
}

impl Expansion {
    /// Which names lead to the certificate at `entry` by this path; `names` are those to be tried.
    pub(super) fn leads<'n>(&self, entry: &Path, names: impl Iterator<Item = &'n str>) -> Lead {
        let entry = format!("{}/", entry.display());
        self.leads_by(&entry, |path| path.starts_with(&entry), names)
    }

    /// The same to one file.
    pub(super) fn leads_to<'n>(&self, file: &Path, names: impl Iterator<Item = &'n str>) -> Lead {
        let file = file.to_string_lossy();
        self.leads_by(&file, |path| path == file, names)
    }

    fn leads_by<'n>(
        &self,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
        names: impl Iterator<Item = &'n str>,
    ) -> Lead {
        if !can_begin(&self.path, wanted) {
            return Lead::No;
        }
        if self.when == When::Unknown || variables(&self.path).any(|name| name != ASKED) {
            return Lead::Unknown;
        }
        if variables(&self.path).next().is_none() {
            return match &self.when {
                When::Asked(name) => Lead::Names(vec![name.clone()]),
                When::NotAsked(names) => Lead::AllBut(names.clone()),
                When::Always | When::Unknown => Lead::AllBut(Vec::new()),
            };
        }
        let permitted = |name: &str| match &self.when {
            When::Asked(only) => only == name,
            When::NotAsked(others) => !others.iter().any(|other| other == name),
            When::Always | When::Unknown => true,
        };
        let mut found: Vec<String> = Vec::new();
        for name in names {
            let leads = is_it(&replaced(&self.path, ASKED, name));
            if leads && permitted(name) && !found.iter().any(|other| other == name) {
                found.push(name.to_owned());
            }
        }
        if found.is_empty() {
            Lead::No
        } else {
            Lead::Names(found)
        }
    }

    /// Whether the name that is asked for stands at its beginning.
    pub(super) fn begins_with_name(&self) -> bool {
        parts(&self.path).0.first() == Some(&("", ASKED))
    }

    /// Whether all that it can be lies there.
    pub(super) fn is_below(&self, directory: &Path) -> bool {
        let (found, rest) = parts(&self.path);
        let literal = found.first().map_or(rest, |(before, _)| before);
        literal.starts_with(&format!("{}/", directory.display()))
    }

    /// The files that it is where one of these names is asked for; none where other variables decide.
    pub(crate) fn files(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut found = variables(&self.path).peekable();
        if found.peek().is_none() {
            return vec![self.path.clone().into()];
        }
        if found.any(|name| name != ASKED) {
            return Vec::new();
        }
        names
            .iter()
            .map(|name| replaced(&self.path, ASKED, name).into())
            .collect()
    }

    /// The path that is read for a handshake with this name.
    pub(super) fn read_for(&self, name: Option<&str>) -> String {
        replaced(&self.path, ASKED, name.unwrap_or_default())
    }
}

/// What `$server_name` is, in a server block of which this is the first name.
fn primary(name: &ServerName) -> String {
    match name {
        ServerName::Exact(name) | ServerName::Dotted(name) => name.clone(),
        ServerName::Leading(base) => format!("*.{base}"),
        ServerName::Trailing(base) => format!("{base}.*"),
        ServerName::Regex(regex) => format!("~{regex}"),
    }
}

/// Without the braces of `${name}`.
fn bare(name: &str) -> &str {
    name.strip_prefix('{')
        .and_then(|name| name.strip_suffix('}'))
        .unwrap_or(name)
}

/// The text as literal parts and variables, in turns: before each variable what comes before it, at last the rest.
fn parts(text: &str) -> (Vec<(&str, &str)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(dollar) = rest.get(from..).and_then(|later| later.find('$')) {
        let (before, after) = (&rest[..from + dollar], &rest[from + dollar + 1..]);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, then) = match after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
        {
            Some((name, then)) if name.chars().all(is_name) => (name, then),
            _ => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if name.is_empty() {
            from += dollar + 1;
            continue;
        }
        found.push((before, name));
        (rest, from) = (then, 0);
    }
    (found, rest)
}

fn variables(text: &str) -> impl Iterator<Item = &str> {
    parts(text).0.into_iter().map(|(_, name)| name)
}

fn replaced(text: &str, variable: &str, value: &str) -> String {
    let (found, rest) = parts(text);
    let mut out = String::with_capacity(text.len());
    for (before, name) in found {
        out.push_str(before);
        if name == variable {
            out.push_str(value);
        } else {
            out.extend(["${", name, "}"]);
        }
    }
    out.push_str(rest);
    out
}

/// Whether the path can begin with `wanted`: a variable can hold all that is left of it.
fn can_begin(path: &str, wanted: &str) -> bool {
    match parts(path).0.first() {
        Some((before, _)) => wanted.starts_with(before) || before.starts_with(wanted),
        None => path.starts_with(wanted),
    }
}

#[cfg(test)]
mod tests;
