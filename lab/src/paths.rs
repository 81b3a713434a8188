//! Where the built binaries, the shipped files and the lab's own directories are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// The workspace.
pub fn workspace() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.parent().unwrap_or(lab).to_owned()
}

/// What is shipped to hosts.
pub fn packaging() -> PathBuf {
    workspace().join("packaging")
}

/// A fresh directory of one test, beside the binaries that it runs.
///
/// # Errors
/// When it can't be made.
pub fn fresh(kind: &str, name: &str) -> Result<PathBuf> {
    let target = binaries()?;
    let target = target.parent().context("the binaries' directory has no parent")?;
    let directory = target.join(kind).join(name);
    if directory.exists() {
        crate::process::end_leftovers(&directory)?;
        fs::remove_dir_all(&directory).with_context(|| format!("{} can't be removed", directory.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("{} can't be made", directory.display()))?;
    Ok(fs::canonicalize(directory)?)
}

/// Where this build's binaries are: beside the running one, for a test one directory up.
///
/// # Errors
/// When the running binary's path can't be read.
pub fn binaries() -> Result<PathBuf> {
    let here = env::current_exe()?;
    let directory = here.parent().context("a binary has a directory")?;
    let up = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    Ok(up.to_owned())
}

/// A built binary of this workspace.
///
/// # Errors
/// When it isn't built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    if !path.exists() {
        bail!("{} isn't built; run `cargo build --bins` first, or `make test`", path.display());
    }
    Ok(path)
}

/// nginx; `/usr/sbin` isn't in everybody's `PATH`.
pub fn nginx() -> &'static str {
    let usual = "/usr/sbin/nginx";
    if Path::new(usual).exists() { usual } else { "nginx" }
}
