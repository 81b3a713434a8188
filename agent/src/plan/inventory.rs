//! What the facts about nginx, certbot and certwell add up to: one row for each certificate of this host.
//!
//! ```text
//! told    the rows as the issuer is told of them
//! ```

pub mod told;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use certwell_proto::{CertificateName, Fingerprint, Generation, Leaf};
use jiff::Timestamp;

use crate::nginx::{CertificateSource, Place};

/// For what nginx has a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A server block shows it to those who connect.
    Listener,
    /// nginx presents it to upstreams, as a client: no handshake from outside can tell.
    Upstream,
}

/// A server block that names a certificate, or a directive that names one for upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// For what.
    pub role: Role,
    /// What it names.
    pub source: CertificateSource,
    /// The paths that leads through.
    pub through: Vec<PathBuf>,
    /// Where it listens with TLS, as configured; empty where it doesn't.
    pub listeners: Vec<String>,
    /// Its names, as configured.
    pub names: Vec<String>,
    /// Where the block begins, or the directive.
    pub at: Place,
    /// What its listeners were seen to serve.
    pub seen: Vec<Seen>,
}

/// One handshake, or the reason why there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `address:port`.
    pub address: String,
    /// Sent in SNI; empty without.
    pub name: String,
    /// What came of it.
    pub shown: Shown,
}

/// What came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// This leaf.
    Leaf(Fingerprint),
    /// No handshake: why.
    Down(String),
    /// None was to be made: why.
    Unprobed(String),
}

/// A certificate in certwell's live directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Where the link leads; 0 is the placeholder.
    pub generation: Generation,
    /// Its leaves; twins have two.
    pub leaves: Vec<Leaf>,
}

/// A lineage of certbot's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Its name.
    pub name: String,
    /// Whether certbot can renew it, and something runs certbot.
    pub renews: bool,
    /// The lineage that its live directory is a link to: another name of that one.
    pub alias_of: Option<String>,
    /// The certificate of certwell's that its live directory is now a link to.
    pub adopted_by: Option<String>,
    /// The leaf of its `fullchain.pem`.
    pub leaf: Option<Leaf>,
    /// What is broken.
    pub problems: Vec<String>,
}

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Of nginx's configuration.
    pub uses: Vec<Use>,
    /// The first certificate of each file that nginx names, or why there is none.
    pub files: BTreeMap<PathBuf, Result<Leaf, String>>,
    /// certwell's live directory; certbot's `live`. Each in every way that it is written.
    pub live: Vec<PathBuf>,
    /// See [`Facts::live`].
    pub certbot_live: Vec<PathBuf>,
    /// certbot's lineages, adopted ones included.
    pub lineages: Vec<Lineage>,
    /// certwell's certificates.
    pub own: Vec<Own>,
}

impl Facts {
    fn lineage(&self, name: &str) -> Option<usize> {
        self.lineages
            .iter()
            .position(|lineage| lineage.name == name)
    }

    /// The lineage of which this is another name.
    fn original(&self, lineage: &Lineage) -> Option<usize> {
        self.lineage(lineage.alias_of.as_ref()?)
    }
}

/// Who sees to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Managed {
    /// certwell.
    Certwell {
        /// By this name.
        name: String,
        /// The active generation; 0 is the placeholder.
        generation: Generation,
        /// The lineages whose place it took.
        adopted: Vec<String>,
    },
    /// certbot.
    Certbot {
        /// The lineage.
        lineage: String,
        /// Whether it is renewed by itself.
        renews: bool,
    },
    /// Nobody that is known.
    Nobody,
}

/// Whether it is what nginx serves where it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Every handshake brought it.
    Yes,
    /// At least one didn't.
    No,
    /// Nothing could be asked.
    Unprobed,
    /// nginx presents it to upstreams, and to nobody else.
    Upstream,
    /// nginx doesn't name it, or only where nothing speaks TLS.
    Unused,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What nginx names, or where certbot's or certwell's is; a text for what is no file.
    pub source: String,
    /// The leaf, where it can be read.
    pub leaf: Option<Leaf>,
    /// Leaves that are as good: an RSA twin.
    pub twins: Vec<Fingerprint>,
    /// Who sees to it.
    pub managed: Managed,
    /// The server blocks that name it.
    pub used_by: Vec<Use>,
    /// Sentences.
    pub problems: Vec<String>,
}

