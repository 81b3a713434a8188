//! Which files are to be changed so that HTTP-01 is answered, and how.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    Change,
    edit::{Wishes, edited},
    layout::Layout,
};
use crate::{
    nginx::{challenge_map, glob, syntax::normal},
    plan::doctor::{
        nginx::{Facts, Read},
        port_80::{self, ANSWER, INCLUDE, Lack},
    },
};

/// As the package ships it.
const SNIPPET: &str = include_str!("../../../../packaging/nginx/snippets/certwell-acme.conf");

/// What is to be changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// File by file.
    pub changes: Vec<Change>,
    /// Server blocks that begin with the include then.
    pub servers: usize,
}

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// nginx refuses its configuration for a reason that isn't ours.
    #[error("nginx refuses its own configuration, so nothing is put in: {0}; mend that first")]
    Refused(String),
    /// nginx can't be asked.
    #[error("nginx's configuration can't be known, so nothing is put in: {0}")]
    Unknown(String),
    /// The file that would be included answers nothing.
    #[error("{path} doesn't hold the line that answers HTTP-01, so including it changes nothing, and nothing is put in; put `{ANSWER}` into it first", path = .0.display())]
    Silent(PathBuf),
    /// A file can't be edited.
    #[error("{path} can't be edited: {why}; put `{INCLUDE}` in by hand, first in each server block at port 80", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file can't be read.
    #[error("{path} can't be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// What it takes for every server block that is in the way. `root` is nginx's first file.
///
/// # Errors
/// When nginx's configuration isn't known, or a file can't be edited.
pub fn propose(facts: &Facts, root: &Path) -> Result<Proposal, ProposeError> {
    let mut wanted: BTreeMap<PathBuf, Wishes> = BTreeMap::new();
    let mut servers = 0;
    let mut needs_snippet = facts.lacks_snippet();
    let mut needs_map = needs_snippet;
    match &facts.read {
        Read::Known(_) => {
            let blocks = port_80::blocks(&facts.port_80);
            for block in blocks.iter().filter(|block| block.is_needed) {
                servers += 1;
                let at = &block.server.at;
                let wishes = wanted.entry(real(&at.file)?).or_default();
                wishes.first.push((at.line, block.nth));
                if let Lack::Order { include, .. } = &block.lack
                    && include.file == at.file
                {
                    wishes.late.push(include.line);
                }
            }
            if servers > 0 && facts.snippet_silent {
                return Err(ProposeError::Silent(facts.snippet.clone()));
            }
            needs_snippet |= servers > 0 && !facts.snippet_there;
            let is_included = facts.map.is_included == Some(true);
            needs_map |= servers > 0 || !is_included;
            if let Some(http) = facts.map.http.as_ref().filter(|_| !is_included) {
                let wishes = wanted.entry(real(&http.file)?).or_default();
                wishes.map = Some((http.line, include_of(&facts.map.path)));
            }
        }
        Read::Refused(_) if facts.lacks_map() => {
            needs_map = true;
            let file = real(root)?;
            if let Some(line) = http_without_map(&file, root, &facts.map.path)? {
                wanted.entry(file).or_default().map = Some((line, include_of(&facts.map.path)));
            }
        }
        Read::Refused(_) if needs_snippet => {}
        Read::Refused(words) => return Err(ProposeError::Refused(words.clone())),
        Read::Failed(why) => return Err(ProposeError::Unknown(why.clone())),
        Read::Not => return Err(ProposeError::Unknown("there is no nginx".to_owned())),
    }
    let mut changes = Vec::new();
    if needs_map && !facts.map.is_there {
        changes.push(new(&facts.map.path, &challenge_map::render(&[])));
    }
    if needs_snippet {
        changes.push(new(&facts.snippet, SNIPPET));
    }
    for (path, mut wishes) in wanted {
        // Where a file is read under two names, each of its blocks is wanted twice.
        wishes.first.sort_unstable();
        wishes.first.dedup();
        let before = read(&path)?;
        let after = edited(&before, &wishes, INCLUDE).map_err(|why| ProposeError::File {
            path: path.clone(),
            why,
        })?;
        changes.push(Change {
            path,
            before: Some(before),
            after,
        });
    }
    Ok(Proposal { changes, servers })
}

fn new(path: &Path, text: &str) -> Change {
    Change {
        path: path.to_owned(),
        before: None,
        after: text.as_bytes().to_vec(),
    }
}

fn real(path: &Path) -> Result<PathBuf, ProposeError> {
    std::fs::canonicalize(path).map_err(|source| ProposeError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ProposeError> {
    std::fs::read(path).map_err(|source| ProposeError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Quoted where nginx would cut it.
fn include_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.contains(|c: char| c.is_whitespace() || "\"';{}#\\$".contains(c)) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("include \"{quoted}\";")
    } else {
        format!("include {text};")
    }
}

/// Where the http block of nginx's first file begins, if no include in it names the map: without a dump, what other
/// files say isn't known.
fn http_without_map(file: &Path, root: &Path, map: &Path) -> Result<Option<u32>, ProposeError> {
    let bytes = read(file)?;
    let failed = |why: String| ProposeError::File {
        path: file.to_owned(),
        why,
    };
    let layout = Layout::of(&bytes)
        .map_err(|(line, what)| failed(format!("line {line} isn't understood ({what})")))?;
    let http = layout.blocks.iter().find(|block| block.name == "http");
    let http = http.ok_or_else(|| failed("it has no http block".to_owned()))?;
    let directory = root.parent().unwrap_or(Path::new("/"));
    let names_map = layout
        .simple
        .iter()
        .filter(|found| http.inside.contains(&found.span.start))
        .filter(|found| found.words.first().is_some_and(|name| name == "include"))
        .flat_map(|found| found.words.iter().skip(1))
        .map(|pattern| normal(&directory.join(pattern)))
        .any(|pattern| glob::matches(&pattern.to_string_lossy(), &map.to_string_lossy()));
    Ok((!names_map).then_some(http.line))
}
