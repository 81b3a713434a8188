//! What is done on a host from here: commands, files, its journal.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::machine::Machine;
use crate::program::{self, Output, Program};

/// For a command that nobody gave a limit.
const COMMAND: Duration = Duration::from_secs(60);

impl Machine {
    /// Runs a command on it as root, to its end.
    ///
    /// # Errors
    /// When the host is off, or the command can't be started or doesn't end in time.
    pub fn run<A: Into<String>>(&self, command: impl IntoIterator<Item = A>) -> Result<Output> {
        self.run_with(command, "", COMMAND)
    }

    /// The same with something on its standard input, and another limit.
    ///
    /// # Errors
    /// As for [`Machine::run`].
    pub fn run_with<A: Into<String>>(
        &self,
        command: impl IntoIterator<Item = A>,
        input: &str,
        within: Duration,
    ) -> Result<Output> {
        self.entering(command)?.run(Path::new("/"), input, within)
    }

    /// Runs a line of shell on it, which must exit 0; answers what it wrote.
    ///
    /// # Errors
    /// As for [`Machine::run`], and when it fails.
    pub fn shell(&self, line: &str) -> Result<String> {
        let what = format!("{}: {line}", self.name);
        Ok(self.run(["sh", "-ec", line])?.success(&what)?.stdout)
    }

    /// A command on this host, to be started.
    ///
    /// # Errors
    /// When the host is off.
    pub fn entering<A: Into<String>>(
        &self,
        command: impl IntoIterator<Item = A>,
    ) -> Result<Program> {
        let leader = self
            .leader()
            .with_context(|| format!("{} is off", self.name))?
            .to_string();
        let enter = [
            "--target",
            &leader,
            "--all",
            "--",
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
        ]
        .map(ToOwned::to_owned);
        Ok(Program::new(
            &self.name,
            "nsenter",
            enter.into_iter().chain(command.into_iter().map(Into::into)),
        ))
    }

    /// Where a file of it is, as seen from here. While it is off, only what it wrote itself is there.
    pub fn path(&self, on_host: &str) -> PathBuf {
        let inside = on_host.trim_start_matches('/');
        match self.leader() {
            Some(leader) => PathBuf::from(format!("/proc/{leader}/root")).join(inside),
            None if self.is_copied() => self.home.join("root").join(inside),
            None => self.home.join("files").join(inside),
        }
    }

    /// Whether it has a whole tree of its own, in the place of an overlay.
    fn is_copied(&self) -> bool {
        self.home.join("copied").exists()
    }

    /// Writes a file of it (0644), and the directories above it. A link in its place is followed as on this machine, not
    /// on the host: don't name one.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, on_host: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(on_host);
        make_parent(&path)?;
        fs::write(&path, content).with_context(|| format!("{}: {on_host}", self.name))
    }

    /// The same with another mode.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_as(&self, on_host: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        self.write(on_host, content)?;
        Ok(fs::set_permissions(
            self.path(on_host),
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// A program of these lines of shell, which is never busy when it is run.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_program(&self, on_host: &str, lines: &str) -> Result<()> {
        let path = self.path(on_host);
        make_parent(&path)?;
        program::write_program(&path, lines)
    }

    /// The last `lines` of a unit's journal, or of all; empty when the host is off.
    pub fn journal(&self, unit: Option<&str>, lines: u32) -> String {
        let lines = lines.to_string();
        let mut command = vec![
            "journalctl",
            "--no-pager",
            "-o",
            "short-precise",
            "-n",
            &lines,
        ];
        command.extend(unit.iter().flat_map(|unit| ["-u", *unit]));
        self.run(command)
            .map(|output| output.stdout)
            .unwrap_or_default()
    }
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file lies in a directory")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())
}
