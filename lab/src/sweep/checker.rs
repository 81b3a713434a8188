//! Looks at a host's files as nginx would, and as an operator would: nothing of the agent's code is in it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    scene::NAME,
    stage::{Pair, Stage},
    tree::{Entry, Tree},
};

/// Which pair was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The one from before.
    Old,
    /// The one that comes.
    New,
}

/// The old pair or the new is whole at `live/NAME`, keys are the owner's alone, nothing of another's is missing, and
/// what is remembered can be read.
///
/// # Errors
/// What isn't so.
pub fn check(stage: &Stage) -> Result<Found> {
    let tree = stage.tree()?;
    let found = check_tree(stage, &tree)?;
    for name in ["agent/ledger.json", "agent/state.json"] {
        if let Some(Entry::File(_, text)) = tree.get(Path::new(name)) {
            serde_json::from_slice::<serde_json::Value>(text)
                .with_context(|| format!("{name} can't be read"))?;
        }
    }
    Ok(found)
}

/// The same of files that lie nowhere, but for what is remembered.
pub(crate) fn check_tree(stage: &Stage, tree: &Tree) -> Result<Found> {
    let found = whole(&stage.root, tree, &stage.old, &stage.new)?;
    keys_are_private(tree)?;
    foreign_files_stay(stage, tree)?;
    Ok(found)
}

/// Which pair is at `live/NAME`, in one directory; both files byte for byte of the same one.
fn whole(root: &Path, tree: &Tree, old: &Pair, new: &Pair) -> Result<Found> {
    let live = PathBuf::from("live").join(NAME);
    let directory = match tree.get(&live) {
        None => bail!("nothing is at live/{NAME}"),
        Some(Entry::Directory(_)) => live,
        Some(Entry::Link(target)) => target
            .strip_prefix(root)
            .with_context(|| format!("live/{NAME} leads to {}", target.display()))?
            .to_owned(),
        Some(_) => bail!("live/{NAME} is neither a directory nor a link"),
    };
    ensure!(
        matches!(tree.get(&directory), Some(Entry::Directory(_))),
        "live/{NAME} leads to {}, where nothing is",
        directory.display()
    );
    let file = |name: &str| match tree.get(&directory.join(name)) {
        Some(Entry::File(_, bytes)) => Ok(bytes.clone()),
        _ => bail!("{} has no {name}", directory.display()),
    };
    let pair = Pair {
        fullchain: file("fullchain.pem")?,
        key: file("privkey.pem")?,
    };
    let found = if pair == *new {
        Found::New
    } else if pair == *old {
        Found::Old
    } else {
        bail!(
            "{} holds neither the old pair nor the new: chain is {}, key is {}",
            directory.display(),
            which(&pair.fullchain, &old.fullchain, &new.fullchain),
            which(&pair.key, &old.key, &new.key)
        );
    };
    // An operator's directory has these two alone.
    if directory.starts_with("agent") {
        let (cert, chain) = (file("cert.pem")?, file("chain.pem")?);
        ensure!(
            [cert, chain].concat() == pair.fullchain,
            "cert and chain aren't fullchain"
        );
        ensure!(
            file("combined.pem")? == [pair.fullchain, pair.key].concat(),
            "combined is another"
        );
    }
    Ok(found)
}

fn which(found: &[u8], old: &[u8], new: &[u8]) -> String {
    if found == new {
        "the new one".into()
    } else if found == old {
        "the old one".into()
    } else {
        format!("{} other bytes", found.len())
    }
}

/// No key of the agent's can be read by others, at any instant.
fn keys_are_private(tree: &Tree) -> Result<()> {
    for (path, entry) in tree.range(PathBuf::from("agent")..) {
        let Entry::File(mode, bytes) = entry else {
            continue;
        };
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        if path.starts_with("agent") && text.contains("PRIVATE KEY") {
            ensure!(
                mode & 0o077 == 0,
                "{} holds a key and has mode {mode:04o}",
                path.display()
            );
        }
    }
    Ok(())
}

/// All of them where they were; the directory at `live/NAME` may have been kept aside.
fn foreign_files_stay(stage: &Stage, tree: &Tree) -> Result<()> {
    let live = PathBuf::from("live").join(NAME);
    for (path, entry) in &stage.foreign {
        if path.starts_with(&live) {
            continue;
        }
        ensure!(
            tree.get(path) == Some(entry),
            "{} isn't as it was",
            path.display()
        );
    }
    let theirs = |place: &Path| {
        stage
            .foreign
            .iter()
            .filter_map(|(path, entry)| Some((path.strip_prefix(&live).ok()?, entry)))
            .all(|(below, entry)| {
                let path = if below.as_os_str().is_empty() {
                    place.to_owned()
                } else {
                    place.join(below)
                };
                tree.get(&path) == Some(entry)
            })
    };
    let places = [
        format!("live/{NAME}"),
        format!("live/.{NAME}.new"),
        format!("live/.{NAME}.before-certwell"),
    ];
    ensure!(
        places.iter().any(|place| theirs(Path::new(place))),
        "the operator's directory is gone from live/{NAME}, and isn't kept aside"
    );
    Ok(())
}
