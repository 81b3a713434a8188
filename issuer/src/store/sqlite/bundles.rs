//! The issued generations.

use certwell_proto::{Bundle, CertificateName, Fingerprint, Generation, KeyPair};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::Inner,
    failures, orders,
};
use crate::store::{Issued, StoredLeaf};

impl SqliteStore {
    pub(super) async fn write_issued(&self, issued: &Issued) -> Inner<()> {
        let Issued {
            certificate,
            generation,
            ..
        } = issued;
        let mut transaction = self.begin().await?;
        let sealed_key = orders::pending(&mut transaction, certificate, *generation)
            .await?
            .sealed_key;
        sqlx::query(
            "INSERT INTO bundle (certificate, generation, identifiers, authority, private_key, fullchain, root,
                                 not_before, not_after, at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(certificate.as_str())
        .bind(columns::generation(*generation)?)
        .bind(columns::list(&issued.identifiers)?)
        .bind(&issued.authority)
        .bind(sealed_key)
        .bind(columns::pack(&issued.fullchain)?)
        .bind(&issued.root)
        .bind(columns::millis(issued.not_before))
        .bind(columns::millis(issued.not_after))
        .bind(columns::millis(issued.at))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO issued_generation (certificate, highest) VALUES (?, ?)
             ON CONFLICT (certificate) DO UPDATE SET highest = max(highest, excluded.highest)",
        )
        .bind(certificate.as_str())
        .bind(columns::generation(*generation)?)
        .execute(&mut *transaction)
        .await?;
        orders::remove(&mut transaction, certificate).await?;
        failures::clear(&mut transaction, certificate).await?;
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_newest_issued(&self) -> Inner<Vec<Issued>> {
        // The bare columns of a query with max() come from the row that holds the maximum.
        let rows = sqlx::query(
            "SELECT certificate, max(generation) AS generation, identifiers, authority, fullchain, root,
                    not_before, not_after, at
             FROM bundle GROUP BY certificate ORDER BY certificate",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(issued_of(row)?)).collect()
    }

    pub(super) async fn read_bundle(
        &self,
        certificate: &CertificateName,
        generation: Generation,
    ) -> Inner<Option<Bundle>> {
        let row = sqlx::query(
            "SELECT private_key, fullchain FROM bundle WHERE certificate = ? AND generation = ?",
        )
        .bind(certificate.as_str())
        .bind(columns::generation(generation)?)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let private_key = self.unseal(
            orders::key_label(certificate, generation),
            row.try_get("private_key")?,
        )?;
        let key_pairs = vec![KeyPair {
            fullchain: row.ders("fullchain")?,
            private_key,
        }];
        Ok(Some(Bundle {
            certificate: certificate.clone(),
            generation,
            key_pairs,
        }))
    }

    pub(super) async fn read_leaves(
        &self,
    ) -> Inner<Vec<(CertificateName, Generation, StoredLeaf)>> {
        let rows = sqlx::query(
            "SELECT certificate, generation, fullchain, not_before, not_after
             FROM bundle ORDER BY certificate, generation",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(leaf_of(row)?)).collect()
    }

    pub(super) async fn delete_bundles(&self, keep: u32) -> Inner<u64> {
        let done = sqlx::query(
            "DELETE FROM bundle WHERE (certificate, generation) IN (
                 SELECT certificate, generation FROM (
                     SELECT certificate, generation,
                            row_number() OVER (PARTITION BY certificate ORDER BY generation DESC) AS place
                     FROM bundle)
                 WHERE place > ?)",
        )
        .bind(i64::from(keep))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

fn leaf_of(row: &SqliteRow) -> Result<(CertificateName, Generation, StoredLeaf), sqlx::Error> {
    let fullchain = row.ders("fullchain")?;
    let leaf = StoredLeaf {
        fingerprint: Fingerprint::of(fullchain.first().map_or(&[][..], Vec::as_slice)),
        not_before: row.time("not_before")?,
        not_after: row.time("not_after")?,
    };
    Ok((
        row.parsed("certificate")?,
        Generation(row.unsigned("generation")?),
        leaf,
    ))
}

fn issued_of(row: &SqliteRow) -> Result<Issued, sqlx::Error> {
    Ok(Issued {
        certificate: row.parsed("certificate")?,
        generation: Generation(row.unsigned("generation")?),
        identifiers: row.identifiers("identifiers")?,
        authority: row.try_get("authority")?,
        fullchain: row.ders("fullchain")?,
        root: row.try_get("root")?,
        not_before: row.time("not_before")?,
        not_after: row.time("not_after")?,
        at: row.time("at")?,
    })
}
