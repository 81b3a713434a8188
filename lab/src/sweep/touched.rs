//! What an agent may write to: a short list of paths, kept in docs/architecture.md, and read there.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::{record::Recording, scene::NAME, stage::Stage};
use crate::paths;

const PAGE: &str = "docs/architecture.md";
const HEADING: &str = "## What the agent writes to\n";

/// The list, and what of a recorded run isn't on it.
#[derive(Debug, Default)]
pub struct Touched {
    /// Paths below the host's directory that were written to, made, removed or forced to disk.
    pub all: BTreeSet<PathBuf>,
    /// Those that aren't on the list, with who did it.
    pub strangers: BTreeSet<String>,
}

/// Compares a recorded run with the list.
///
/// # Errors
/// When there is no list, or strace isn't understood.
pub fn touched(stage: &Stage, recording: &Recording) -> Result<Touched> {
    let page = paths::workspace().join(PAGE);
    let text = fs::read_to_string(&page)?;
    let list = list(&text, stage).with_context(|| page.display().to_string())?;
    let mut touched = Touched::default();
    // Where each child is; the agent itself stays where it was started.
    let mut at: HashMap<u32, PathBuf> = HashMap::new();
    for call in &recording.calls {
        if let Some(directory) = call.goes_to() {
            at.insert(call.thread, directory);
        }
        let Some(deed) = call.deed()? else { continue };
        let own = call.thread == recording.agent;
        for path in deed.paths() {
            let path = &match at.get(&call.thread) {
                Some(directory) => directory.join(path),
                None => path.to_owned(),
            };
            let allowed = list.iter().any(|one| one.allows(path))
                // nginx tests its configuration: its logs and temporary directories are its own.
                || (!own && is_nginx_own(stage, path));
            if !allowed {
                let who = if own {
                    "agent"
                } else {
                    "a child of the agent's"
                };
                touched.strangers.insert(format!("{who}: {deed:?}"));
            }
            let below = path.strip_prefix(&stage.root).unwrap_or(path);
            touched.all.insert(below.to_owned());
        }
    }
    Ok(touched)
}

fn is_nginx_own(stage: &Stage, path: &Path) -> bool {
    let prefix = stage.host.nginx.prefix();
    ["logs", "temp", "nginx.pid"]
        .iter()
        .any(|name| path.starts_with(prefix.join(name)))
}

/// One line of the list: `/**` at its end is all below, `*` the rest of a name.
struct Allowed {
    path: String,
    below: bool,
}

impl Allowed {
    fn allows(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        if self.below {
            return path.starts_with(&self.path);
        }
        match self.path.split_once('*') {
            Some((before, after)) => {
                let rest = text.strip_prefix(before);
                let rest = rest.and_then(|rest| rest.strip_suffix(after));
                rest.is_some_and(|rest| !rest.contains('/'))
            }
            None => text == self.path,
        }
    }
}

/// The first block of text after the heading, for the directories of a lab's host.
fn list(page: &str, stage: &Stage) -> Result<Vec<Allowed>> {
    let host = &stage.host;
    let (_, section) = page.split_once(HEADING).context("no such heading")?;
    let block = section.split("```").nth(1).context("no list")?;
    let places = [
        ("/var/lib/certwell-agent", host.agent_state()),
        ("/etc/certwell/live", host.nginx.live().to_owned()),
        ("/var/lib", stage.root.clone()),
        ("/etc/certwell", stage.root.clone()),
        ("/etc/nginx/conf.d", host.nginx.prefix().join("conf.d")),
    ];
    let lines = block.lines().skip(1).filter(|line| !line.trim().is_empty());
    let allowed: Vec<Allowed> = lines
        .map(|line| {
            let path = line.split_whitespace().next().unwrap_or_default();
            let (usual, here) = places
                .iter()
                .find(|(usual, _)| path.starts_with(usual))
                .with_context(|| format!("the lab has no such place: {path}"))?;
            let path = path
                .replacen(usual, &here.display().to_string(), 1)
                .replace("NAME", NAME);
            Ok(match path.strip_suffix("/**") {
                Some(path) => Allowed {
                    path: path.to_owned(),
                    below: true,
                },
                None => Allowed { path, below: false },
            })
        })
        .collect::<Result<_>>()?;
    ensure!(!allowed.is_empty(), "an empty list");
    Ok(allowed)
}
