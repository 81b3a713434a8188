//! A copy of the database, taken while another process writes to it.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use certwell_proto::Lineage;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use super::{
    DATABASE,
    accounts::lineage_of,
    failure::{Failure, Inner},
    open::{at, check_header, corrupt},
};
use crate::store::{Result, StoreError};

/// Copies the database of a state directory into the new file `to`, mode 0600: all that was committed by one instant,
/// whoever writes meanwhile. No key is needed: secrets are copied as they are sealed. It isn't forced to disk yet.
///
/// # Errors
/// Missing when there is no database, Corrupt when it is damaged or another program's, Io when the file system fails
/// or `to` exists.
pub async fn copy(state_directory: &Path, to: &Path) -> Result<()> {
    let from = state_directory.join(DATABASE);
    match from.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Missing {
                path: from.display().to_string(),
            });
        }
        Err(error) => return Err(at(&from, error)),
        Ok(_) => check_header(&from)?,
    }
    // Empty, so that SQLite takes it, and never anybody else's to read.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|e| at(to, e))?;
    let target = to
        .to_str()
        .ok_or_else(|| at(to, io::Error::other("its path isn't UTF-8")))?;
    let copy = async {
        let mut reader = SqliteConnectOptions::new()
            .filename(&from)
            .disable_statement_logging()
            .connect()
            .await?;
        sqlx::query("VACUUM INTO ?")
            .bind(target)
            .execute(&mut reader)
            .await?;
        Inner::Ok(reader.close().await?)
    };
    copy.await.map_err(|failure| failure.tell(&from))
}

/// Opens a copy and looks at every page of it.
///
/// # Errors
/// Corrupt when it is damaged, another program's, or lacks what a store has from its first day.
pub async fn verify(copy: &Path) -> Result<()> {
    check_header(copy)?;
    let verify = async {
        let mut reader = reading(copy).connect().await?;
        let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
            .fetch_one(&mut reader)
            .await?;
        if found != "ok" {
            return Err(Failure::Told(corrupt(copy, found)));
        }
        let whole: bool = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM fleet) = 1
                AND (SELECT count(*) FROM wrapped_data_key WHERE under = 'recovery-key') = 1",
        )
        .fetch_one(&mut reader)
        .await?;
        if !whole {
            let problem = "it holds no fleet, or none that a recovery key opens".to_owned();
            return Err(Failure::Told(corrupt(copy, problem)));
        }
        Inner::Ok(reader.close().await?)
    };
    verify.await.map_err(|failure| failure.tell(copy))
}

/// The lineage of a copy.
///
/// # Errors
/// As [`verify`].
pub async fn lineage(copy: &Path) -> Result<Lineage> {
    let read = async {
        let mut reader = reading(copy).connect().await?;
        let row = sqlx::query("SELECT lineage, lineage_started FROM fleet")
            .fetch_one(&mut reader)
            .await?;
        let lineage = lineage_of(&row)?;
        reader.close().await?;
        Inner::Ok(lineage)
    };
    read.await.map_err(|failure| failure.tell(copy))
}

/// A copy is looked at as it lies there, on a read-only disk too: nothing is made beside it.
pub(super) fn reading(copy: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(PathBuf::from(copy))
        .read_only(true)
        .immutable(true)
        .disable_statement_logging()
}
