//! Points of a recorded run: the calls that change something on a host, each told so that it is found again.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::call::{Call, Deed};

/// One call of the agent's, before which it is killed, or which fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The call's name.
    pub call: String,
    /// What it is about, below the host's directory.
    pub path: PathBuf,
    /// strace lets through only what is about this path below the host's directory.
    pub(crate) filter: PathBuf,
    /// Which of the calls that are let through it is, from 1.
    pub(crate) nth: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.call, self.path.display(), self.nth)
    }
}

impl Point {
    /// Whether a call of a run on the host at `root` is this one.
    pub(crate) fn is(&self, call: &Call, root: &Path) -> Result<bool> {
        let Some(deed) = call.deed()? else {
            return Ok(false);
        };
        Ok(call.name == self.call && below(&deed, root).as_deref() == Some(&*self.path))
    }

    /// Whether it may fail to come: what is written together when it changes together is written more or less often.
    pub fn is_chance(&self) -> bool {
        ["state.json", "desired.bin"].iter().any(|name| {
            self.path
                .file_name()
                .is_some_and(|file| file.to_string_lossy().contains(name))
        })
    }
}

fn below(deed: &Deed, root: &Path) -> Option<PathBuf> {
    let path = deed.paths().first()?.strip_prefix(root).ok()?;
    Some(path.to_owned())
}

/// Whether only the agent writes there.
fn is_the_agents(path: &Path) -> bool {
    let is_candidate = path
        .iter()
        .any(|part| part.to_string_lossy().starts_with(".candidate-"));
    path.starts_with("live") || (path.starts_with("agent") && !is_candidate)
}

/// The points of a run that was recorded on the host at `root`, in their order.
///
/// # Errors
/// When another thread than the first changes something there: kills are counted by thread.
pub fn points(calls: &[Call], root: &Path) -> Result<Vec<Point>> {
    let Some(main) = calls.first().map(|call| call.thread) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let Some(deed) = call.deed()? else { continue };
        let Some(path) = below(&deed, root) else {
            continue;
        };
        if call.thread != main {
            // nginx writes its logs, and tests in its candidate's directory.
            ensure!(
                !is_the_agents(&path),
                "{call:?} is another thread's, where no kill would find it"
            );
            continue;
        }
        let key = call.key();
        let key = key.with_context(|| format!("{call:?} names no path to find it again by"))?;
        let nth = calls[..=at]
            .iter()
            .filter(|other| other.thread == main && other.name == call.name)
            .filter(|other| other.is_about(&key))
            .count();
        let filter = key
            .strip_prefix(root)
            .with_context(|| format!("{call:?} isn't about {}", root.display()))?
            .to_owned();
        found.push(Point {
            call: call.name.clone(),
            path,
            filter,
            nth,
        });
    }
    Ok(found)
}
