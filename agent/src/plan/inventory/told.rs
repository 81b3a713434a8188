//! The rows as the issuer is told of them, and when they are gathered again.

use std::time::Duration;

use certwell_proto::{limits, pace::pace, v1};
use jiff::Timestamp;
use prost::Message as _;

use super::{Managed, Row, Served};
use crate::nginx::CertificateSource;

/// Rows, entries of a list and bytes of a text that the issuer takes.
const ROWS: usize = 4_096;
const ENTRIES: usize = 1_000;
const TEXT: usize = 2_000;
/// What of a message the rows may fill.
const ROOM: usize = limits::MESSAGE - 128 * 1024;

/// All of it is gathered again after so long, though nothing seems to have changed.
const SETTING: Duration = Duration::from_secs(3_600);
/// It costs a handshake with each listener: never oftener than this.
const FLOOR: Duration = Duration::from_secs(15);

/// What is told of these rows, those that end first before the others. `is_known`: what nginx uses; where it isn't,
/// nothing is told to be unused.
pub fn told(rows: &[Row], is_known: bool, problem: &str, now: Timestamp) -> v1::Inventory {
    let mut inventory = v1::Inventory {
        at_ms: now.as_millisecond(),
        problem: cut(problem),
        ..v1::Inventory::default()
    };
    let mut room = ROOM;
    for row in rows.iter().take(ROWS) {
        let row = wire(row, is_known);
        let size = row.encoded_len() + 8;
        if size > room {
            break;
        }
        room -= size;
        inventory.rows.push(row);
    }
    let left_out = rows.len() - inventory.rows.len();
    inventory.left_out = u32::try_from(left_out).unwrap_or(u32::MAX);
    inventory
}

/// Of a server that isn't nginx: whether certwell's own are served is known by the handshakes that proved their installs.
pub fn own_served(inventory: &mut v1::Inventory, serves: impl Fn(&str) -> Option<bool>) {
    for row in &mut inventory.rows {
        if row.managed() == v1::ManagedBy::Certwell
            && let Some(serves) = serves(&row.managed_name)
        {
            row.set_served(if serves {
                v1::ServedState::Yes
            } else {
                v1::ServedState::No
            });
        }
    }
}

/// Whether something that nginx names isn't what it serves: a reload by another hand, of which nothing tells, may mend
/// that.
pub fn is_unsettled(inventory: &v1::Inventory) -> bool {
    let rows = &mut inventory.rows.iter();
    rows.any(|row| row.served() == v1::ServedState::No)
}

/// How long until it is gathered again when nothing seems to change. `unsettled`: how often in a row it was gathered and
/// something was; `remaining` is the least life left of what is served here.
pub fn wait(unsettled: u32, remaining: Option<Duration>, jitter: f64) -> Duration {
    let paced = pace(SETTING, remaining.filter(|life| !life.is_zero())).max(FLOOR);
    let soon = FLOOR.saturating_mul(
        1_u32
            .checked_shl(unsettled.saturating_sub(1))
            .unwrap_or(u32::MAX),
    );
    let wait = if unsettled > 0 {
        paced.min(soon)
    } else {
        paced
    };
    wait.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

fn wire(row: &Row, is_known: bool) -> v1::InventoryRow {
    let leaf = row.leaf.as_ref();
    let (managed, managed_name, renews) = match &row.managed {
        Managed::Certwell { name, .. } => (v1::ManagedBy::Certwell, name.clone(), true),
        Managed::Certbot { lineage, renews } => (v1::ManagedBy::Certbot, cut(lineage), *renews),
        Managed::Nobody => (v1::ManagedBy::Nobody, String::new(), false),
    };
    let served = match row.served() {
        Served::Yes => v1::ServedState::Yes,
        Served::No => v1::ServedState::No,
        Served::Upstream => v1::ServedState::Upstream,
        Served::Unused if is_known => v1::ServedState::Unused,
        Served::Unused | Served::Unprobed => v1::ServedState::Unprobed,
    };
    let uses = || row.used_by.iter();
    v1::InventoryRow {
        source: cut(&row.source),
        covers: leaf
            .into_iter()
            .flat_map(|leaf| leaf.identifiers.iter().take(ENTRIES))
            .map(ToString::to_string)
            .collect(),
        issuer: leaf.map(|leaf| cut(&leaf.issuer)).unwrap_or_default(),
        not_before: leaf.map_or(0, |leaf| leaf.not_before.as_second()),
        not_after: leaf.map_or(0, |leaf| leaf.not_after.as_second()),
        fingerprint: leaf.map_or_else(Vec::new, |leaf| leaf.fingerprint.0.to_vec()),
        managed: managed.into(),
        managed_name,
        renews,
        served: served.into(),
        listeners: few(uses().flat_map(|used| &used.listeners)),
        server_names: few(uses().flat_map(|used| &used.names)),
        used_at: few(uses()
            .map(|used| match &used.source {
                CertificateSource::File(path) if path.as_os_str() != row.source.as_str() => {
                    format!("{} ({})", used.at, path.display())
                }
                _ => used.at.to_string(),
            })
            .collect::<Vec<_>>()
            .iter()),
        problems: few(row.problems.iter()),
    }
}

/// Each once, in order.
fn few<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        let text = cut(text);
        if found.len() < ENTRIES && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT - 3)])
}

#[cfg(test)]
mod tests;
