//! From a backup to a store of another lineage, and how far its recovery came.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Mutex};

use certwell_proto::{CertificateName, Generation, Lineage};
use jiff::Timestamp;
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};

use super::{
    DATABASE, SqliteStore,
    columns::{self, Columns as _},
    copy::reading,
    failure::{Failure, Inner},
    open::{at, writer},
};
use crate::store::{
    FleetCa, Recovery, Result, Store as _, StoreError,
    keys::{Kek, RecoveryKey},
    sealing::{DataKey, SealError},
};

/// Opens every secret of a copy by the recovery key, and changes nothing.
///
/// # Errors
/// Unseal when it is another recovery key, or a secret doesn't open; else as [`super::verify`].
pub async fn prove(copy: &Path, recovery: &RecoveryKey) -> Result<FleetCa> {
    let prove = async {
        let pool: SqlitePool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(reading(copy))
            .await?;
        let store = SqliteStore {
            key: recovered(&pool, recovery).await?,
            writer: pool.clone(),
            readers: pool,
            path: copy.to_owned(),
            lock: Mutex::new(None),
        };
        let ca = store.read_fleet_ca().await?;
        store.read_accounts().await?;
        store.read_orders().await?;
        for (certificate, generation, _) in store.read_leaves().await? {
            store.read_bundle(&certificate, generation).await?;
        }
        store.close().await;
        Inner::Ok(ca)
    };
    prove.await.map_err(|failure| failure.tell(copy))
}

async fn recovered(pool: &SqlitePool, recovery: &RecoveryKey) -> Inner<DataKey> {
    let wrapped: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM wrapped_data_key WHERE under = 'recovery-key'")
            .fetch_one(pool)
            .await?;
    DataKey::recover(&wrapped, recovery).map_err(|error| match error {
        SealError::Refused => Failure::Told(StoreError::Unseal {
            what: "the data key".to_owned(),
            problem:
                "this isn't the recovery key that `certwell-issuer init` printed for this fleet"
                    .to_owned(),
        }),
        other => Failure::unseal("the data key", other),
    })
}

impl SqliteStore {
    /// Makes a store in the new directory `directory` from a copy: under this key-encryption key, of this lineage,
    /// its join tokens void, recovering since `now`. The recovery key stays what it was.
    ///
    /// # Errors
    /// As [`prove`] and [`SqliteStore::open`] say; Conflict when the lineage isn't later than the copy's.
    pub async fn restore(
        directory: &Path,
        copy: &Path,
        (kek, recovery): (&Kek, &RecoveryKey),
        lineage: Lineage,
        now: Timestamp,
    ) -> Result<Self> {
        let path = directory.join(DATABASE);
        fs::copy(copy, &path).map_err(|e| at(&path, e))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|e| at(&path, e))?;
        let rewrap = async {
            let pool = writer(&path).await?;
            let key = recovered(&pool, recovery).await?;
            let wrapped = key
                .wrap(kek)
                .map_err(|e| Failure::unseal("the data key", e))?;
            sqlx::query(
                "INSERT INTO wrapped_data_key (under, sealed) VALUES ('key-encryption-key', ?)
                 ON CONFLICT (under) DO UPDATE SET sealed = excluded.sealed",
            )
            .bind(wrapped)
            .execute(&pool)
            .await?;
            pool.close().await;
            Inner::Ok(())
        };
        rewrap.await.map_err(|failure| failure.tell(&path))?;
        let store = Self::open(directory, kek).await?;
        store.begin_recovery(lineage, now).await?;
        Ok(store)
    }

    pub(super) async fn read_recovery(&self) -> Inner<Option<Recovery>> {
        let row = sqlx::query("SELECT began, ended FROM recovery")
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| {
            Ok(Recovery {
                began: row.time("began")?,
                ended: row.time_or_none("ended")?,
            })
        })
        .transpose()
    }

    pub(super) async fn write_recovery(&self, lineage: Lineage, at: Timestamp) -> Inner<()> {
        let mut transaction = self.begin().await?;
        let begun = sqlx::query(
            "UPDATE fleet SET lineage = ?1, lineage_started = ?2 WHERE lineage_started < ?2",
        )
        .bind(lineage.id.as_bytes().as_slice())
        .bind(lineage.started_ms)
        .execute(&mut *transaction)
        .await?;
        if begun.rows_affected() == 0 {
            return Err(Failure::conflict(
                "the new lineage must be later than the one that it follows",
            ));
        }
        for statement in [
            "UPDATE token SET void = 1 WHERE used_by IS NULL",
            "UPDATE observation SET told = NULL",
        ] {
            sqlx::query(statement).execute(&mut *transaction).await?;
        }
        sqlx::query(
            "INSERT INTO recovery (one, began, ended) VALUES (1, ?, NULL)
             ON CONFLICT (one) DO UPDATE SET began = excluded.began, ended = NULL",
        )
        .bind(columns::millis(at))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn write_recovery_ended(&self, at: Timestamp) -> Inner<()> {
        sqlx::query("UPDATE recovery SET ended = ? WHERE ended IS NULL")
            .bind(columns::millis(at))
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(super) async fn read_highest(&self) -> Inner<Vec<(CertificateName, Generation)>> {
        let rows =
            sqlx::query("SELECT certificate, highest FROM issued_generation ORDER BY certificate")
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    row.parsed("certificate")?,
                    Generation(row.unsigned("highest")?),
                ))
            })
            .collect()
    }

    pub(super) async fn write_highest(
        &self,
        certificate: &CertificateName,
        highest: Generation,
    ) -> Inner<()> {
        sqlx::query(
            "INSERT INTO issued_generation (certificate, highest) VALUES (?, ?)
             ON CONFLICT (certificate) DO UPDATE SET highest = max(highest, excluded.highest)",
        )
        .bind(certificate.as_str())
        .bind(columns::generation(highest)?)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}
