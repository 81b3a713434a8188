//! A directory with all that is in it, to be compared.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory, and its mode.
    Directory(u32),
    /// A file's mode and bytes.
    File(u32, Vec<u8>),
    /// Where a link leads.
    Link(PathBuf),
    /// A socket or the like.
    Other,
}

/// By path below the directory.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads all of it; empty where there is none. What vanishes meanwhile isn't there.
///
/// # Errors
/// When something can't be read.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let path = if below.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&below)
        };
        let entry = match entry(&path) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        if let Entry::Directory(_) = entry {
            for inside in fs::read_dir(&path)
                .with_context(|| path.display().to_string())?
                .flatten()
            {
                open.push(below.join(inside.file_name()));
            }
        }
        tree.insert(below, entry);
    }
    Ok(tree)
}

fn entry(path: &Path) -> io::Result<Entry> {
    let meta = fs::symlink_metadata(path)?;
    let mode = meta.permissions().mode() & 0o7777;
    Ok(if meta.is_dir() {
        Entry::Directory(mode)
    } else if meta.is_symlink() {
        Entry::Link(fs::read_link(path)?)
    } else if meta.is_file() {
        Entry::File(mode, fs::read(path)?)
    } else {
        Entry::Other
    })
}

/// What is in one and not, or otherwise, in the other: a line each, without the bytes of keys.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let lacking = expected.iter().filter_map(|(path, entry)| {
        let shown = path.display();
        match found.get(path) {
            None => Some(format!("{shown} is gone")),
            Some(other) if other != entry => Some(format!(
                "{shown} is {} instead of {}",
                kind(other),
                kind(entry)
            )),
            Some(_) => None,
        }
    });
    let surplus = found
        .keys()
        .filter(|path| !expected.contains_key(*path))
        .map(|path| format!("{} is left over", path.display()));
    lacking.chain(surplus).collect()
}

fn kind(entry: &Entry) -> String {
    match entry {
        Entry::Directory(mode) => format!("a directory of mode {mode:04o}"),
        // What the ledger remembers is no secret, and tells what went wrong.
        Entry::File(mode, bytes) if bytes.starts_with(b"{") => {
            format!(
                "a file of mode {mode:04o}, {}",
                String::from_utf8_lossy(bytes)
            )
        }
        Entry::File(mode, bytes) => format!("a file of mode {mode:04o}, {} bytes", bytes.len()),
        Entry::Link(target) => format!("a link to {}", target.display()),
        Entry::Other => "something else".into(),
    }
}
