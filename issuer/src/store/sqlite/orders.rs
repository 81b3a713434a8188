//! Orders on their way: intent, then URL; then a failure, or the bundle.

use certwell_proto::{CertificateName, Generation};
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::{Failure, Inner},
    failures,
};
use crate::store::{Intent, OrderFailure, PendingOrder, sealing::Label};

/// How a private key is bound, from its intent to its bundle: the sealed bytes move as they are.
pub(super) fn key_label(certificate: &CertificateName, generation: Generation) -> Label<'_> {
    Label {
        kind: "certificate-key",
        name: certificate.as_str(),
        generation: generation.0,
    }
}

impl SqliteStore {
    pub(super) async fn insert_order(&self, intent: &Intent) -> Inner<()> {
        let Intent {
            certificate,
            generation,
            ..
        } = intent;
        let key = self.seal(key_label(certificate, *generation), &intent.private_key)?;
        let mut transaction = self.begin().await?;
        let pending: Option<i64> =
            sqlx::query_scalar("SELECT generation FROM pending_order WHERE certificate = ?")
                .bind(certificate.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
        if let Some(pending) = pending {
            return Err(Failure::conflict(format!(
                "{certificate}: an order for generation {pending} is unfinished, so generation {generation} can't begin"
            )));
        }
        let highest: Option<i64> =
            sqlx::query_scalar("SELECT highest FROM issued_generation WHERE certificate = ?")
                .bind(certificate.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
        let number = columns::generation(*generation)?;
        if number <= highest.unwrap_or(0) {
            return Err(Failure::conflict(format!(
                "{certificate}: generation {generation} can't begin after generation {} was issued",
                highest.unwrap_or(0)
            )));
        }
        sqlx::query(
            "INSERT INTO pending_order
                 (certificate, generation, identifiers, authority, directory, private_key, csr, replaces, at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(certificate.as_str())
        .bind(number)
        .bind(columns::list(&intent.identifiers)?)
        .bind(&intent.authority)
        .bind(&intent.directory)
        .bind(key)
        .bind(&intent.csr)
        .bind(&intent.replaces)
        .bind(columns::millis(intent.at))
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_orders(&self) -> Inner<Vec<PendingOrder>> {
        let rows = sqlx::query("SELECT * FROM pending_order ORDER BY certificate")
            .fetch_all(&self.readers)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(PendingOrder {
                    intent: self.intent_of(row)?,
                    url: row.try_get("url")?,
                })
            })
            .collect()
    }

    pub(super) async fn write_order_url(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        url: &str,
    ) -> Inner<()> {
        let mut transaction = self.begin().await?;
        let stored = pending(&mut transaction, certificate, generation)
            .await?
            .url;
        if stored.as_deref().is_some_and(|stored| stored != url) {
            return Err(Failure::conflict(format!(
                "{certificate}: generation {generation} is ordered already, at another URL"
            )));
        }
        sqlx::query("UPDATE pending_order SET url = ? WHERE certificate = ?")
            .bind(url)
            .bind(certificate.as_str())
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn write_order_failure(
        &self,
        certificate: &CertificateName,
        generation: Generation,
        failure: &OrderFailure,
    ) -> Inner<()> {
        let mut transaction = self.begin().await?;
        pending(&mut transaction, certificate, generation).await?;
        sqlx::query("UPDATE pending_order SET url = NULL WHERE certificate = ?")
            .bind(certificate.as_str())
            .execute(&mut *transaction)
            .await?;
        failures::add(&mut transaction, certificate, failure).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn delete_order(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Inner<()> {
        let mut transaction = self.begin().await?;
        pending(&mut transaction, certificate, generation).await?;
        remove(&mut transaction, certificate).await?;
        Ok(transaction.commit().await?)
    }

    fn intent_of(&self, row: &SqliteRow) -> Inner<Intent> {
        let (certificate, generation) = (
            row.parsed("certificate")?,
            Generation(row.unsigned("generation")?),
        );
        Ok(Intent {
            private_key: self.unseal(
                key_label(&certificate, generation),
                row.try_get("private_key")?,
            )?,
            identifiers: row.identifiers("identifiers")?,
            authority: row.try_get("authority")?,
            directory: row.try_get("directory")?,
            csr: row.try_get("csr")?,
            replaces: row.try_get("replaces")?,
            at: row.time("at")?,
            certificate,
            generation,
        })
    }
}

/// What other steps need of an unfinished order.
pub(super) struct Pending {
    pub(super) sealed_key: Vec<u8>,
    url: Option<String>,
}

/// The unfinished order of exactly this generation, or a conflict.
pub(super) async fn pending(
    transaction: &mut Transaction<'_, Sqlite>,
    certificate: &CertificateName,
    generation: Generation,
) -> Inner<Pending> {
    let row = sqlx::query(
        "SELECT private_key, url FROM pending_order WHERE certificate = ? AND generation = ?",
    )
    .bind(certificate.as_str())
    .bind(columns::generation(generation)?)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(row) = row else {
        return Err(Failure::conflict(format!(
            "{certificate}: no order for generation {generation} is under way"
        )));
    };
    Ok(Pending {
        sealed_key: row.try_get("private_key")?,
        url: row.try_get("url")?,
    })
}

/// Removes an order.
pub(super) async fn remove(
    transaction: &mut Transaction<'_, Sqlite>,
    certificate: &CertificateName,
) -> Inner<()> {
    sqlx::query("DELETE FROM pending_order WHERE certificate = ?")
        .bind(certificate.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
