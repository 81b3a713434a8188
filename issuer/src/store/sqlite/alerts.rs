//! Alerts, what notifiers accepted of them, silences.

use std::collections::BTreeSet;

use certwell_proto::{CertificateName, HostName};
use jiff::Timestamp;
use prost::Message as _;
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};

use super::{
    SqliteStore,
    columns::{self, Columns as _, damaged},
    failure::{Failure, Inner},
};
use crate::{
    plan::alert::{Class, Key, Severity},
    store::{
        Result,
        alerts::{
            AcknowledgementRecord, AlertRecord, AlertStore, DeliveryRecord, SilenceRecord, read,
            wire,
        },
    },
};

#[async_trait::async_trait]
impl AlertStore for SqliteStore {
    async fn put_alerts(&self, alerts: &[AlertRecord]) -> Result<Vec<u64>> {
        self.tell(self.write_alerts(alerts).await)
    }

    async fn alerts(&self, since: Timestamp) -> Result<Vec<AlertRecord>> {
        self.tell(self.read_alerts(since).await)
    }

    async fn put_delivery(&self, delivery: &DeliveryRecord) -> Result<()> {
        self.tell(self.write_delivery(delivery).await)
    }

    async fn deliveries(&self, since: Timestamp) -> Result<Vec<DeliveryRecord>> {
        self.tell(self.read_deliveries(since).await)
    }

    async fn add_silence(&self, silence: &SilenceRecord) -> Result<u64> {
        self.tell(self.insert_silence(silence).await)
    }

    async fn silences(&self) -> Result<Vec<SilenceRecord>> {
        self.tell(self.read_silences().await)
    }

    async fn end_silence(&self, id: u64) -> Result<bool> {
        self.tell(self.delete_silence(id).await)
    }

    async fn evaluated(&self, at: Timestamp) -> Result<()> {
        self.tell(self.write_evaluation(at).await)
    }

    async fn last_evaluation(&self) -> Result<Option<Timestamp>> {
        self.tell(self.read_evaluation().await)
    }

    async fn prune_alerts(&self, before: Timestamp) -> Result<u64> {
        self.tell(self.delete_alerts(before).await)
    }
}

impl SqliteStore {
    async fn write_alerts(&self, alerts: &[AlertRecord]) -> Inner<Vec<u64>> {
        let mut transaction = self.begin().await?;
        let mut ids = Vec::with_capacity(alerts.len());
        for alert in alerts {
            ids.push(write_alert(&mut transaction, alert).await?);
        }
        transaction.commit().await?;
        Ok(ids)
    }

    async fn read_alerts(&self, since: Timestamp) -> Inner<Vec<AlertRecord>> {
        let rows =
            sqlx::query("SELECT * FROM alert WHERE resolved IS NULL OR resolved >= ? ORDER BY id")
                .bind(columns::millis(since))
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|row| Ok(alert_of(row)?)).collect()
    }

    async fn write_delivery(&self, delivery: &DeliveryRecord) -> Inner<()> {
        sqlx::query(
            "INSERT INTO alert_delivery (alert, notifier, accepted, accepted_at, severity, members, round, over)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (alert, notifier) DO UPDATE SET
                 accepted = excluded.accepted, accepted_at = excluded.accepted_at, severity = excluded.severity,
                 members = excluded.members, round = excluded.round, over = excluded.over",
        )
        .bind(columns::number(delivery.alert)?)
        .bind(&delivery.notifier)
        .bind(delivery.accepted)
        .bind(columns::millis(delivery.accepted_at))
        .bind(delivery.severity.word())
        .bind(members(&delivery.members)?)
        .bind(delivery.round)
        .bind(delivery.over)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn read_deliveries(&self, since: Timestamp) -> Inner<Vec<DeliveryRecord>> {
        let rows = sqlx::query(
            "SELECT alert_delivery.* FROM alert_delivery JOIN alert ON alert.id = alert_delivery.alert
             WHERE resolved IS NULL OR resolved >= ? ORDER BY alert, notifier",
        )
        .bind(columns::millis(since))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(delivery_of(row)?)).collect()
    }

    async fn insert_silence(&self, silence: &SilenceRecord) -> Inner<u64> {
        let done = sqlx::query(
            "INSERT INTO silence (host, certificate, class, since, until, silenced_by, note)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(silence.host.as_ref().map(HostName::as_str))
        .bind(silence.certificate.as_ref().map(CertificateName::as_str))
        .bind(silence.class.map(Class::slug))
        .bind(columns::millis(silence.since))
        .bind(columns::millis(silence.until))
        .bind(&silence.by)
        .bind(&silence.note)
        .execute(&self.writer)
        .await?;
        Ok(done.last_insert_rowid().unsigned_abs())
    }

    async fn read_silences(&self) -> Inner<Vec<SilenceRecord>> {
        let rows = sqlx::query("SELECT * FROM silence ORDER BY id")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(silence_of(row)?)).collect()
    }

    async fn delete_silence(&self, id: u64) -> Inner<bool> {
        let done = sqlx::query("DELETE FROM silence WHERE id = ?")
            .bind(i64::try_from(id).unwrap_or(i64::MAX))
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn write_evaluation(&self, at: Timestamp) -> Inner<()> {
        sqlx::query(
            "INSERT INTO evaluation (one, at) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET at = excluded.at",
        )
        .bind(columns::millis(at))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    async fn read_evaluation(&self) -> Inner<Option<Timestamp>> {
        let row = sqlx::query("SELECT at FROM evaluation")
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.time("at")).transpose()?)
    }

    async fn delete_alerts(&self, before: Timestamp) -> Inner<u64> {
        let before = columns::millis(before);
        let mut transaction = self.begin().await?;
        sqlx::query(
            "DELETE FROM alert_delivery WHERE alert IN (SELECT id FROM alert WHERE resolved < ?)",
        )
        .bind(before)
        .execute(&mut *transaction)
        .await?;
        let alerts = sqlx::query("DELETE FROM alert WHERE resolved < ?")
            .bind(before)
            .execute(&mut *transaction)
            .await?;
        let silences = sqlx::query("DELETE FROM silence WHERE until < ?")
            .bind(before)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(alerts.rows_affected() + silences.rows_affected())
    }
}

