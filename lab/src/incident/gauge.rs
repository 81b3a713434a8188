//! What the daemons hold and what lies on their disks: memory, descriptors, generations, rows.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

use crate::{
    MEDIA,
    debian::{Fleet, Machine},
};

/// Figures by their names, units included.
pub(super) type Looked = BTreeMap<String, u64>;

/// Looks at a fleet.
pub(super) struct Gauge<'a>(&'a Fleet);

impl<'a> Gauge<'a> {
    pub(super) fn of(fleet: &'a Fleet) -> Self {
        Self(fleet)
    }

    /// Memory and descriptors of each daemon, generations on each edge's disk.
    pub(super) fn look(&self) -> Result<Looked> {
        let mut looked = Looked::new();
        let fleet = self.0;
        daemon(&fleet.fritz, "certwell-issuer", &mut looked)?;
        for edge in &fleet.edges {
            daemon(edge, "certwell-agent", &mut looked)?;
            let store = edge.path(&format!("/var/lib/certwell-agent/store/{MEDIA}"));
            looked.insert(
                format!("{}: generations on disk", edge.name),
                fs::read_dir(store)?.count().try_into()?,
            );
        }
        Ok(looked)
    }

    /// How many rows each table of the issuer's store holds, counted in a backup of it.
    pub(super) fn rows(&self) -> Result<BTreeMap<String, u64>> {
        let fritz = &self.0.fritz;
        let at = "/var/lib/certwell-issuer/counted";
        fritz.shell(&format!(
            "rm -rf {at}; runuser -u certwell-issuer -- certwell-issuer backup --output {at}"
        ))?;
        // SQLite takes links of its path for this machine's.
        let copy = tempfile::NamedTempFile::new()?;
        fs::copy(database(&fritz.path(at))?, copy.path())?;
        let rows = count(copy.path());
        fritz.shell(&format!("rm -rf {at}"))?;
        rows
    }
}

fn database(backup: &Path) -> Result<PathBuf> {
    if backup.is_file() {
        return Ok(backup.to_owned());
    }
    let found = fs::read_dir(backup)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "db"));
    found.with_context(|| format!("no database in {}", backup.display()))
}

fn count(database: &Path) -> Result<BTreeMap<String, u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(database)
            .immutable(true);
        let mut store = options.connect().await?;
        let tables = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut store)
            .await?;
        let mut rows = BTreeMap::new();
        for table in tables {
            let name: String = table.try_get(0)?;
            if name.starts_with("sqlite_") || name.starts_with("_sqlx") {
                continue;
            }
            let counted = sqlx::query(sqlx::AssertSqlSafe(format!(
                "SELECT count(*) FROM \"{name}\""
            )))
            .fetch_one(&mut store)
            .await?;
            rows.insert(name, u64::try_from(counted.try_get::<i64, _>(0)?)?);
        }
        store.close().await?;
        Ok(rows)
    })
}

fn daemon(machine: &Machine, unit: &str, looked: &mut Looked) -> Result<()> {
    let said = machine.shell(&format!("systemctl show --property MainPID --value {unit}"))?;
    let pid = said.trim();
    let status = fs::read_to_string(machine.path(&format!("/proc/{pid}/status")))
        .with_context(|| format!("{}: {unit} doesn't run", machine.name))?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("no VmRSS")?;
    let open = fs::read_dir(machine.path(&format!("/proc/{pid}/fd")))?.count();
    let name = &machine.name;
    looked.insert(format!("{name}: memory of {unit}, KiB"), resident);
    looked.insert(format!("{name}: descriptors of {unit}"), open.try_into()?);
    Ok(())
}
