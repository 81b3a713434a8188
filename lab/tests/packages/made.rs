//! Makes the packages, once for all tests, and looks into them.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    paths,
    program::{Output, Program},
};

/// Laying out, packing and judging tens of megabytes on a busy machine.
pub(crate) const ENDS: Duration = Duration::from_secs(300);

/// The packages' names.
pub(crate) const BOTH: [&str; 2] = ["certwell-agent", "certwell-issuer"];

/// The file of a package; it is made first where it is older than what goes into it.
pub(crate) fn package(name: &str) -> Result<PathBuf> {
    static MADE: OnceLock<Result<(), String>> = OnceLock::new();
    let script = paths::workspace().join("lab/packages.sh");
    MADE.get_or_init(|| {
        run(script.to_string_lossy(), ["dev"])
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    })
    .clone()
    .map_err(anyhow::Error::msg)?;
    let target = paths::binaries()?;
    let target = target.parent().context("a target directory")?;
    let found: Vec<PathBuf> = std::fs::read_dir(target.join("debian-dev"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    let mut ours = found.into_iter().filter(|path| {
        path.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}_")))
    });
    let one = ours.next().with_context(|| format!("no {name}_*.deb"))?;
    ensure!(ours.next().is_none(), "two versions of {name}");
    Ok(one)
}

/// A program run to its end, which must be 0.
pub(crate) fn run<A: Into<String>>(
    file: impl AsRef<str>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Output> {
    let file = file.as_ref();
    Program::new(file, file, arguments)
        .run(Path::new("/"), "", ENDS)?
        .success(file)
}

/// One file or link in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As `ls -l` has it.
    pub(crate) mode: String,
    /// User and group.
    pub(crate) owner: String,
    /// Absolute; a directory's ends with a slash.
    pub(crate) path: String,
}

/// What is in a package.
pub(crate) fn entries(name: &str) -> Result<Vec<Entry>> {
    let listed = run(
        "dpkg-deb",
        [
            "--contents".to_owned(),
            package(name)?.display().to_string(),
        ],
    )?;
    listed
        .stdout
        .lines()
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().context("a line of tar's").map(str::to_owned);
            let (mode, owner, _size, _date, _time) = (word()?, word()?, word()?, word()?, word()?);
            let path = word()?.trim_start_matches('.').to_owned();
            Ok(Entry { mode, owner, path })
        })
        .collect()
}

/// A file of a package's control part.
pub(crate) fn control(name: &str, file: &str) -> Result<String> {
    let package = package(name)?.display().to_string();
    Ok(run("dpkg-deb", ["--info".to_owned(), package, file.to_owned()])?.stdout)
}

/// Both packages' files, below one directory.
pub(crate) fn unpacked(into: &Path) -> Result<()> {
    for name in BOTH {
        let package = package(name)?.display().to_string();
        let into = into.display().to_string();
        run("dpkg-deb", ["--extract".to_owned(), package, into])?;
    }
    Ok(())
}
