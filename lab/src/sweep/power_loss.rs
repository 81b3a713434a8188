//! Loss of power, by a model: the calls of a recorded run are played on a disk that may lose whatever wasn't forced to
//! it, and at each instant the files that could be left are looked at by the same checker as after a kill.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    call::Deed,
    checker,
    disk::Disk,
    record::Recording,
    stage::Stage,
    tree::{Entry, Tree},
};

/// With no more changes than these pending, every subset is tried; else fewer, see [`subsets`].
const ALL_SUBSETS: usize = 11;
/// What may be lost altogether: it is made anew by the next start.
const LIGHT: [&str; 4] = ["state.json", "desired.bin", ".candidate-", "agent/lock"];

/// What was tried.
#[derive(Debug, Default)]
pub struct Losses {
    /// After so many calls.
    pub instants: usize,
    /// Different sets of files that could be left.
    pub outcomes: usize,
    /// The most changes that were pending at once.
    pub most_pending: usize,
}

/// Plays a recorded run, and looks at whatever a loss of power could leave at any instant of it.
///
/// # Errors
/// The first outcome that isn't whole, with what was lost.
pub fn lose_power(stage: &Stage, recording: &Recording) -> Result<Losses> {
    let deeds: Vec<Deed> = recording
        .deeds()?
        .iter()
        .filter_map(|deed| below(deed, &stage.root))
        .collect();
    play(stage.before(), &deeds, &|tree, versions, is_over| {
        let found = checker::check_tree(stage, tree)?;
        let goal = stage.work.ends_with();
        // By then it was told that this is what the host has.
        ensure!(
            !is_over || found == goal,
            "the work is over, yet the pair is the {found:?} one"
        );
        remembered(tree, versions, &stage.root)
    })
}

/// Every content that a file had under its name.
type Versions = BTreeSet<(PathBuf, Vec<u8>)>;

fn play(
    before: &Tree,
    deeds: &[Deed],
    check: &dyn Fn(&Tree, &Versions, bool) -> Result<()>,
) -> Result<Losses> {
    let mut disk = Disk::new(before)?;
    let mut losses = Losses::default();
    let mut versions = Versions::new();
    for done in 0..=deeds.len() {
        if let Some(deed) = done.checked_sub(1).map(|last| &deeds[last]) {
            disk.perform(deed)
                .with_context(|| format!("call {done}: {deed:?}"))?;
        }
        for (path, entry) in disk.after_loss(|_| true) {
            if let Entry::File(_, bytes) = entry {
                versions.insert((path, bytes));
            }
        }
        losses.instants += 1;
        losses.most_pending = losses.most_pending.max(disk.pending());
        let mut seen = BTreeSet::new();
        for lost in subsets(disk.pending()) {
            if !seen.insert(lost.clone()) {
                continue;
            }
            let is_lost = |at: usize| lost.contains(&at);
            let tree = disk.after_loss(|at| !is_lost(at));
            losses.outcomes += 1;
            check(&tree, &versions, done == deeds.len()).with_context(|| {
                let last = done.checked_sub(1).map(|last| &deeds[last]);
                format!(
                    "power is lost after call {done} of {} ({last:?}), and with it: {}",
                    deeds.len(),
                    disk.words(is_lost).join("; ")
                )
            })?;
        }
    }
    Ok(losses)
}

/// Which of so many changes are lost: every subset of a few; of many none, all, each one alone, all but each one, each
/// two, all up to each one, all from each one on.
fn subsets(pending: usize) -> Vec<BTreeSet<usize>> {
    if pending <= ALL_SUBSETS {
        return (0..1_usize << pending)
            .map(|bits| (0..pending).filter(|at| bits >> at & 1 == 1).collect())
            .collect();
    }
    let mut all = vec![BTreeSet::new(), (0..pending).collect()];
    for one in 0..pending {
        all.push([one].into());
        all.push((0..pending).filter(|at| *at != one).collect());
        all.push((0..one).collect());
        all.push((one..pending).collect());
        all.extend((one + 1..pending).map(|other| [one, other].into()));
    }
    all
}

