//! Points of a recorded run: the calls that change something on a host, each told so that it is found again.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{
    call::{Call, Deed},
    strace::without_process,
};

/// One call of the agent's, before which it is killed, or which fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The call's name.
    pub call: String,
    /// What it is about, below the host's directory.
    pub path: PathBuf,
    /// strace lets through only what is about this path below the host's directory; everything, where its name can't
    /// be known before.
    pub(crate) filter: Option<PathBuf>,
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

    /// Whether it may fail to come: what is written together when it changes together is written more or less often,
    /// and a call that is counted among all of its name may be missed.
    pub fn is_chance(&self) -> bool {
        self.filter.is_none()
            || ["state.json", "desired.bin"].iter().any(|name| {
                self.path
                    .file_name()
                    .is_some_and(|file| file.to_string_lossy().contains(name))
            })
    }
}

fn below(deed: &Deed, root: &Path) -> Option<PathBuf> {
    let path = deed.paths().first()?.strip_prefix(root).ok()?;
    Some(without_process(path))
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
            continue;
        }
        let known = |key: &PathBuf| without_process(key) == *key;
        let filter = call.key().filter(known);
        let nth = calls[..=at]
            .iter()
            .filter(|other| other.thread == main && other.name == call.name)
            .filter(|other| filter.as_ref().is_none_or(|path| other.is_about(path)))
            .count();
        let filter = match filter {
            None => None,
            Some(key) => {
                let key = key.strip_prefix(root);
                ensure!(key.is_ok(), "{call:?} isn't about {}", root.display());
                Some(key.unwrap_or(Path::new("")).to_owned())
            }
        };
        found.push(Point {
            call: call.name.clone(),
            path,
            filter,
            nth,
        });
    }
    Ok(found)
}
