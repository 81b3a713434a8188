//! Making and opening the store: the state directory, its lock, and checks before anything is touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use certwell_proto::Lineage;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use sqlx::{
    ConnectOptions as _, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    DATABASE, SqliteStore,
    accounts::ca_label,
    failure::{Failure, Inner},
};
use crate::store::{
    FleetCa, Result, StoreError,
    keys::{Kek, RecoveryKey},
    sealing::{DataKey, SealError},
};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The name of the lock in the state directory.
const LOCK: &str = "lock";
/// As the first migration sets it: "CWL1".
const APPLICATION_ID: [u8; 4] = *b"CWL1";
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

impl SqliteStore {
    /// Makes a store in `directory`, which must be absent or empty.
    ///
    /// # Errors
    /// Conflict when the directory holds anything; else what the file system says.
    pub async fn create(
        directory: &Path,
        kek: &Kek,
        recovery: &RecoveryKey,
        lineage: Lineage,
        fleet_ca: &FleetCa,
    ) -> Result<Self> {
        let path = directory.join(DATABASE);
        prepare_directory(directory)?;
        let lock = lock(directory)?;
        // Made here, so that it is never anybody else's to read; its companions take its mode.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| at(&path, e))?;
        let make = async {
            let writer = writer(&path).await?;
            MIGRATIONS.run(&writer).await?;
            let sealing = |e| Failure::unseal("the new data key", e);
            let key = DataKey::generate().map_err(sealing)?;
            let wrapped = key.wrap(kek).map_err(sealing)?;
            let for_recovery = key.wrap_for_recovery(recovery).map_err(sealing)?;
            let ca_key = key
                .seal(ca_label(fleet_ca.fleet.as_str()), fleet_ca.key.expose())
                .map_err(sealing)?;

            let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
            for (under, sealed) in [
                ("key-encryption-key", wrapped),
                ("recovery-key", for_recovery),
            ] {
                sqlx::query("INSERT INTO wrapped_data_key (under, sealed) VALUES (?, ?)")
                    .bind(under)
                    .bind(sealed)
                    .execute(&mut *transaction)
                    .await?;
            }
            sqlx::query(
                "INSERT INTO fleet (one, name, lineage, lineage_started, ca_certificate, ca_key)
                 VALUES (1, ?, ?, ?, ?, ?)",
            )
            .bind(fleet_ca.fleet.as_str())
            .bind(lineage.id.as_bytes().as_slice())
            .bind(lineage.started_ms)
            .bind(&fleet_ca.certificate)
            .bind(ca_key)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            // So that the file itself, and not only its write-ahead log, says whose it is.
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&writer)
                .await?;
            Inner::Ok((writer, key))
        };
        let (writer, key) = make.await.map_err(|failure| failure.tell(&path))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|e| at(directory, e))?;
        let readers = readers(&path);
        Ok(Self {
            writer,
            readers,
            key,
            path,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Opens the store in `directory`.
    ///
    /// # Errors
    /// Missing when there is none, InUse when another issuer has it, Corrupt when it is damaged or another
    /// program's, Newer when a newer version wrote it, Unseal when it is another key-encryption key.
    pub async fn open(directory: &Path, kek: &Kek) -> Result<Self> {
        let path = directory.join(DATABASE);
        if let Err(error) = fs::metadata(&path) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => StoreError::Missing {
                    path: path.display().to_string(),
                },
                _ => at(&path, error),
            });
        }
        let lock = lock(directory)?;
        check_header(&path)?;
        let check = async {
            let writer = writer(&path).await?;
            let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
                .fetch_one(&writer)
                .await?;
            if found != "ok" {
                return Err(Failure::Told(corrupt(&path, found)));
            }
            MIGRATIONS.run(&writer).await.map_err(|error| match error {
                MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                    Failure::Told(StoreError::Newer {
                        path: path.display().to_string(),
                    })
                }
                other => other.into(),
            })?;
            let wrapped: Vec<u8> = sqlx::query_scalar(
                "SELECT sealed FROM wrapped_data_key WHERE under = 'key-encryption-key'",
            )
            .fetch_one(&writer)
            .await?;
            let key = DataKey::unwrap(&wrapped, kek).map_err(|error| match error {
                SealError::Refused => Failure::Told(StoreError::Unseal {
                    what: "the data key".to_owned(),
                    problem: "this isn't the key-encryption key that the store was made with; put the right one back"
                        .to_owned(),
                }),
                other => Failure::unseal("the data key", other),
            })?;
            Inner::Ok((writer, key))
        };
        let (writer, key) = check.await.map_err(|failure| failure.tell(&path))?;
        let readers = readers(&path);
        Ok(Self {
            writer,
            readers,
            key,
            path,
            lock: Mutex::new(Some(lock)),
        })
    }
}

/// Absent: made, 0700. Empty: taken, set to 0700.
fn prepare_directory(directory: &Path) -> Result<()> {
    match fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")) {
                return Err(StoreError::Conflict(format!(
                    "the state directory {} isn't empty; nothing in it is overwritten",
                    directory.display()
                )));
            }
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
                .map_err(|e| at(directory, e))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|e| at(directory, e)),
        Err(error) => Err(at(directory, error)),
    }
}

fn lock(directory: &Path) -> Result<Flock<File>> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| at(&path, e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => StoreError::InUse {
            path: directory.display().to_string(),
        },
        other => at(&path, other.into()),
    })
}

/// Whose file it is, by its first 72 bytes, before the engine touches it.
pub(super) fn check_header(path: &Path) -> Result<()> {
    let mut header = [0; 72];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(corrupt(path, "it is cut short".to_owned()))
        }
        Err(error) => Err(at(path, error)),
        Ok(()) if !header.starts_with(MAGIC) => {
            Err(corrupt(path, "it is no SQLite database".to_owned()))
        }
        Ok(()) if header[68..] != APPLICATION_ID => Err(corrupt(
            path,
            "it is another program's, or its `certwell-issuer init` was interrupted".to_owned(),
        )),
        Ok(()) => Ok(()),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // KiB; the whole store of a fleet is a few MiB.
        .pragma("cache_size", "-512")
        // Bytes: what a busy hour made of the write-ahead log doesn't stay.
        .pragma("journal_size_limit", "4194304")
        .statement_cache_capacity(32)
        .disable_statement_logging()
}

pub(super) async fn writer(path: &Path) -> Inner<SqlitePool> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options(path))
        .await?;
    Ok(pool)
}

fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(3)
        .min_connections(0)
        .idle_timeout(Duration::from_secs(30))
        .test_before_acquire(false)
        .connect_lazy_with(options(path).pragma("query_only", "ON"))
}

pub(super) fn corrupt(path: &Path, problem: String) -> StoreError {
    StoreError::Corrupt {
        path: path.display().to_string(),
        problem,
    }
}

/// A failure of the file system, with the path that it is about.
pub(super) fn at(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        source: Box::new(error),
    }
}