/// Ledger and challenge map are as they were, or as they were meant to be; and the ledger knows what is active.
fn remembered(tree: &Tree, versions: &Versions, root: &Path) -> Result<()> {
    for name in ["agent/ledger.json", "nginx/conf.d/certwell-acme.conf"] {
        let path = PathBuf::from(name);
        if let Some(Entry::File(_, bytes)) = tree.get(&path) {
            let whole = versions.contains(&(path, bytes.clone()));
            ensure!(
                whole,
                "{name} is neither as it was nor as it was meant to be"
            );
        }
    }
    let live = Path::new("live").join(super::scene::NAME);
    let Some(Entry::Link(target)) = tree.get(&live) else {
        return Ok(());
    };
    let generation = target
        .strip_prefix(root.join("agent/store").join(super::scene::NAME))
        .context("a link to elsewhere")?;
    let Some(Entry::File(_, ledger)) = tree.get(Path::new("agent/ledger.json")) else {
        bail!(
            "generation {} is active, and there is no ledger",
            generation.display()
        );
    };
    let ledger: serde_json::Value = serde_json::from_slice(ledger)?;
    let staged = &ledger["certificates"][super::scene::NAME]["staged"];
    ensure!(
        staged.get(generation.to_string_lossy().as_ref()).is_some(),
        "generation {} is active, and the ledger doesn't know it",
        generation.display()
    );
    Ok(())
}

/// The same deed with its paths below the host's directory; nothing where it is about what may be lost.
fn below(deed: &Deed, root: &Path) -> Option<Deed> {
    let is_light = |path: &Path| {
        let text = path.to_string_lossy();
        LIGHT.iter().any(|name| text.contains(name))
    };
    let mut deed = deed.clone();
    let inside = |path: &mut PathBuf| match path.strip_prefix(root) {
        Ok(below) if !is_light(below) => {
            *path = below.to_owned();
            true
        }
        _ => false,
    };
    let kept = match &mut deed {
        Deed::Rename(one, other) | Deed::Exchange(one, other) => inside(one) && inside(other),
        Deed::Open { path, .. }
        | Deed::Write { path, .. }
        | Deed::Link { path, .. }
        | Deed::Force(path)
        | Deed::Remove(path)
        | Deed::RemoveDirectory(path)
        | Deed::MakeDirectory(path, _)
        | Deed::Mode(path, _)
        | Deed::Other(path) => inside(path),
    };
    kept.then_some(deed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(forced: bool, directory_forced: bool) -> Vec<Deed> {
        let file = || PathBuf::from("d/.new");
        let mut deeds = vec![
            Deed::Open {
                path: file(),
                makes: true,
                empties: false,
                mode: 0o600,
            },
            Deed::Write {
                path: file(),
                bytes: b"new".to_vec(),
            },
        ];
        if forced {
            deeds.push(Deed::Force(file()));
        }
        deeds.push(Deed::Rename(file(), "d/file".into()));
        if directory_forced {
            deeds.push(Deed::Force("d".into()));
        }
        deeds
    }

    fn before() -> Tree {
        [
            (PathBuf::from("d"), Entry::Directory(0o755)),
            (PathBuf::from("d/file"), Entry::File(0o600, b"old".to_vec())),
        ]
        .into()
    }

    fn file(tree: &Tree) -> Vec<u8> {
        match tree.get(Path::new("d/file")) {
            Some(Entry::File(_, bytes)) => bytes.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_forced_before_it_is_renamed_is_old_or_new() {
        let check = |tree: &Tree, _: &Versions, is_over: bool| {
            let found = file(tree);
            ensure!(
                found == b"new" || (found == b"old" && !is_over),
                "{found:?}"
            );
            Ok(())
        };
        let losses = play(&before(), &deeds(true, true), &check).unwrap();
        assert_eq!(losses.instants, 6);
        assert!(losses.outcomes > 6, "{losses:?}");
        let error = play(&before(), &deeds(false, true), &check).unwrap_err();
        assert!(format!("{error:#}").contains("[]"), "{error:#}");
        let error = play(&before(), &deeds(true, false), &check).unwrap_err();
        assert!(format!("{error:#}").contains("call 4 of 4"), "{error:#}");
    }

    #[test]
    fn an_entry_is_lost_until_its_directory_is_forced() {
        let last = |deeds: &[Deed]| {
            let mut disk = Disk::new(&before()).unwrap();
            deeds.iter().for_each(|deed| disk.perform(deed).unwrap());
            file(&disk.after_loss(|_| false))
        };
        assert_eq!(last(&deeds(true, true)), b"new");
        assert_eq!(last(&deeds(true, false)), b"old");
    }
}
