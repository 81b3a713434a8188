//! Packing the same programs again gives the same bytes. That building them again does, `make reproducible` shows.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{paths, program::Program};

use super::made::{BOTH, ENDS, package};

/// Another time zone, language, umask and place, and a moment later: files as a stricter person would have them.
const ELSEWHERE: &str = "umask 077; exec \"$0\" dev \"$1\"";

#[test]
fn packing_the_same_programs_twice_gives_the_same_bytes() -> Result<()> {
    let first = BOTH.map(package);
    let again = tempfile::tempdir()?;
    let script = paths::workspace().join("lab/packages.sh");
    let into = again.path().join("elsewhere").display().to_string();
    let arguments = ["-c", ELSEWHERE, &script.to_string_lossy(), &into].map(str::to_owned);
    Program::new("packages", "sh", arguments)
        .env("TZ", "Asia/Kathmandu")
        .env("LC_ALL", "C.UTF-8")
        .run(again.path(), "", ENDS)?
        .success("lab/packages.sh")?;
    for first in first {
        let first = first?;
        let file = first.file_name().context("a file's name")?;
        let (one, other) = (
            fs::read(&first)?,
            fs::read(again.path().join("elsewhere").join(file))?,
        );
        ensure!(
            one == other,
            "{} differs: {} bytes and {}",
            file.display(),
            one.len(),
            other.len()
        );
    }
    Ok(())
}
