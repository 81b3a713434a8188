//! Observations, inventories, events, pauses.

use certwell_proto::{CertificateName, Generation, HostName};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::Inner,
};
use crate::store::{EventFilter, EventRecord, InventoryRecord, Observation};

impl SqliteStore {
    pub(super) async fn write_observations(&self, observations: &[Observation]) -> Inner<()> {
        if observations.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        for observation in observations {
            sqlx::query(
                "INSERT INTO observation (host, certificate, facts, outcome, outcome_generation, told)
                 VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (host, certificate) DO UPDATE SET
                     facts = excluded.facts, outcome = excluded.outcome,
                     outcome_generation = excluded.outcome_generation, told = excluded.told",
            )
            .bind(observation.host.as_str())
            .bind(observation.certificate.as_str())
            .bind(observation.facts.encode_to_vec())
            .bind(i32::from(observation.outcome))
            .bind(columns::generation(observation.outcome_generation)?)
            .bind(observation.told.map(columns::generation).transpose()?)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(super) async fn read_observations(&self) -> Inner<Vec<Observation>> {
        let rows = sqlx::query("SELECT * FROM observation ORDER BY host, certificate")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(observation_of(row)?)).collect()
    }

    pub(super) async fn write_inventory(&self, inventory: &InventoryRecord) -> Inner<()> {
        sqlx::query(
            "INSERT INTO inventory (host, at, told) VALUES (?, ?, ?)
             ON CONFLICT (host) DO UPDATE SET at = excluded.at, told = excluded.told",
        )
        .bind(inventory.host.as_str())
        .bind(columns::millis(inventory.at))
        .bind(inventory.told.encode_to_vec())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(super) async fn read_inventories(&self) -> Inner<Vec<InventoryRecord>> {
        let rows = sqlx::query("SELECT * FROM inventory ORDER BY host")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(inventory_of(row)?)).collect()
    }

    /// Observations and the inventory.
    pub(super) async fn delete_observed(&self, host: &HostName) -> Inner<()> {
        let mut transaction = self.begin().await?;
        for statement in [
            "DELETE FROM observation WHERE host = ?",
            "DELETE FROM inventory WHERE host = ?",
        ] {
            sqlx::query(statement)
                .bind(host.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(super) async fn insert_events(&self, events: &[EventRecord]) -> Inner<Vec<u64>> {
        let mut transaction = self.begin().await?;
        let mut ids = Vec::with_capacity(events.len());
        for event in events {
            let done = sqlx::query(
                "INSERT INTO event (at, kind, certificate, host, generation, text) VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(columns::millis(event.at))
            .bind(i32::from(event.kind))
            .bind(event.certificate.as_ref().map(CertificateName::as_str))
            .bind(event.host.as_ref().map(HostName::as_str))
            .bind(columns::generation(event.generation)?)
            .bind(&event.text)
            .execute(&mut *transaction)
            .await?;
            ids.push(done.last_insert_rowid().unsigned_abs());
        }
        transaction.commit().await?;
        Ok(ids)
    }

    pub(super) async fn read_events(
        &self,
        after: u64,
        of: &EventFilter,
        most: u32,
    ) -> Inner<Vec<EventRecord>> {
        let mut query = events("SELECT * FROM event", after, of);
        query.push(" ORDER BY id LIMIT ").push_bind(most);
        let rows = query.build().fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(event_of(row)?)).collect()
    }

    pub(super) async fn find_event(&self, after: u64, of: &EventFilter, last: u32) -> Inner<u64> {
        let mut query = events("SELECT id FROM event", after, of);
        query.push(" ORDER BY id DESC LIMIT 1 OFFSET ");
        query.push_bind(last);
        let row = query.build().fetch_optional(&self.readers).await?;
        Ok(row.map_or(Ok(after), |row| row.unsigned("id"))?)
    }

    pub(super) async fn delete_events(&self, before: Timestamp) -> Inner<u64> {
        let done = sqlx::query("DELETE FROM event WHERE at < ?")
            .bind(columns::millis(before))
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn read_paused(&self) -> Inner<Vec<Option<CertificateName>>> {
        let rows =
            sqlx::query("SELECT nullif(certificate, '') AS certificate FROM paused ORDER BY 1")
                .fetch_all(&self.readers)
                .await?;
        rows.iter()
            .map(|row| Ok(row.parsed_or_none("certificate")?))
            .collect()
    }

    pub(super) async fn write_paused(
        &self,
        certificate: Option<&CertificateName>,
        paused: bool,
    ) -> Inner<()> {
        let statement = if paused {
            "INSERT INTO paused (certificate) VALUES (?) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM paused WHERE certificate = ?"
        };
        sqlx::query(statement)
            .bind(certificate.map_or("", CertificateName::as_str))
            .execute(&self.writer)
            .await?;
        Ok(())
    }
}

/// Which events. What isn't asked for isn't in the statement: an index isn't used for a condition that may be none.
fn events(select: &str, after: u64, of: &EventFilter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(select);
    query.push(" WHERE id > ");
    query.push_bind(i64::try_from(after).unwrap_or(i64::MAX));
    if let Some(certificate) = &of.certificate {
        query.push(" AND certificate = ");
        query.push_bind(certificate.to_string());
    }
    if let Some(host) = &of.host {
        query.push(" AND host = ");
        query.push_bind(host.to_string());
    }
    query
}

fn observation_of(row: &SqliteRow) -> Result<Observation, sqlx::Error> {
    Ok(Observation {
        host: row.parsed("host")?,
        certificate: row.parsed("certificate")?,
        facts: row.message("facts")?,
        outcome: row.variant("outcome")?,
        outcome_generation: Generation(row.unsigned("outcome_generation")?),
        told: row.unsigned_or_none("told")?.map(Generation),
    })
}

fn inventory_of(row: &SqliteRow) -> Result<InventoryRecord, sqlx::Error> {
    Ok(InventoryRecord {
        host: row.parsed("host")?,
        at: row.time("at")?,
        told: row.message("told")?,
    })
}

fn event_of(row: &SqliteRow) -> Result<EventRecord, sqlx::Error> {
    Ok(EventRecord {
        id: row.unsigned("id")?,
        at: row.time("at")?,
        kind: row.variant("kind")?,
        certificate: row.parsed_or_none("certificate")?,
        host: row.parsed_or_none("host")?,
        generation: Generation(row.unsigned("generation")?),
        text: row.try_get("text")?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    use super::*;

    #[tokio::test]
    async fn events_of_a_host_and_of_a_certificate_are_found_by_an_index_from_either_end() {
        let mut empty = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("./migrations")
            .run(&mut empty)
            .await
            .unwrap();
        let filter = |certificate: bool, host: bool| EventFilter {
            certificate: certificate.then(|| "a.example".parse().unwrap()),
            host: host.then(|| "sally".parse().unwrap()),
        };
        for (of, index) in [
            (filter(false, false), "INTEGER PRIMARY KEY"),
            (filter(true, false), "event_certificate"),
            (filter(false, true), "event_host"),
            (filter(true, true), "event_"),
        ] {
            for order in ["ORDER BY id", "ORDER BY id DESC LIMIT 1 OFFSET 50"] {
                let mut query = events("EXPLAIN QUERY PLAN SELECT * FROM event", 7, &of);
                query.push(" ").push(order);
                let steps = query.build().fetch_all(&mut empty).await.unwrap();
                let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
                assert_eq!(steps.len(), 1, "sorted afterwards: {steps:?}");
                let found = steps[0].starts_with("SEARCH event") && steps[0].contains(index);
                assert!(found, "{of:?} {order}: {steps:?}");
            }
        }
    }
}
