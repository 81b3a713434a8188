//! Taking a certbot lineage over, and giving it back: the next step on disk, from what lies there; and what must hold
//! first.
//!
//! What lies on disk says how far it came, so that whatever ended a run, the next one goes on from there.

use std::path::{Path, PathBuf};

use certwell_proto::{Generation, Identifier, Leaf};
use jiff::Timestamp;

use crate::nginx::{KeyAlgorithm, Place, Server, ServerName};

/// What lies at a path, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A directory, as certbot makes it.
    Directory,
    /// A link, to here.
    Link(PathBuf),
    /// Neither.
    Other,
}

/// What lies at `renewal/LINEAGE.conf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conf {
    /// Nothing.
    Absent,
    /// An empty file: what certbot leaves of an attempt to order the same name anew.
    Empty,
    /// A renewal configuration.
    Present,
}

/// All that lies on disk of one lineage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At `live/LINEAGE`.
    pub live: Entry,
    /// At `live/.LINEAGE.before-certwell`.
    pub aside: Entry,
    /// At `renewal/LINEAGE.conf`.
    pub conf: Conf,
    /// Whether `renewal/LINEAGE.conf.before-certwell` is there.
    pub conf_aside: bool,
    /// Whether the note of what is meant is in `adopted.json`, not settled.
    pub noted: bool,
}

/// One step; each is on disk before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Note what is meant.
    Note,
    /// Put the renewal configuration aside: from here on certbot leaves the lineage alone.
    SetConfAside,
    /// Remove the link that lies aside.
    RemoveLink,
    /// Make the link, aside.
    MakeLink,
    /// Exchange the two: link and directory change places at once.
    Exchange,
    /// Put the renewal configuration back.
    PutConfBack,
    /// All is as it is meant to be.
    Done,
}

/// Where certbot's directory and certwell's link are, by turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// `live/LINEAGE`.
    Live,
    /// `live/.LINEAGE.before-certwell`.
    Aside,
}

/// What somebody else put in the way; each continues a sentence that begins with the path in question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Both renewal configurations are there.
    #[error(
        "is a new renewal configuration beside the one that was put aside (.before-certwell); move the one away that isn't wanted"
    )]
    TwoConfs,
    /// Something that we don't put there.
    #[error("{}", stranger(.1))]
    Stranger(Spot, Entry),
    /// The directory is gone.
    #[error("is gone, where certbot's directory was kept: there is nothing to go back to")]
    Lost,
}

fn stranger(found: &Entry) -> String {
    let what = match found {
        Entry::Absent => {
            return "is gone; see what was changed, and put back what was there".to_owned();
        }
        Entry::Directory => "a directory".to_owned(),
        Entry::Link(to) => format!("a link to {}", to.display()),
        Entry::Other => "neither a directory nor a link".to_owned(),
    };
    format!("is {what}, not what certwell puts there; see what was changed, and move it away")
}

impl Conflict {
    /// Which of the two is to blame: the first that isn't what it can be.
    fn of(found: &Found, target: &Path) -> Self {
        let is_right = match &found.live {
            Entry::Directory => true,
            Entry::Link(to) => to == target,
            Entry::Absent | Entry::Other => false,
        };
        if is_right {
            Self::Stranger(Spot::Aside, found.aside.clone())
        } else {
            Self::Stranger(Spot::Live, found.live.clone())
        }
    }
}

/// The next step of taking it over. `target` is what the link leads to.
///
/// # Errors
/// When something is in the way.
pub fn adopt(found: &Found, target: &Path) -> Result<Step, Conflict> {
    let ours = |entry: &Entry| matches!(entry, Entry::Link(to) if to == target);
    let next = match (&found.live, &found.aside) {
        (live, Entry::Directory) if ours(live) => Step::Done,
        (Entry::Directory, Entry::Absent) => Step::MakeLink,
        (Entry::Directory, aside) if ours(aside) => Step::Exchange,
        // Of an attempt with another certificate.
        (Entry::Directory, Entry::Link(_)) => Step::RemoveLink,
        (live, Entry::Absent) if ours(live) => return Err(Conflict::Lost),
        _ => return Err(Conflict::of(found, target)),
    };
    match found.conf {
        Conf::Present if found.conf_aside => Err(Conflict::TwoConfs),
        _ if !found.noted => Ok(Step::Note),
        Conf::Present => Ok(Step::SetConfAside),
        Conf::Absent | Conf::Empty => Ok(next),
    }
}

