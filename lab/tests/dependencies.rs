//! What the workspace is built of: one TLS stack, one version of each thing it names, licences that it may ship.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package, PackageId};

/// Every licence expression must be satisfied by these alone.
const LICENCES: [&str; 8] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
];

/// Another TLS or cryptography stack beside rustls on aws-lc-rs.
const BANNED: [&str; 8] = [
    "ring",
    "openssl",
    "openssl-sys",
    "native-tls",
    "schannel",
    "security-framework",
    "boring",
    "rusqlite",
];

#[test]
fn no_second_tls_stack_is_built() -> Result<()> {
    let metadata = metadata()?;
    let built = built(&metadata)?;
    let names: Vec<&str> = built.iter().map(|package| package.name.as_str()).collect();
    for name in BANNED {
        ensure!(
            !names.contains(&name),
            "{name} is built: cargo tree --invert {name}"
        );
    }
    for name in ["rustls", "aws-lc-rs", "aws-lc-sys", "tokio-rustls"] {
        let count = names.iter().filter(|other| **other == name).count();
        ensure!(count == 1, "{count} versions of {name} are built");
    }
    Ok(())
}

#[test]
fn each_direct_dependency_has_one_version() -> Result<()> {
    let metadata = metadata()?;
    let direct: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .map(|dependency| dependency.name.as_str())
        })
        .collect();
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in built(&metadata)? {
        versions
            .entry(package.name.as_str())
            .or_default()
            .insert(package.version.to_string());
    }
    let several: Vec<_> = direct
        .iter()
        .filter_map(|name| versions.get_key_value(name))
        .filter(|(_, versions)| versions.len() > 1)
        .collect();
    ensure!(
        direct.len() > 40,
        "only {} direct dependencies were found",
        direct.len()
    );
    ensure!(
        several.is_empty(),
        "several versions are built of {several:?}"
    );
    Ok(())
}

#[test]
fn every_licence_is_on_the_list() -> Result<()> {
    let metadata = metadata()?;
    let refused: Vec<String> = built(&metadata)?
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(allowed))
        .map(|package| {
            format!(
                "{} {}: {:?}",
                package.name, package.version, package.license
            )
        })
        .collect();
    ensure!(refused.is_empty(), "{refused:#?}");
    Ok(())
}

#[test]
fn members_declare_licence_and_take_versions_from_the_workspace() -> Result<()> {
    let metadata = metadata()?;
    for package in metadata.workspace_packages() {
        ensure!(
            package.license.as_deref() == Some("Apache-2.0 OR MIT"),
            "{}: {:?}",
            package.name,
            package.license
        );
        ensure!(
            package.rust_version.is_some(),
            "{} has no rust-version",
            package.name
        );
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        // What follows is for the packages.
        let (cargos, _) = manifest
            .split_once("[package.metadata")
            .unwrap_or((&manifest, ""));
        let own = cargos
            .lines()
            .filter(|line| line.contains("version = \"") || line.contains(" = \""));
        let own: Vec<&str> = own.filter(|line| !is_about_itself(line)).collect();
        ensure!(
            own.is_empty(),
            "{}: versions belong into the workspace: {own:?}",
            package.manifest_path
        );
    }
    Ok(())
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    for (expression, fine) in [
        ("MIT", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("MIT/Apache-2.0", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND OpenSSL", false),
        ("ISC AND (Apache-2.0 OR ISC OR MIT-0)", true),
        ("Apache-2.0 WITH LLVM-exception OR Foo", true),
        ("", false),
    ] {
        assert_eq!(allowed(expression), fine, "{expression}");
    }
}

/// Keys of `[package]`, `[[bin]]` and the like.
fn is_about_itself(line: &str) -> bool {
    [
        "name",
        "path",
        "description",
        "default-run",
        "build",
        "version.",
        "edition",
        "license",
    ]
    .iter()
    .any(|key| line.starts_with(key))
}

fn metadata() -> Result<Metadata> {
    let version = std::process::Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8(version.stdout)?;
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names its host")?;
    Ok(MetadataCommand::new()
        .manifest_path(certwell_lab::paths::workspace().join("Cargo.toml"))
        .other_options(["--locked".to_owned(), format!("--filter-platform={host}")])
        .exec()?)
}

/// Everything that is reached from the members on this platform, for building or running.
fn built(metadata: &Metadata) -> Result<Vec<&Package>> {
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo metadata resolves nothing")?;
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let packages: BTreeMap<&PackageId, &Package> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package))
        .collect();
    let mut reached: BTreeSet<&PackageId> = BTreeSet::new();
    let mut waiting: Vec<&PackageId> = metadata.workspace_members.iter().collect();
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let node = nodes.get(id).context("a package isn't resolved")?;
        let package = packages.get(id).context("a package isn't described")?;
        let followed = node.deps.iter().filter(|dep| {
            let Some(target) = packages.get(&dep.pkg) else {
                return true;
            };
            is_wanted(package, &node.features, target)
        });
        waiting.extend(followed.map(|dep| &dep.pkg));
    }
    ensure!(
        reached.len() > 100,
        "only {} packages were reached",
        reached.len()
    );
    Ok(metadata
        .packages
        .iter()
        .filter(|package| reached.contains(&package.id))
        .collect())
}

/// `cargo metadata` also lists optional dependencies that only a weak feature (`name?/feature`) mentions; these
/// aren't built.
fn is_wanted<F: AsRef<str>>(package: &Package, active: &[F], target: &Package) -> bool {
    let mut about = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.name == target.name.as_str())
        .peekable();
    about.peek().is_none()
        || about.any(|dependency| {
            let name = dependency.rename.as_ref().unwrap_or(&dependency.name);
            let enables = |feature: &String| {
                feature == name
                    || *feature == format!("dep:{name}")
                    || feature.starts_with(&format!("{name}/"))
            };
            !dependency.optional
                || active
                    .iter()
                    .filter_map(|feature| package.features.get(feature.as_ref()))
                    .any(|enabled| enabled.iter().any(enables))
        })
}

/// Whether an SPDX expression is satisfied by [`LICENCES`] alone.
fn allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let fine = any_of(&mut rest);
    fine == Some(true) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut fine = all_of(words)?;
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        fine |= all_of(words)?;
    }
    Some(fine)
}

fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut fine = one(words)?;
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        fine &= one(words)?;
    }
    Some(fine)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let fine = any_of(words)?;
        let (&")", rest) = words.split_first()? else {
            return None;
        };
        *words = rest;
        return Some(fine);
    }
    let mut name = (*first).to_owned();
    if let ["WITH", exception, rest @ ..] = *words {
        name = format!("{name} WITH {exception}");
        *words = rest;
    }
    Some(LICENCES.contains(&name.as_str()))
}