async fn write_alert(
    transaction: &mut Transaction<'static, Sqlite>,
    alert: &AlertRecord,
) -> Inner<u64> {
    let acknowledged = alert.acknowledged.as_ref();
    let statement = if alert.id == 0 {
        "INSERT INTO alert (last, ends, opened, escalates, rounds, resolved, acknowledged_at, acknowledged_until,
             acknowledged_by, acknowledged_note, acknowledged_severity, acknowledged_members, class, subject)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    } else {
        "UPDATE alert SET last = ?, ends = ?, opened = ?, escalates = ?, rounds = ?, resolved = ?,
             acknowledged_at = ?, acknowledged_until = ?, acknowledged_by = ?, acknowledged_note = ?,
             acknowledged_severity = ?, acknowledged_members = ?, class = ?, subject = ? WHERE id = ?"
    };
    let mut query = sqlx::query(statement)
        .bind(wire(&alert.last).encode_to_vec())
        .bind(alert.last.ends.map(columns::millis))
        .bind(columns::millis(alert.opened))
        .bind(columns::millis(alert.escalates))
        .bind(alert.rounds)
        .bind(alert.resolved.map(columns::millis))
        .bind(acknowledged.map(|made| columns::millis(made.at)))
        .bind(acknowledged.map(|made| columns::millis(made.until)))
        .bind(acknowledged.map(|made| made.by.as_str()))
        .bind(acknowledged.map(|made| made.note.as_str()))
        .bind(acknowledged.map(|made| made.severity.word()))
        .bind(
            acknowledged
                .map(|made| members(&made.members))
                .transpose()?,
        )
        .bind(alert.last.key.class.slug())
        .bind(&alert.last.key.subject);
    if alert.id != 0 {
        query = query.bind(columns::number(alert.id)?);
    }
    let done = query
        .execute(&mut **transaction)
        .await
        .map_err(|error| match &error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => {
                Failure::conflict(format!(
                    "an alert {} {} is open already",
                    alert.last.key.class, alert.last.key.subject
                ))
            }
            _ => error.into(),
        })?;
    Ok(match alert.id {
        0 => done.last_insert_rowid().unsigned_abs(),
        known => known,
    })
}

fn members(members: &BTreeSet<String>) -> std::result::Result<String, sqlx::Error> {
    columns::texts(&members.iter().cloned().collect::<Vec<_>>())
}

fn severity(row: &SqliteRow, column: &str) -> std::result::Result<Severity, sqlx::Error> {
    match row.try_get(column)? {
        "warning" => Ok(Severity::Warning),
        "page" => Ok(Severity::Page),
        other => Err(damaged(column, format!("no severity: {other}"))),
    }
}

fn class(text: &str) -> std::result::Result<Class, sqlx::Error> {
    text.parse()
        .map_err(|()| damaged("class", format!("no class: {text}")))
}

fn alert_of(row: &SqliteRow) -> std::result::Result<AlertRecord, sqlx::Error> {
    let key = Key {
        class: class(row.try_get("class")?)?,
        subject: row.try_get("subject")?,
    };
    let last = read(key, row.time_or_none("ends")?, row.message("last")?)
        .ok_or_else(|| damaged("last", "no alert"))?;
    let acknowledged = match row.time_or_none("acknowledged_at")? {
        None => None,
        Some(at) => Some(AcknowledgementRecord {
            at,
            until: row.time("acknowledged_until")?,
            by: row.try_get("acknowledged_by")?,
            note: row.try_get("acknowledged_note")?,
            severity: severity(row, "acknowledged_severity")?,
            members: row.texts("acknowledged_members")?.into_iter().collect(),
        }),
    };
    Ok(AlertRecord {
        id: row.unsigned("id")?,
        last,
        opened: row.time("opened")?,
        escalates: row.time("escalates")?,
        rounds: row.try_get("rounds")?,
        resolved: row.time_or_none("resolved")?,
        acknowledged,
    })
}

fn delivery_of(row: &SqliteRow) -> std::result::Result<DeliveryRecord, sqlx::Error> {
    Ok(DeliveryRecord {
        alert: row.unsigned("alert")?,
        notifier: row.try_get("notifier")?,
        accepted: row.try_get("accepted")?,
        accepted_at: row.time("accepted_at")?,
        severity: severity(row, "severity")?,
        members: row.texts("members")?.into_iter().collect(),
        round: row.try_get("round")?,
        over: row.try_get("over")?,
    })
}

fn silence_of(row: &SqliteRow) -> std::result::Result<SilenceRecord, sqlx::Error> {
    let named: Option<&str> = row.try_get("class")?;
    Ok(SilenceRecord {
        id: row.unsigned("id")?,
        host: row.parsed_or_none("host")?,
        certificate: row.parsed_or_none("certificate")?,
        class: named.map(class).transpose()?,
        since: row.time("since")?,
        until: row.time("until")?,
        by: row.try_get("silenced_by")?,
        note: row.try_get("note")?,
    })
}