/// The next step of giving it back.
///
/// # Errors
/// When something is in the way.
pub fn undo(found: &Found, target: &Path) -> Result<Step, Conflict> {
    let ours = |entry: &Entry| matches!(entry, Entry::Link(to) if to == target);
    let next = match (&found.live, &found.aside) {
        (live, Entry::Directory) if ours(live) => Step::Exchange,
        (Entry::Directory, Entry::Absent) if found.conf_aside => Step::PutConfBack,
        (Entry::Directory, Entry::Absent) => Step::Done,
        (Entry::Directory, aside) if ours(aside) => Step::RemoveLink,
        (live, Entry::Absent) if ours(live) => return Err(Conflict::Lost),
        _ => return Err(Conflict::of(found, target)),
    };
    if found.conf == Conf::Present && found.conf_aside {
        return Err(Conflict::TwoConfs);
    }
    Ok(if found.noted { next } else { Step::Note })
}

/// What the certificate that is to take its place is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Successor {
    /// There is none of this name on this host.
    Absent,
    /// `live/CERTIFICATE` isn't a link to one of our generations.
    Foreign,
    /// The generation can't be read.
    Damaged(Generation),
    /// It is active.
    Active(Generation, Box<Leaf>),
}

/// Why a certificate can't take the lineage's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not here.
    #[error(
        "certwell has no certificate {0} on this host: declare it at the issuer for this host, or name another one with --as"
    )]
    Absent(String),
    /// Not ours.
    #[error(
        "{0} in certwell's live directory is not of this agent; see `certwell-agent status` for why"
    )]
    Foreign(String),
    /// The placeholder, or broken.
    #[error(
        "certwell's generation {1} of {0} can't be read; the running agent puts it back: see `certwell-agent status`"
    )]
    Damaged(String, Generation),
    /// Nothing was issued yet.
    #[error(
        "certwell's {0} is still the self-signed placeholder: wait until it is issued, as `certwell status` on the issuer says"
    )]
    Placeholder(String),
    /// Not valid now.
    #[error(
        "certwell's generation {1} of {0} is not valid now (from {2} until {3}): renew it first, or set this host's clock"
    )]
    Invalid(String, Generation, Timestamp, Timestamp),
    /// One of twins would be lost.
    #[error(
        "certwell's {certificate} has an {ours} key, and the server block at {at} has the lineage's {theirs} key beside another certificate, for clients that know no other: have the issuer make an {theirs} key for it (key-type), or name another certificate with --as"
    )]
    Twin {
        /// The certificate.
        certificate: String,
        /// Its key.
        ours: &'static str,
        /// The lineage's.
        theirs: &'static str,
        /// The server block.
        at: Place,
    },
    /// Some names aren't covered.
    #[error(
        "certwell's {certificate} doesn't cover {missing}, which nginx serves with the lineage: add it to the certificate's identifiers at the issuer"
    )]
    Names {
        /// The certificate.
        certificate: String,
        /// The names, joined by commas.
        missing: String,
    },
}

