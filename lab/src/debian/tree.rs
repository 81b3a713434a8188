//! A Debian system in a directory, made once by mmdebstrap and kept under the build's target directory. Hosts boot on
//! an overlay of it and never change it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;

use crate::paths;

/// What every host has.
const COMMON: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "procps",
    "ca-certificates",
    "curl",
];
const MIRROR: &str = "http://deb.debian.org/debian";

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// As archives name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// Which tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// nginx and ssh (on bookworm certbot, too), for edges and for the issuer's host (where both are off).
    Host(Suite),
    /// Pebble, Knot, and Unbound, which asks it.
    World,
}

/// All of them, made: a host's network has no way to Debian's archive.
#[derive(Debug, Clone)]
pub struct Trees {
    bookworm: PathBuf,
    trixie: PathBuf,
    world: PathBuf,
}

impl Trees {
    /// Where they are; those that aren't there are made now, which takes a quarter of a minute or more for each: `tell`
    /// hears of it.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn ready(tell: &dyn Fn(&str)) -> Result<Self> {
        Ok(Self {
            bookworm: Tree::Host(Suite::Bookworm).ready(tell)?,
            trixie: Tree::Host(Suite::Trixie).ready(tell)?,
            world: Tree::World.ready(tell)?,
        })
    }

    /// The directory of one.
    pub fn path(&self, tree: Tree) -> &Path {
        match tree {
            Tree::Host(Suite::Bookworm) => &self.bookworm,
            Tree::Host(Suite::Trixie) => &self.trixie,
            Tree::World => &self.world,
        }
    }
}

impl Tree {
    /// Of what release it is.
    pub fn suite(self) -> Suite {
        match self {
            Self::Host(suite) => suite,
            Self::World => Suite::Bookworm,
        }
    }

    fn packages(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            // What that night's machine had.
            Self::Host(Suite::Bookworm) => {
                &["nginx-light", "openssh-server", "openssh-client", "certbot"]
            }
            Self::Host(Suite::Trixie) => &["nginx-light", "openssh-server", "openssh-client"],
            Self::World => &[
                "knot",
                "knot-module-geoip",
                "knot-dnsutils",
                "unbound",
                "pebble",
            ],
        };
        [COMMON, own].concat()
    }

    fn name(self) -> String {
        let role = match self {
            Self::Host(_) => "host",
            Self::World => "world",
        };
        // One that was made with other packages no longer fits.
        let content = Fingerprint::of(self.packages().join(" ").as_bytes());
        format!("{}-{role}-{}", self.suite().name(), content.short())
    }

    fn ready(self, tell: &dyn Fn(&str)) -> Result<PathBuf> {
        let trees = trees()?;
        let path = trees.join(self.name());
        // Runs that need it at once wait for the first of them.
        let lock = File::create(trees.join(format!("{}.lock", self.name())))?;
        lock.lock()?;
        if path.exists() {
            return Ok(path);
        }
        tell(&format!(
            "making a Debian {} tree with {} (once; a quarter of a minute to two)",
            self.suite().name(),
            self.packages()[COMMON.len()..].join(", ")
        ));
        let unfinished = trees.join(format!("{}.new", self.name()));
        remove(&unfinished)?;
        make(
            self,
            &unfinished,
            &trees.join(format!("{}.log", self.name())),
            tell,
        )?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }
}

fn make(tree: Tree, path: &Path, log: &Path, tell: &dyn Fn(&str)) -> Result<()> {
    let mut said = File::create(log)?;
    // What it mounts in the tree is gone with it, also when it is killed: nobody is to remove a tree with /dev in it.
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--", "mmdebstrap"])
        .arg("--variant=apt")
        .arg(format!("--include={}", tree.packages().join(",")))
        // Made by each host for itself.
        .arg("--customize-hook=rm -f \"$1\"/etc/ssh/ssh_host_*")
        .arg(tree.suite().name())
        .args([path, Path::new(MIRROR)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("mmdebstrap can't be started")?;
    let words = child.stderr.take().context("mmdebstrap says nothing")?;
    for line in BufReader::new(words).split(b'\n') {
        let line = line?;
        said.write_all(&[&line, b"\n".as_slice()].concat())?;
        // Its own steps; the rest is apt's.
        if let Some(step) = String::from_utf8_lossy(&line).strip_prefix("I: ") {
            tell(&format!("{}: {step}", tree.suite().name()));
        }
    }
    ensure!(
        child.wait()?.success(),
        "mmdebstrap failed; the end of {}:\n{}",
        log.display(),
        crate::process::tail(log, 12)
    );
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Beside the build's profile directories, so that all of them share the trees.
fn trees() -> Result<PathBuf> {
    let built = paths::binaries()?;
    let target = built
        .parent()
        .context("the binaries' directory has no parent")?;
    let trees = target.join("debian-trees");
    fs::create_dir_all(&trees).with_context(|| trees.display().to_string())?;
    Ok(fs::canonicalize(trees)?)
}