impl Row {
    /// Whether one sighting is of this certificate; `None` where nothing was asked.
    pub fn shows(&self, seen: &Seen) -> Option<bool> {
        match &seen.shown {
            Shown::Leaf(leaf) => Some(
                self.leaf
                    .as_ref()
                    .is_some_and(|own| own.fingerprint == *leaf)
                    || self.twins.contains(leaf),
            ),
            Shown::Down(_) => Some(false),
            Shown::Unprobed(_) => None,
        }
    }

    /// Over all of nginx that names it.
    pub fn served(&self) -> Served {
        if self.used_by.iter().all(|used| used.listeners.is_empty()) {
            let mut uses = self.used_by.iter();
            return if uses.any(|used| used.role == Role::Upstream) {
                Served::Upstream
            } else {
                Served::Unused
            };
        }
        // What nginx puts together for each handshake isn't known here.
        if self.leaf.is_none() && self.twins.is_empty() {
            return Served::Unprobed;
        }
        let mut any = false;
        for seen in self.used_by.iter().flat_map(|used| &used.seen) {
            match self.shows(seen) {
                Some(false) => return Served::No,
                Some(true) => any = true,
                None => {}
            }
        }
        if any { Served::Yes } else { Served::Unprobed }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Own(usize),
    Lineage(usize),
    File(PathBuf),
    Text(String),
}

/// The rows, those that end first at the top; what has no known end comes last.
pub fn rows(facts: &Facts, now: Timestamp) -> Vec<Row> {
    let mut uses: BTreeMap<Key, Vec<Use>> = BTreeMap::new();
    let mut adopted: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for used in &facts.uses {
        uses.entry(key(facts, used)).or_default().push(used.clone());
    }
    // An adopted lineage is certwell's, also where nginx doesn't name it.
    for lineage in facts
        .lineages
        .iter()
        .filter(|lineage| facts.original(lineage).is_none())
    {
        let by = lineage.adopted_by.as_ref();
        if let Some(own) = by.and_then(|by| facts.own.iter().position(|own| own.name == *by)) {
            adopted.entry(own).or_default().push(lineage.name.clone());
        }
    }
    for at in 0..facts.own.len() {
        uses.entry(Key::Own(at)).or_default();
    }
    for (at, lineage) in facts.lineages.iter().enumerate() {
        let is_alias = facts.original(lineage).is_some();
        if !is_alias && !adopted.values().flatten().any(|name| *name == lineage.name) {
            uses.entry(Key::Lineage(at)).or_default();
        }
    }
    let mut rows: Vec<Row> = uses
        .into_iter()
        .map(|(key, used_by)| row(facts, &key, used_by, &adopted, now))
        .collect();
    let end = |row: &Row| row.leaf.as_ref().map(|leaf| leaf.not_after);
    rows.sort_by(|a, b| {
        let ends = (end(a).is_none(), end(a)).cmp(&(end(b).is_none(), end(b)));
        ends.then_with(|| a.source.cmp(&b.source))
    });
    rows
}

fn key(facts: &Facts, used: &Use) -> Key {
    let path = match &used.source {
        CertificateSource::File(path) => path,
        CertificateSource::Variable(text) => return Key::Text(text.clone()),
        CertificateSource::Data => return Key::Text(format!("data: in {}", used.at)),
        CertificateSource::Store => return Key::Text(format!("store: in {}", used.at)),
    };
    let own = entry_below(&facts.live, used)
        .and_then(|entry| facts.own.iter().position(|own| own.name == entry));
    match own {
        Some(own) => Key::Own(own),
        None => lineage_of(facts, used).map_or_else(|| Key::File(path.clone()), Key::Lineage),
    }
}

/// Which of these certificates of certwell's no server block shows to anybody.
pub fn unnamed(facts: &Facts, names: &[CertificateName]) -> Vec<CertificateName> {
    let shown = |name: &CertificateName| {
        facts.uses.iter().any(|used| {
            used.role == Role::Listener
                && !used.listeners.is_empty()
                && entry_below(&facts.live, used) == Some(name.as_str())
        })
    };
    names.iter().filter(|name| !shown(name)).cloned().collect()
}

fn lineage_of(facts: &Facts, used: &Use) -> Option<usize> {
    let at = facts.lineage(entry_below(&facts.certbot_live, used)?)?;
    Some(facts.original(&facts.lineages[at]).unwrap_or(at))
}

/// The name of the entry of one of these directories that a certificate's path leads through.
fn entry_below<'a>(directories: &[PathBuf], used: &'a Use) -> Option<&'a str> {
    let CertificateSource::File(path) = &used.source else {
        return None;
    };
    let below = |path: &'a Path, directory: &PathBuf| {
        let rest = path.strip_prefix(directory).ok()?;
        rest.components().next()?.as_os_str().to_str()
    };
    std::iter::once(path).chain(&used.through).find_map(|path| {
        directories
            .iter()
            .find_map(|directory| below(path, directory))
    })
}

