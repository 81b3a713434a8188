//! A host that is brought back to the same instant again and again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::{Fingerprint, pem};

use super::{
    scene::{NAME, Work},
    tree::{self, Tree},
};
use crate::{host::Host, program::Program, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// What an agent may change on a host, below the host's directory.
const CHANGEABLE: [&str; 3] = ["agent", "live", "nginx/conf.d"];

/// Chain and key as nginx reads them.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// `fullchain.pem`.
    pub fullchain: Vec<u8>,
    /// `privkey.pem`.
    pub key: Vec<u8>,
}

impl Pair {
    /// Reads one.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        Ok(Self {
            fullchain: file("fullchain.pem")?,
            key: file("privkey.pem")?,
        })
    }

    /// Of its leaf.
    ///
    /// # Errors
    /// When there is none.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let chain = pem::read_certificates(&self.fullchain)?;
        Ok(Fingerprint::of(chain.first().context("no leaf")?))
    }
}

/// A host that is brought back to the same instant again and again.
pub struct Stage {
    /// The host.
    pub host: Host,
    /// Everything of it.
    pub root: PathBuf,
    /// What it has before the work.
    pub old: Pair,
    /// What it is to have after it, if nginx takes it.
    pub new: Pair,
    /// Another hand's files, by path below the host's directory.
    pub foreign: Tree,
    /// What is swept.
    pub work: Work,
    /// The generation that is wanted.
    pub generation: u64,
    /// The world's directory: where logs go.
    pub(crate) world: PathBuf,
    pub(super) before: Tree,
}

impl Stage {
    /// What is below [`CHANGEABLE`] now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn tree(&self) -> Result<Tree> {
        let mut all = Tree::new();
        for part in CHANGEABLE {
            let read = tree::read(&self.root.join(part))?;
            all.extend(
                read.into_iter()
                    .map(|(path, entry)| (Path::new(part).join(path), entry)),
            );
        }
        Ok(all)
    }

    /// The same before the work.
    pub fn before(&self) -> &Tree {
        &self.before
    }

    fn kept(&self) -> PathBuf {
        self.root.with_extension("kept")
    }

    /// This is the instant.
    pub(super) fn keep(&mut self) -> Result<()> {
        // Without it an agent that starts doesn't wait before it connects; it is made anew, and may be lost.
        let _ = fs::remove_file(self.host.agent_state().join("desired.bin"));
        let kept = self.kept();
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        for part in CHANGEABLE {
            copy(&self.root.join(part), &kept.join(part), &self.world)?;
        }
        self.before = self.tree()?;
        Ok(())
    }

    /// Back to the instant before the work; nginx serves the old pair.
    ///
    /// # Errors
    /// When something can't be put back, or nginx doesn't take it.
    pub fn restore(&mut self) -> Result<()> {
        for part in CHANGEABLE {
            let place = self.root.join(part);
            if place.exists() {
                fs::remove_dir_all(&place)?;
            }
            copy(&self.kept().join(part), &place, &self.world)?;
        }
        let differences = tree::differences(&self.before, &self.tree()?);
        ensure!(differences.is_empty(), "not put back: {differences:?}");
        self.host.nginx.reload()?;
        self.serves(&self.old, Duration::from_secs(20))
    }

    /// Waits until nginx serves this pair.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn serves(&self, pair: &Pair, within: Duration) -> Result<()> {
        let wanted = pair.fingerprint()?;
        wait_for("nginx to serve the pair", within, || {
            let found = self.host.served(NAME)?.fingerprint();
            ensure!(found == wanted, "it serves {found}, not {wanted}");
            Ok(())
        })
    }

    /// Whether the work is done, by what the agent says of it and by a handshake.
    ///
    /// # Errors
    /// What is lacking.
    pub fn is_done(&self, since: jiff::Timestamp) -> Result<()> {
        let text = fs::read(self.host.agent_state().join("state.json"))?;
        let state: serde_json::Value = serde_json::from_slice(&text)?;
        let written: jiff::Timestamp = state["written"].as_str().unwrap_or_default().parse()?;
        ensure!(written >= since, "nothing was told since");
        let told = state["certificates"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == NAME))
            .context("nothing is told of it")?;
        let (old, new) = (self.generation - 1, self.generation);
        match self.work {
            Work::RollBack => {
                let over = ["regressed", "rejected"].map(serde_json::Value::from);
                ensure!(
                    over.contains(&told["outcome"]) && told["active"] == old,
                    "{told}"
                );
            }
            _ => ensure!(
                told["outcome"] == "converged" && told["active"] == new && told["served"] == new,
                "{told}"
            ),
        }
        Ok(())
    }

    /// What is served when the work is done.
    pub fn goal(&self) -> &Pair {
        match self.work {
            Work::RollBack => &self.old,
            _ => &self.new,
        }
    }

    /// nginx goes on with the key that it has now, wherever the link leads: it will refuse the next pair.
    pub(super) fn pin_key(&self) -> Result<()> {
        let pinned = self.root.join("nginx/pinned.pem");
        fs::write(&pinned, Pair::read(&self.host.live(NAME))?.key)?;
        let config = self.host.nginx.config();
        let text = fs::read_to_string(&config)?;
        let ours = format!("{}/privkey.pem", self.host.live(NAME).display());
        ensure!(text.contains(&ours), "no such key in {}", config.display());
        fs::write(&config, text.replace(&ours, &pinned.display().to_string()))?;
        Ok(())
    }
}

/// With modes, owners and times.
fn copy(from: &Path, to: &Path, home: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let arguments = [
        "-a".into(),
        from.display().to_string(),
        to.display().to_string(),
    ];
    Program::new("cp", "cp", arguments)
        .run(home, "", SOON)?
        .success("cp")
        .map(drop)
}
