//! The directories that the agent writes in: whether they are there, whose they are, and whether they take a file.

use std::path::PathBuf;

use super::{Findings, agent::Us};

/// A bundle of a certificate takes less, and so do a ledger and a state.
const ROOM: u64 = 1024 * 1024;
/// Files that an install makes, and a few more.
const INODES: u64 = 16;

/// A directory that the agent writes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As configured.
    pub path: PathBuf,
    /// Such as "the state directory".
    pub role: &'static str,
    /// Whether the agent makes it where it is missing.
    pub is_made: bool,
    /// What is there.
    pub entry: Entry,
    /// Every directory and link on the way, from the top on; the last is the directory itself, where it is there.
    pub way: Vec<Step>,
    /// What came of writing there, or in the nearest directory above that is there.
    pub trial: Trial,
    /// Of that file system.
    pub space: Option<Space>,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory, links followed.
    Directory,
    /// Nothing; the nearest directory above that is there.
    Missing {
        /// That directory.
        nearest: PathBuf,
    },
    /// Something else lies in its place, or in that of a directory above.
    NotDirectory(PathBuf),
    /// A link that leads nowhere.
    Dangling {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// It can't be looked at: why.
    Unknown(String),
}

/// A directory or link on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub path: PathBuf,
    /// Whether it is a symbolic link.
    pub is_link: bool,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// What came of writing a file that has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It went well.
    Passed,
    /// It wasn't tried.
    Untried,
    /// The file system is mounted read-only.
    ReadOnly,
    /// It is full, or its quota is used up.
    Full,
    /// It isn't allowed: the system's words.
    Denied(String),
    /// Anything else: the system's words.
    Failed(String),
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are left for us.
    pub bytes: u64,
    /// Inodes that are left for us; `None` where it doesn't count them.
    pub inodes: Option<u64>,
}

impl Place {
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.trial, Trial::Denied(_))
    }
}

pub(super) fn examine(places: &[Place], us: &Us, found: &mut Findings) {
    let mut told: Vec<PathBuf> = Vec::new();
    for place in places {
        let shown = place.path.display();
        let role = place.role;
        match &place.entry {
            Entry::Directory => {}
            Entry::Missing { nearest } if place.trial == Trial::Passed && place.is_made => {
                found.note(
                    "directory-missing",
                    format!("{role} {shown} isn't there yet"),
                    format!("the agent makes it, in {}", nearest.display()),
                );
            }
            Entry::Missing { .. } if place.trial == Trial::Passed => {
                found.in_the_way(
                    "directory-missing",
                    format!("{role} {shown} isn't there"),
                    format!("mkdir -p {shown}"),
                );
                continue;
            }
            Entry::Missing { .. } => {}
            Entry::NotDirectory(path) => {
                found.in_the_way(
                    "not-a-directory",
                    format!(
                        "{role} {shown} can't be: {} is no directory",
                        path.display()
                    ),
                    format!("move {} away", path.display()),
                );
                continue;
            }
            Entry::Dangling { link, target } => {
                found.in_the_way(
                    "dangling-link",
                    format!(
                        "{role} {shown} can't be: {} is a link to {}, which isn't there",
                        link.display(),
                        target.display()
                    ),
                    format!("mount or make {}, or remove the link", target.display()),
                );
                continue;
            }
            Entry::Unknown(why) => {
                if us.user == 0 {
                    found.in_the_way(
                        "directory-unusable",
                        format!("{role} {shown} can't be looked at: {why}"),
                        "see what keeps root from it: its file system, or a security module",
                    );
                }
                continue;
            }
        }
        for step in &place.way {
            if let Some((what, problem, remedy)) = distrust(step, place, us)
                && !told.contains(&step.path)
            {
                told.push(step.path.clone());
                found.in_the_way(
                    what,
                    format!(
                        "{} {problem}, so another user could read or exchange what the agent puts into {shown}",
                        step.path.display()
                    ),
                    remedy,
                );
            }
        }
        examine_room(place, us, found);
    }
}

fn examine_room(place: &Place, us: &Us, found: &mut Findings) {
    let shown = place.path.display();
    let role = place.role;
    let space = place.space;
    let few_inodes = space
        .and_then(|space| space.inodes)
        .filter(|left| *left < INODES);
    let little = space.map(|space| space.bytes).filter(|left| *left < ROOM);
    match &place.trial {
        Trial::ReadOnly => found.in_the_way(
            "read-only",
            format!("the file system of {role} {shown} is mounted read-only"),
            format!(
                "mount it for writing (mount -o remount,rw); does the kernel's log (dmesg) tell why it isn't? In a unit, \
                 ReadWritePaths={shown}"
            ),
        ),
        Trial::Denied(_) if us.user != 0 => {}
        Trial::Denied(why) | Trial::Failed(why) => found.in_the_way(
            "not-writable",
            format!("nothing can be written to {role} {shown}: {why}"),
            "see what keeps root from it: chattr (lsattr -d), a security module, the disk (dmesg)",
        ),
        _ if few_inodes.is_some() => found.in_the_way(
            "no-inodes",
            format!(
                "the file system of {role} {shown} has room for {} more files",
                few_inodes.unwrap_or_default()
            ),
            "remove files that nobody needs (df -i shows how many there are)",
        ),
        _ if little.is_some() || place.trial == Trial::Full => found.in_the_way(
            "disk-full",
            format!(
                "the file system of {role} {shown} is full: {} KiB are left",
                space.map_or(0, |space| space.bytes) / 1024
            ),
            "make room on it (df -h), or raise the quota",
        ),
        Trial::Passed | Trial::Untried | Trial::Full => {}
    }
}

/// Why what lies below a step can't be trusted: a word, the problem, the remedy.
fn distrust(step: &Step, place: &Place, us: &Us) -> Option<(&'static str, String, String)> {
    let shown = step.path.display();
    let foreign = step.user != 0 && step.user != us.user;
    if step.is_link {
        return foreign.then(|| {
            (
                "foreign-link",
                format!("is a link of user {}", step.user),
                format!("chown -h root {shown}, if it leads where it should"),
            )
        });
    }
    if foreign {
        let problem = format!("belongs to user {}", step.user);
        return Some(("wrong-owner", problem, format!("chown root {shown}")));
    }
    // Where the sticky bit is set, what is ours stays ours; in the directory itself others must not make anything.
    let is_itself = place.entry == Entry::Directory && place.way.last() == Some(step);
    let is_sticky = step.mode & 0o1000 != 0 && !is_itself;
    if step.mode & 0o002 != 0 && !is_sticky {
        let problem = "can be written by everybody".to_owned();
        return Some(("wrong-mode", problem, format!("chmod o-w {shown}")));
    }
    let own_group = step.group == 0 || step.group == us.group;
    if step.mode & 0o020 != 0 && !own_group && !is_sticky {
        let problem = format!("can be written by group {}", step.group);
        return Some(("wrong-mode", problem, format!("chmod g-w {shown}")));
    }
    None
}
