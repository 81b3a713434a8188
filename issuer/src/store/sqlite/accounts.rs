//! Lineage, fleet CA, ACME accounts.

use certwell_proto::{Lineage, Secret};
use sqlx::{Row as _, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{self, Columns as _},
    failure::{Failure, Inner},
};
use crate::store::{Account, FleetCa, sealing::Label};

/// How the fleet CA's key is bound.
pub(super) fn ca_label(fleet: &str) -> Label<'_> {
    Label {
        kind: "fleet-ca-key",
        name: fleet,
        generation: 0,
    }
}

fn account_label(directory: &str) -> Label<'_> {
    Label {
        kind: "account-key",
        name: directory,
        generation: 0,
    }
}

pub(super) fn lineage_of(row: &SqliteRow) -> Inner<Lineage> {
    let id =
        Uuid::from_slice(row.try_get("lineage")?).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Ok(Lineage {
        id,
        started_ms: row.try_get("lineage_started")?,
    })
}

impl SqliteStore {
    pub(super) async fn read_lineage(&self) -> Inner<Lineage> {
        let row = sqlx::query("SELECT lineage, lineage_started FROM fleet")
            .fetch_one(&self.readers)
            .await?;
        lineage_of(&row)
    }

    pub(super) async fn read_fleet_ca(&self) -> Inner<FleetCa> {
        let row = sqlx::query("SELECT name, ca_certificate, ca_key FROM fleet")
            .fetch_one(&self.readers)
            .await?;
        let key = self.unseal(ca_label(row.try_get("name")?), row.try_get("ca_key")?)?;
        Ok(FleetCa {
            fleet: row.parsed("name")?,
            certificate: row.try_get("ca_certificate")?,
            key,
        })
    }

    pub(super) async fn read_account(&self, directory: &str) -> Inner<Option<Account>> {
        let row = sqlx::query(
            "SELECT directory, account_key, url, thumbprint, contact FROM account WHERE directory = ?",
        )
        .bind(directory)
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| self.account_of(&row)).transpose()
    }

    pub(super) async fn read_accounts(&self) -> Inner<Vec<Account>> {
        let rows = sqlx::query(
            "SELECT directory, account_key, url, thumbprint, contact FROM account ORDER BY directory",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| self.account_of(row)).collect()
    }

    pub(super) async fn write_account(&self, account: &Account) -> Inner<()> {
        let key = self.seal(account_label(&account.directory), &account.key)?;
        sqlx::query(
            "INSERT INTO account (directory, account_key, url, thumbprint, contact) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (directory) DO UPDATE SET
                 account_key = excluded.account_key, url = excluded.url, thumbprint = excluded.thumbprint,
                 contact = excluded.contact",
        )
        .bind(&account.directory)
        .bind(key)
        .bind(&account.url)
        .bind(&account.thumbprint)
        .bind(columns::texts(&account.contact)?)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    fn account_of(&self, row: &SqliteRow) -> Inner<Account> {
        let directory: String = row.try_get("directory")?;
        let key = self.unseal(account_label(&directory), row.try_get("account_key")?)?;
        Ok(Account {
            key,
            url: row.try_get("url")?,
            thumbprint: row.try_get("thumbprint")?,
            contact: row.texts("contact")?,
            directory,
        })
    }

    pub(super) fn seal(&self, label: Label<'_>, secret: &Secret) -> Inner<Vec<u8>> {
        self.key
            .seal(label, secret.expose())
            .map_err(|e| Failure::unseal(described(label), e))
    }

    pub(super) fn unseal(&self, label: Label<'_>, sealed: &[u8]) -> Inner<Secret> {
        self.key
            .open(label, sealed)
            .map_err(|e| Failure::unseal(described(label), e))
    }
}

fn described(label: Label<'_>) -> String {
    let Label {
        kind,
        name,
        generation,
    } = label;
    match generation {
        0 => format!("the {kind} of {name}"),
        _ => format!("the {kind} of {name}, generation {generation}"),
    }
}
