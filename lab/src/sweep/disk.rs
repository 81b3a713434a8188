//! A disk that may lose what wasn't forced to it: a file's bytes and mode until the file is forced, a directory's
//! entries until the directory is. Nothing else is promised (POSIX `fsync`): an entry may be there without the bytes,
//! the bytes without the entry, a later change without an earlier one.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context as _, Result, bail};

use super::{
    call::Deed,
    tree::{Entry, Tree},
};

/// Of everything; what isn't the owner's alone is taken for readable.
const UMASK: u32 = 0o022;
type Number = usize;

#[derive(Debug, Clone)]
enum Thing {
    File(u32, Rc<Vec<u8>>),
    Directory(u32, BTreeMap<OsString, Number>),
    Link(PathBuf),
}

/// A change that isn't forced to disk yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Bytes(Number, usize, Rc<Vec<u8>>),
    Emptied(Number),
    Mode(Number, u32),
    /// Entries of one directory that change together.
    Entries(Number, Vec<(OsString, Option<Number>)>),
}

impl Change {
    fn of(&self) -> Number {
        match self {
            Self::Bytes(number, ..)
            | Self::Emptied(number)
            | Self::Mode(number, _)
            | Self::Entries(number, _) => *number,
        }
    }
}

/// What is on it for sure, what a running system sees, and the difference.
#[derive(Debug)]
pub(super) struct Disk {
    safe: Vec<Thing>,
    seen: Vec<Thing>,
    pending: Vec<Change>,
}

const ROOT: Number = 0;

impl Disk {
    /// With these files on it for sure.
    pub(super) fn new(tree: &Tree) -> Result<Self> {
        let mut disk = Self {
            safe: vec![Thing::Directory(0o755, BTreeMap::new())],
            seen: Vec::new(),
            pending: Vec::new(),
        };
        disk.seen.clone_from(&disk.safe);
        for (path, entry) in tree {
            let mut above = ROOT;
            for part in path.parent().into_iter().flat_map(Path::iter) {
                above = match disk.entry(above, part) {
                    Some(number) => number,
                    None => disk.add(above, part, Thing::Directory(0o755, BTreeMap::new())),
                };
            }
            let thing = match entry {
                Entry::Directory(mode) => Thing::Directory(*mode, BTreeMap::new()),
                Entry::File(mode, bytes) => Thing::File(*mode, Rc::new(bytes.clone())),
                Entry::Link(target) => Thing::Link(target.clone()),
                Entry::Other => continue,
            };
            let name = path.file_name().context("no name")?;
            disk.add(above, name, thing);
        }
        disk.safe.clone_from(&disk.seen);
        Ok(disk)
    }

    fn add(&mut self, above: Number, name: &OsStr, thing: Thing) -> Number {
        let number = self.make(thing);
        if let Thing::Directory(_, entries) = &mut self.seen[above] {
            entries.insert(name.to_owned(), number);
        }
        number
    }

    /// It is there without a name, and without what is written to it.
    fn make(&mut self, thing: Thing) -> Number {
        self.safe.push(thing.clone());
        self.seen.push(thing);
        self.seen.len() - 1
    }

    fn entry(&self, above: Number, name: &OsStr) -> Option<Number> {
        match &self.seen[above] {
            Thing::Directory(_, entries) => entries.get(name).copied(),
            _ => None,
        }
    }

    fn find(&self, path: &Path) -> Option<Number> {
        path.iter()
            .try_fold(ROOT, |above, name| self.entry(above, name))
    }

    fn found(&self, path: &Path) -> Result<Number> {
        self.find(path)
            .with_context(|| format!("{} isn't known", path.display()))
    }

    fn place(&self, path: &Path) -> Result<(Number, OsString)> {
        let above = self.found(path.parent().context("no parent")?)?;
        Ok((above, path.file_name().context("no name")?.to_owned()))
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.pending.push(change);
    }

    fn enter(&mut self, path: &Path, thing: Option<Number>) -> Result<()> {
        let (above, name) = self.place(path)?;
        self.change(Change::Entries(above, vec![(name, thing)]));
        Ok(())
    }

    /// Two entries at once where they are of one directory; else each by itself.
    fn enter_both(
        &mut self,
        one: (&Path, Option<Number>),
        other: (&Path, Option<Number>),
    ) -> Result<()> {
        let (first, second) = (self.place(one.0)?, self.place(other.0)?);
        if first.0 == second.0 {
            let entries = vec![(first.1, one.1), (second.1, other.1)];
            self.change(Change::Entries(first.0, entries));
            return Ok(());
        }
        self.enter(one.0, one.1)?;
        self.enter(other.0, other.1)
    }

