//! Hosts and their join tokens.

use certwell_proto::{HostName, v1};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{Row as _, Sqlite, SqliteExecutor, Transaction, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::{Failure, Inner},
};
use crate::store::{Enrolled, HostRecord, TokenRecord};

const UNUSED: &str = "UPDATE token SET void = 1 WHERE host = ? AND used_by IS NULL AND void = 0";

impl SqliteStore {
    pub(super) async fn insert_token(&self, token: &TokenRecord) -> Inner<()> {
        let mut transaction = self.begin().await?;
        if find_token(&mut *transaction, &token.hash).await?.is_some() {
            return Err(Failure::conflict(format!(
                "{}: this token is stored already",
                token.host
            )));
        }
        sqlx::query(UNUSED)
            .bind(token.host.as_str())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO token (hash, host, expires, used_by, void) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(token.hash.as_slice())
        .bind(token.host.as_str())
        .bind(columns::millis(token.expires))
        .bind(token.used_by.as_ref().map(|hash| hash.as_slice()))
        .bind(token.void)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_token(&self, hash: &[u8; 32]) -> Inner<Option<TokenRecord>> {
        find_token(&self.readers, hash).await
    }

    pub(super) async fn write_enrollment(
        &self,
        token_hash: &[u8; 32],
        enrolled: &Enrolled,
    ) -> Inner<()> {
        let mut transaction = self.begin().await?;
        let token = find_token(&mut *transaction, token_hash).await?;
        enrolled
            .check_token(token.as_ref())
            .map_err(Failure::conflict)?;
        sqlx::query("UPDATE token SET used_by = ? WHERE hash = ?")
            .bind(enrolled.bound_key_hash.as_slice())
            .bind(token_hash.as_slice())
            .execute(&mut *transaction)
            .await?;
        put_host(&mut transaction, &enrolled.host).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_hosts(&self) -> Inner<Vec<HostRecord>> {
        let rows = sqlx::query("SELECT * FROM host ORDER BY name")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(host_of(row)?)).collect()
    }

    pub(super) async fn write_host(&self, host: &HostRecord) -> Inner<()> {
        let mut transaction = self.begin().await?;
        put_host(&mut transaction, host).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn write_seen(
        &self,
        host: &HostName,
        at: Timestamp,
        info: &v1::HostInfo,
    ) -> Inner<()> {
        sqlx::query("UPDATE host SET last_seen = ?, info = ? WHERE name = ?")
            .bind(columns::millis(at))
            .bind(info.encode_to_vec())
            .bind(host.as_str())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(super) async fn write_void_tokens(&self, host: &HostName) -> Inner<u64> {
        Ok(sqlx::query(UNUSED)
            .bind(host.as_str())
            .execute(&self.writer)
            .await?
            .rows_affected())
    }

    pub(super) async fn delete_tokens(&self, before: Timestamp) -> Inner<u64> {
        let done = sqlx::query("DELETE FROM token WHERE expires < ?")
            .bind(columns::millis(before))
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected())
    }
}

async fn find_token(
    executor: impl SqliteExecutor<'_>,
    hash: &[u8; 32],
) -> Inner<Option<TokenRecord>> {
    let row = sqlx::query("SELECT hash, host, expires, used_by, void FROM token WHERE hash = ?")
        .bind(hash.as_slice())
        .fetch_optional(executor)
        .await?;
    Ok(row.map(|row| token_of(&row)).transpose()?)
}

async fn put_host(transaction: &mut Transaction<'_, Sqlite>, host: &HostRecord) -> Inner<()> {
    sqlx::query(
        "INSERT INTO host (name, bound_key, identity, identity_key_hash, revoked, retired, info, last_seen)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (name) DO UPDATE SET
             bound_key = excluded.bound_key, identity = excluded.identity,
             identity_key_hash = excluded.identity_key_hash,
             revoked = max(coalesce(revoked, excluded.revoked), coalesce(excluded.revoked, revoked)),
             retired = max(retired, excluded.retired), info = excluded.info, last_seen = excluded.last_seen",
    )
    .bind(host.name.as_str())
    .bind(&host.bound_key)
    .bind(&host.identity)
    .bind(host.identity_key.as_slice())
    .bind(host.revoked.map(columns::millis))
    .bind(host.retired)
    .bind(host.info.encode_to_vec())
    .bind(host.last_seen.map(columns::millis))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn token_of(row: &SqliteRow) -> Result<TokenRecord, sqlx::Error> {
    let used = row.try_get::<Option<&[u8]>, _>("used_by")?.is_some();
    Ok(TokenRecord {
        hash: row.hash("hash")?,
        host: row.parsed("host")?,
        expires: row.time("expires")?,
        used_by: if used {
            Some(row.hash("used_by")?)
        } else {
            None
        },
        void: row.try_get("void")?,
    })
}

fn host_of(row: &SqliteRow) -> Result<HostRecord, sqlx::Error> {
    Ok(HostRecord {
        name: row.parsed("name")?,
        bound_key: row.try_get("bound_key")?,
        identity: row.try_get("identity")?,
        identity_key: row.hash("identity_key_hash")?,
        revoked: row.time_or_none("revoked")?,
        retired: row.try_get("retired")?,
        info: row.message("info")?,
        last_seen: row.time_or_none("last_seen")?,
    })
}
