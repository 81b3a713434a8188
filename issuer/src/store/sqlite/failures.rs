//! How issuances failed, by certificate: what back-off and the choice of authority go by after a restart.

use certwell_proto::CertificateName;
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::Inner,
};
use crate::store::{
    OrderFailure,
    record::{FAILURES, FAILURES_KEPT},
};

impl SqliteStore {
    pub(super) async fn write_failure(
        &self,
        certificate: &CertificateName,
        failure: &OrderFailure,
    ) -> Inner<()> {
        let mut transaction = self.begin().await?;
        add(&mut transaction, certificate, failure).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_failures(&self) -> Inner<Vec<(CertificateName, OrderFailure)>> {
        let rows = sqlx::query(
            "SELECT certificate, at, validation, problem, retry_at FROM order_failure ORDER BY at, id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| Ok((row.parsed("certificate")?, failure_of(row)?)))
            .collect()
    }
}

/// Adds one, and drops those that are too many or too old beside it.
pub(super) async fn add(
    transaction: &mut Transaction<'_, Sqlite>,
    certificate: &CertificateName,
    failure: &OrderFailure,
) -> Inner<()> {
    sqlx::query("INSERT INTO order_failure (certificate, at, validation, problem, retry_at) VALUES (?, ?, ?, ?, ?)")
        .bind(certificate.as_str())
        .bind(columns::millis(failure.at))
        .bind(failure.validation)
        .bind(&failure.problem)
        .bind(failure.retry_at.map(columns::millis))
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "DELETE FROM order_failure WHERE certificate = ?1 AND (
             at < (SELECT max(at) FROM order_failure WHERE certificate = ?1) - ?2
             OR id NOT IN (SELECT id FROM order_failure WHERE certificate = ?1 ORDER BY at DESC, id DESC LIMIT ?3))",
    )
    .bind(certificate.as_str())
    .bind(columns::number(FAILURES_KEPT.as_secs() * 1000)?)
    .bind(columns::number(FAILURES as u64)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Forgets those of a certificate.
pub(super) async fn clear(
    transaction: &mut Transaction<'_, Sqlite>,
    certificate: &CertificateName,
) -> Inner<()> {
    sqlx::query("DELETE FROM order_failure WHERE certificate = ?")
        .bind(certificate.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn failure_of(row: &SqliteRow) -> Result<OrderFailure, sqlx::Error> {
    Ok(OrderFailure {
        at: row.time("at")?,
        validation: row.try_get("validation")?,
        problem: row.try_get("problem")?,
        retry_at: row.time_or_none("retry_at")?,
    })
}