    /// Does what a call did, its paths being below the root.
    pub(super) fn perform(&mut self, deed: &Deed) -> Result<()> {
        match deed {
            Deed::Open {
                path,
                makes,
                empties,
                mode,
            } => match self.find(path) {
                None if *makes => {
                    let file = self.make(Thing::File(mode & !UMASK, Rc::default()));
                    self.enter(path, Some(file))?;
                }
                None => bail!("{} isn't known", path.display()),
                Some(file) if *empties => self.change(Change::Emptied(file)),
                Some(_) => {}
            },
            Deed::Write { path, bytes } => {
                let file = self.found(path)?;
                let at = match &self.seen[file] {
                    Thing::File(_, bytes) => bytes.len(),
                    _ => bail!("{} is no file", path.display()),
                };
                self.change(Change::Bytes(file, at, Rc::new(bytes.clone())));
            }
            Deed::Force(path) => {
                let forced = self.found(path)?;
                let (safe, rest) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|change| change.of() == forced);
                self.pending = rest;
                let safe: Vec<Change> = safe;
                safe.iter().for_each(|change| apply(&mut self.safe, change));
            }
            Deed::Rename(from, to) => {
                let thing = self.found(from)?;
                self.enter_both((from, None), (to, Some(thing)))?;
            }
            Deed::Exchange(one, other) => {
                let (first, second) = (self.found(one)?, self.found(other)?);
                self.enter_both((one, Some(second)), (other, Some(first)))?;
            }
            Deed::Link { target, path } => {
                let link = self.make(Thing::Link(target.clone()));
                self.enter(path, Some(link))?;
            }
            Deed::Remove(path) | Deed::RemoveDirectory(path) => self.enter(path, None)?,
            Deed::MakeDirectory(path, mode) => {
                let made = self.make(Thing::Directory(mode & !UMASK, BTreeMap::new()));
                self.enter(path, Some(made))?;
            }
            Deed::Mode(path, mode) => {
                let thing = self.found(path)?;
                self.change(Change::Mode(thing, *mode));
            }
            Deed::Other(path) => bail!("{} is changed in another way", path.display()),
        }
        Ok(())
    }

    /// How many changes aren't forced to disk.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The files that are there after a loss of power, where of the pending changes only these came to the disk.
    pub(super) fn after_loss(&self, kept: impl Fn(usize) -> bool) -> Tree {
        let mut things = self.safe.clone();
        for (at, change) in self.pending.iter().enumerate() {
            if kept(at) {
                apply(&mut things, change);
            }
        }
        tree(&things)
    }

    /// Changes in words.
    pub(super) fn words(&self, which: impl Fn(usize) -> bool) -> Vec<String> {
        let of = |number: Number| self.name_of(number);
        let words = |change: &Change| match change {
            Change::Bytes(file, at, bytes) => {
                format!("{} bytes of {} from {at}", bytes.len(), of(*file))
            }
            Change::Emptied(file) => format!("the emptying of {}", of(*file)),
            Change::Mode(thing, mode) => format!("mode {mode:04o} of {}", of(*thing)),
            Change::Entries(directory, entries) => {
                let names: Vec<String> = entries
                    .iter()
                    .map(|(name, thing)| {
                        let sign = if thing.is_some() { "+" } else { "-" };
                        format!("{sign}{}", name.to_string_lossy())
                    })
                    .collect();
                format!("entries {} in {}", names.join(" "), of(*directory))
            }
        };
        let chosen = self.pending.iter().enumerate().filter(|(at, _)| which(*at));
        chosen.map(|(_, change)| words(change)).collect()
    }

    fn name_of(&self, wanted: Number) -> String {
        let mut open = vec![(ROOT, PathBuf::new())];
        while let Some((number, path)) = open.pop() {
            if number == wanted {
                return path.display().to_string();
            }
            if let Thing::Directory(_, entries) = &self.seen[number] {
                open.extend(
                    entries
                        .iter()
                        .map(|(name, inside)| (*inside, path.join(name))),
                );
            }
        }
        format!("what has no name now ({wanted})")
    }
}

fn apply(things: &mut [Thing], change: &Change) {
    match (change, &mut things[change.of()]) {
        (Change::Bytes(_, at, bytes), Thing::File(_, content)) => {
            let content = Rc::make_mut(content);
            // Where an earlier piece was lost, there is a hole.
            content.resize(content.len().max(at + bytes.len()), 0);
            content[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        (Change::Emptied(_), Thing::File(_, content)) => *content = Rc::default(),
        (Change::Mode(_, mode), Thing::File(of, _) | Thing::Directory(of, _)) => *of = *mode,
        (Change::Entries(_, changes), Thing::Directory(_, entries)) => {
            for (name, thing) in changes {
                match thing {
                    Some(number) => drop(entries.insert(name.clone(), *number)),
                    None => drop(entries.remove(name)),
                }
            }
        }
        // A link has neither bytes nor a mode of its own.
        _ => {}
    }
}

fn tree(things: &[Thing]) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![(ROOT, PathBuf::new())];
    while let Some((number, path)) = open.pop() {
        let entry = match &things[number] {
            Thing::File(mode, bytes) => Entry::File(*mode, bytes.to_vec()),
            Thing::Link(target) => Entry::Link(target.clone()),
            Thing::Directory(mode, entries) => {
                open.extend(
                    entries
                        .iter()
                        .map(|(name, inside)| (*inside, path.join(name))),
                );
                Entry::Directory(*mode)
            }
        };
        tree.insert(path, entry);
    }
    tree
}
