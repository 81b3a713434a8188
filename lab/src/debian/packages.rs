//! The packages of this checkout: `lab/packages.sh` makes them of the binaries that are built already.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use crate::{paths, program::Program};

const LIMIT: Duration = Duration::from_secs(300);

/// The two files.
#[derive(Debug, Clone)]
pub struct Packages {
    /// `certwell-issuer_…_….deb`.
    pub issuer: PathBuf,
    /// `certwell-agent_…_….deb`.
    pub agent: PathBuf,
}

impl Packages {
    /// Those in the directory that `CERTWELL_PACKAGES` names; else they are made now.
    ///
    /// # Errors
    /// When they can't be made, or aren't there.
    pub fn ready() -> Result<Self> {
        let directory = match std::env::var_os("CERTWELL_PACKAGES") {
            Some(directory) => fs::canonicalize(directory)?,
            None => make()?,
        };
        let find = |name: &str| {
            let start = format!("{name}_");
            let mut found: Vec<PathBuf> = fs::read_dir(&directory)?
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| {
                    let file = path.file_name().unwrap_or_default().to_string_lossy();
                    file.starts_with(&start) && file.ends_with(".deb")
                })
                .collect();
            found.sort();
            found
                .pop()
                .with_context(|| format!("no {name}_*.deb in {}", directory.display()))
        };
        Ok(Self {
            issuer: find("certwell-issuer")?,
            agent: find("certwell-agent")?,
        })
    }
}

fn make() -> Result<PathBuf> {
    let workspace = paths::workspace();
    let program = Program::new(
        "packages",
        workspace.join("lab/packages.sh"),
        ["dev".to_owned()],
    );
    program
        .run(&workspace, "", LIMIT)?
        .success("lab/packages.sh dev")?;
    let built = paths::binaries()?;
    let target = built
        .parent()
        .context("the binaries' directory has no parent")?;
    Ok(target.join("debian-dev"))
}