/// Whether `certificate` may take the place of a lineage whose names in use are `needed`.
///
/// # Errors
/// The first reason why not.
pub fn fit(
    certificate: &str,
    successor: &Successor,
    needed: &[Identifier],
    now: Timestamp,
) -> Result<Generation, Unfit> {
    let name = || certificate.to_owned();
    let (generation, leaf) = match successor {
        Successor::Absent => return Err(Unfit::Absent(name())),
        Successor::Foreign => return Err(Unfit::Foreign(name())),
        Successor::Damaged(generation) => return Err(Unfit::Damaged(name(), *generation)),
        Successor::Active(Generation::NONE, _) => return Err(Unfit::Placeholder(name())),
        Successor::Active(generation, leaf) => (*generation, leaf),
    };
    if !leaf.is_valid_at(now) {
        return Err(Unfit::Invalid(
            name(),
            generation,
            leaf.not_before,
            leaf.not_after,
        ));
    }
    let missing: Vec<String> = needed
        .iter()
        .filter(|wanted| !covers(&leaf.identifiers, wanted))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        return Err(Unfit::Names {
            certificate: name(),
            missing: missing.join(", "),
        });
    }
    Ok(generation)
}

/// Whether server blocks that have the lineage as one of twins have both kinds of key still. `keys` are the lineage's
/// and the certificate's, where they are known.
///
/// # Errors
/// When one would be left without.
pub fn keeps_twins<'a>(
    certificate: &str,
    keys: (Option<KeyAlgorithm>, Option<KeyAlgorithm>),
    blocks: impl IntoIterator<Item = &'a Server>,
) -> Result<(), Unfit> {
    let (Some(theirs), Some(ours)) = keys else {
        return Ok(());
    };
    let word = |key| match key {
        KeyAlgorithm::Rsa => "RSA",
        KeyAlgorithm::Ecdsa => "ECDSA",
    };
    let mut twins = blocks
        .into_iter()
        .filter(|block| block.certificates.len() > 1);
    match twins.next() {
        Some(block) if ours != theirs => Err(Unfit::Twin {
            certificate: certificate.to_owned(),
            ours: word(ours),
            theirs: word(theirs),
            at: block.at.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether it is a lineage's own files that nginx refuses, by its words: then another certificate in their place may be
/// just what mends it.
pub fn is_to_blame(words: &str, live: &[PathBuf]) -> bool {
    live.iter()
        .any(|live| words.contains(&format!("{}/", live.display())))
}

/// Those names of a lineage that are needed: the ones that server blocks using it answer for. All of them where a
/// block takes any name, and where no block uses it: then something else may. What a block is called and the lineage
/// doesn't cover isn't served well today either.
pub fn needed<'a>(
    lineage: &[Identifier],
    blocks: impl IntoIterator<Item = &'a Server>,
) -> Vec<Identifier> {
    let mut found: Vec<Identifier> = Vec::new();
    let mut any = false;
    for block in blocks {
        any = true;
        let named: Option<Vec<Identifier>> = block
            .names
            .iter()
            .map(asked)
            .collect::<Option<Vec<_>>>()
            .map(|names| names.concat());
        // One that takes any name: `_`, none, an expression.
        let Some(named) = named.filter(|named| !named.is_empty()) else {
            return lineage.to_vec();
        };
        found.extend(
            named
                .into_iter()
                .filter(|name| lineage.is_empty() || covers(lineage, name)),
        );
    }
    if !any {
        return lineage.to_vec();
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What a client may ask for by this name; `None` where it can't be said. Nothing for what no public certificate
/// covers (`_`, `localhost`).
fn asked(name: &ServerName) -> Option<Vec<Identifier>> {
    let texts = match name {
        ServerName::Exact(name) => vec![name.clone()],
        ServerName::Leading(base) => vec![format!("*.{base}")],
        ServerName::Dotted(base) => vec![base.clone(), format!("*.{base}")],
        ServerName::Trailing(_) | ServerName::Regex(_) => return None,
    };
    Some(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

/// Whether a certificate with these names is good for `wanted` (RFC 6125 6.4.3: a wildcard stands for one label).
fn covers(names: &[Identifier], wanted: &Identifier) -> bool {
    names.iter().any(|name| match (name, wanted) {
        (name, wanted) if name == wanted => true,
        (Identifier::Dns(name), Identifier::Dns(wanted)) => name
            .strip_prefix("*.")
            .zip(wanted.split_once('.'))
            .is_some_and(|(base, (label, rest))| label != "*" && base == rest),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