fn row(
    facts: &Facts,
    key: &Key,
    used_by: Vec<Use>,
    adopted: &BTreeMap<usize, Vec<String>>,
    now: Timestamp,
) -> Row {
    let named = |used_by: &[Use]| {
        used_by.first().and_then(|used| match &used.source {
            CertificateSource::File(path) => Some(path.display().to_string()),
            _ => None,
        })
    };
    let below = |directories: &[PathBuf], name: &str| {
        let path = directories.first().map(|directory| directory.join(name));
        path.unwrap_or_default()
            .join("fullchain.pem")
            .display()
            .to_string()
    };
    let mut row = match key {
        Key::Own(at) => {
            let own = &facts.own[*at];
            let mut leaves = own.leaves.iter();
            Row {
                source: named(&used_by).unwrap_or_else(|| below(&facts.live, &own.name)),
                leaf: leaves.next().cloned(),
                twins: leaves.map(|leaf| leaf.fingerprint).collect(),
                managed: Managed::Certwell {
                    name: own.name.clone(),
                    generation: own.generation,
                    adopted: adopted.get(at).cloned().unwrap_or_default(),
                },
                used_by,
                problems: Vec::new(),
            }
        }
        Key::Lineage(at) => {
            let lineage = &facts.lineages[*at];
            Row {
                source: named(&used_by)
                    .unwrap_or_else(|| below(&facts.certbot_live, &lineage.name)),
                leaf: lineage.leaf.clone(),
                twins: Vec::new(),
                managed: Managed::Certbot {
                    lineage: lineage.name.clone(),
                    renews: lineage.renews,
                },
                used_by,
                problems: lineage.problems.clone(),
            }
        }
        Key::File(path) => {
            let read = facts.files.get(path);
            Row {
                source: path.display().to_string(),
                leaf: read.and_then(|read| read.as_ref().ok()).cloned(),
                twins: Vec::new(),
                managed: Managed::Nobody,
                used_by,
                problems: read
                    .and_then(|read| read.as_ref().err())
                    .cloned()
                    .into_iter()
                    .collect(),
            }
        }
        Key::Text(text) => Row {
            source: text.clone(),
            leaf: None,
            twins: Vec::new(),
            managed: Managed::Nobody,
            used_by,
            problems: Vec::new(),
        },
    };
    if let Some(leaf) = &row.leaf {
        if leaf.not_after <= now {
            row.problems
                .push(format!("it expired at {}", leaf.not_after));
        } else if leaf.not_before > now {
            row.problems
                .push(format!("it is not valid before {}", leaf.not_before));
        }
    }
    let seen = || row.used_by.iter().flat_map(|used| &used.seen);
    let told: Vec<String> = seen()
        .filter(|seen| row.leaf.is_some() && row.shows(seen) == Some(false))
        .map(|seen| {
            let at = if seen.name.is_empty() {
                seen.address.clone()
            } else {
                format!("{} ({})", seen.address, seen.name)
            };
            match &seen.shown {
                Shown::Leaf(leaf) => format!("{at} serves another certificate ({})", leaf.short()),
                Shown::Down(why) | Shown::Unprobed(why) => format!("{at} doesn't serve it: {why}"),
            }
        })
        .collect();
    row.problems.extend(told);
    row
}

#[cfg(test)]
mod tests;
