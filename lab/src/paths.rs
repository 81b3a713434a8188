//! Where the built binaries and the shipped files are, and the lab's own directories.

use std::{
    env,
    fs::{self, File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::leftovers::end_leftovers;

const LOCK: &str = "lock";
const LONGEST: usize = 80;

/// The workspace.
pub fn workspace() -> PathBuf {
    let lab = Path::new(env!("CARGO_MANIFEST_DIR"));
    lab.parent().unwrap_or(lab).to_owned()
}

/// What is shipped to hosts.
pub fn packaging() -> PathBuf {
    workspace().join("packaging")
}

/// A directory that belongs to this process alone while it lives.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    /// Takes `relative` under the build's target directory. Whatever a killed run left there is ended and removed.
    ///
    /// # Errors
    /// When another run is using it now, or it can't be made.
    pub fn take(relative: &str) -> Result<Self> {
        let built = binaries()?;
        let path = built
            .parent()
            .context("the binaries' directory has no parent")?
            .join(relative);
        fs::create_dir_all(&path).with_context(|| format!("{} can't be made", path.display()))?;
        let path = fs::canonicalize(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another run is using {}; end it first", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).context("lock"),
        }
        end_leftovers(&path)?;
        for entry in fs::read_dir(&path)?
            .flatten()
            .filter(|entry| entry.file_name() != LOCK)
        {
            let old = entry.path();
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(&old)
            } else {
                fs::remove_file(&old)
            }
            .with_context(|| format!("{} of an earlier run can't be removed", old.display()))?;
        }
        // The longest socket path in it must fit the system's 107 bytes.
        if path.as_os_str().len() > LONGEST {
            bail!(
                "{} is too long for the sockets in it; build in a directory with a shorter path",
                path.display()
            );
        }
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where this build's binaries are: beside the running one, for a test one directory up.
///
/// # Errors
/// When the running binary's path can't be read.
pub fn binaries() -> Result<PathBuf> {
    let here = env::current_exe()?;
    let directory = here.parent().context("a binary has a directory")?;
    let up = if directory.ends_with("deps") {
        directory.parent().unwrap_or(directory)
    } else {
        directory
    };
    Ok(up.to_owned())
}

/// A built binary of this workspace.
///
/// # Errors
/// When it isn't built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    if !path.exists() {
        bail!(
            "{} isn't built; run `cargo build --bins` first, or `make test`",
            path.display()
        );
    }
    Ok(path)
}

/// nginx; `/usr/sbin` isn't in everybody's `PATH`.
pub fn nginx() -> &'static str {
    let usual = "/usr/sbin/nginx";
    if Path::new(usual).exists() {
        usual
    } else {
        "nginx"
    }
}
