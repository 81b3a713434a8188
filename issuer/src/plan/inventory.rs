//! What there is of certificates on each host, managed or not, as its agent told it last.
//!
//! ```text
//! sprawl  all hosts together: each certificate once
//! report  that in words
//! wire    and back into what people's programs are told
//! ```
//! It is checked where it comes in: names are names, texts and lists have bounds. A file's path, an issuer's name or a
//! sentence is a host's word, and is shown as such.

pub mod report;
pub mod sprawl;
pub mod wire;

use std::sync::Arc;

use certwell_proto::{CertificateName, FieldError, Fingerprint, Identifier, v1};
use jiff::Timestamp;

use super::observe::{at_most, shortened};

/// Rows of one host.
pub const ROWS: usize = 4_096;
/// Names of one leaf, and entries of any other list in a row.
pub const ENTRIES: usize = 1_000;

/// All of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInventory {
    /// When the issuer first received it as it is.
    pub at: Timestamp,
    /// When the agent gathered it, by its own clock; `None` where that says nothing.
    pub told_at: Option<Timestamp>,
    /// Those that end first at the top; what has no known end comes last. Shared: facts are copied often.
    pub rows: Arc<Vec<Row>>,
    /// How many more there are than rows.
    pub left_out: u32,
    /// Why nginx's part is missing, one sentence; `None` when it isn't.
    pub problem: Option<String>,
}

/// One certificate on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The file, or what stands for it.
    pub source: String,
    /// The leaf; `None` where it can't be read.
    pub leaf: Option<Leaf>,
    /// Who sees to it.
    pub managed: Managed,
    /// Whether nginx serves it where it names it.
    pub served: Served,
    /// "address:port" where it is used.
    pub listeners: Vec<String>,
    /// `server_name` of the blocks that use it.
    pub server_names: Vec<String>,
    /// "FILE:LINE" of the directives that name it.
    pub used_at: Vec<String>,
    /// Sentences.
    pub problems: Vec<String>,
}

/// What a leaf says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// DNS names and IP addresses.
    pub covers: Vec<Identifier>,
    /// Its issuer's name.
    pub issuer: String,
    /// From when.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// SHA-256 of its DER.
    pub fingerprint: Fingerprint,
}

/// Who sees to a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Managed {
    /// certwell, by this name.
    Certwell(CertificateName),
    /// certbot.
    Certbot {
        /// Its lineage.
        lineage: String,
        /// Whether it is renewed by itself.
        renews: bool,
    },
    /// Nobody that is known.
    Nobody,
}

/// Whether a certificate is what nginx serves where it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Every handshake brought it.
    Yes,
    /// At least one didn't.
    No,
    /// Nothing could be asked.
    Unprobed,
    /// nginx presents it to upstreams, and to nobody else.
    Upstream,
    /// No server block uses it: it is dead.
    Unused,
}

impl HostInventory {
    /// What a host told, received at `at`.
    ///
    /// # Errors
    /// Names the field that can't be meant.
    pub fn told(told: &v1::Inventory, at: Timestamp) -> Result<Self, FieldError> {
        at_most("rows", told.rows.len(), ROWS)?;
        let rows: Result<Vec<Row>, FieldError> = told
            .rows
            .iter()
            .enumerate()
            .map(|(index, row)| read(row).map_err(|e| e.within(format!("rows[{index}]"))))
            .collect();
        Ok(Self {
            at,
            told_at: Timestamp::from_millisecond(told.at_ms).ok(),
            rows: Arc::new(rows?),
            left_out: told.left_out,
            problem: Some(shortened(told.problem.clone())).filter(|text| !text.is_empty()),
        })
    }

    /// Whether it says the same, whenever it was told.
    pub fn is_same(&self, other: &Self) -> bool {
        *self
            == Self {
                at: self.at,
                told_at: self.told_at,
                ..other.clone()
            }
    }
}

fn read(row: &v1::InventoryRow) -> Result<Row, FieldError> {
    let leaf = if row.fingerprint.is_empty() {
        None
    } else {
        Some(leaf(row)?)
    };
    let managed = match v1::ManagedBy::try_from(row.managed) {
        Ok(v1::ManagedBy::Certwell) => Managed::Certwell(CertificateName::from_wire(
            "managed_name",
            &row.managed_name,
        )?),
        Ok(v1::ManagedBy::Certbot) => Managed::Certbot {
            lineage: shortened(row.managed_name.clone()),
            renews: row.renews,
        },
        // A newer agent's word for somebody that this issuer doesn't know.
        Ok(v1::ManagedBy::Nobody | v1::ManagedBy::Unspecified) | Err(_) => Managed::Nobody,
    };
    let served = match v1::ServedState::try_from(row.served) {
        Ok(v1::ServedState::Yes) => Served::Yes,
        Ok(v1::ServedState::No) => Served::No,
        Ok(v1::ServedState::Upstream) => Served::Upstream,
        Ok(v1::ServedState::Unused) => Served::Unused,
        Ok(v1::ServedState::Unprobed | v1::ServedState::Unspecified) | Err(_) => Served::Unprobed,
    };
    Ok(Row {
        source: shortened(row.source.clone()),
        leaf,
        managed,
        served,
        listeners: texts("listeners", &row.listeners)?,
        server_names: texts("server_names", &row.server_names)?,
        used_at: texts("used_at", &row.used_at)?,
        problems: texts("problems", &row.problems)?,
    })
}

fn leaf(row: &v1::InventoryRow) -> Result<Leaf, FieldError> {
    at_most("covers", row.covers.len(), ENTRIES)?;
    let covers: Result<Vec<Identifier>, FieldError> = row
        .covers
        .iter()
        .enumerate()
        .map(|(index, name)| Identifier::from_wire(&format!("covers[{index}]"), name))
        .collect();
    let second = |field: &str, second: i64| {
        Timestamp::from_second(second).map_err(|e| FieldError::new(field, e))
    };
    Ok(Leaf {
        covers: covers?,
        issuer: shortened(row.issuer.clone()),
        not_before: second("not_before", row.not_before)?,
        not_after: second("not_after", row.not_after)?,
        fingerprint: Fingerprint::from_wire("fingerprint", &row.fingerprint)?,
    })
}

fn texts(field: &str, list: &[String]) -> Result<Vec<String>, FieldError> {
    at_most(field, list.len(), ENTRIES)?;
    Ok(list.iter().cloned().map(shortened).collect())
}

#[cfg(test)]
mod tests;
