//! What hosts told, as the Admin service tells it.

use std::collections::BTreeSet;

use certwell_proto::{HostName, v1};
use jiff::Timestamp;

use super::{HostInventory, Managed, Row, Served};
use crate::plan::{facts::FleetFacts, presence};

/// Of these hosts, or of every one: those that are declared or told something, and aren't retired. A host that told
/// nothing is there without an inventory.
pub fn inventories(facts: &FleetFacts, hosts: &BTreeSet<HostName>) -> v1::InventoryResponse {
    let all = facts.config.hosts.keys().chain(facts.inventories.keys());
    let wanted: BTreeSet<&HostName> = all
        .filter(|host| hosts.is_empty() || hosts.contains(*host))
        .filter(|host| presence::life(facts.hosts.get(*host)) != v1::HostLife::Retired)
        .collect();
    let hosts = wanted.into_iter().map(|host| {
        let told = facts.inventories.get(host);
        v1::HostInventory {
            host: host.to_string(),
            at_ms: told.map_or(0, |told| told.at.as_millisecond()),
            inventory: told.map(inventory),
        }
    });
    v1::InventoryResponse {
        hosts: hosts.collect(),
    }
}

fn inventory(told: &HostInventory) -> v1::Inventory {
    v1::Inventory {
        at_ms: told.told_at.map_or(0, Timestamp::as_millisecond),
        rows: told.rows.iter().map(row).collect(),
        left_out: told.left_out,
        problem: told.problem.clone().unwrap_or_default(),
    }
}

fn row(row: &Row) -> v1::InventoryRow {
    let leaf = row.leaf.as_ref();
    let (managed, managed_name, renews) = match &row.managed {
        Managed::Certwell(name) => (v1::ManagedBy::Certwell, name.to_string(), true),
        Managed::Certbot { lineage, renews } => (v1::ManagedBy::Certbot, lineage.clone(), *renews),
        Managed::Nobody => (v1::ManagedBy::Nobody, String::new(), false),
    };
    let served = match row.served {
        Served::Yes => v1::ServedState::Yes,
        Served::No => v1::ServedState::No,
        Served::Unprobed => v1::ServedState::Unprobed,
        Served::Upstream => v1::ServedState::Upstream,
        Served::Unused => v1::ServedState::Unused,
    };
    v1::InventoryRow {
        source: row.source.clone(),
        covers: leaf
            .iter()
            .flat_map(|leaf| leaf.covers.iter().map(ToString::to_string))
            .collect(),
        issuer: leaf.map(|leaf| leaf.issuer.clone()).unwrap_or_default(),
        not_before: leaf.map_or(0, |leaf| leaf.not_before.as_second()),
        not_after: leaf.map_or(0, |leaf| leaf.not_after.as_second()),
        fingerprint: leaf.map_or_else(Vec::new, |leaf| leaf.fingerprint.0.to_vec()),
        managed: managed.into(),
        managed_name,
        renews,
        served: served.into(),
        listeners: row.listeners.clone(),
        server_names: row.server_names.clone(),
        used_at: row.used_at.clone(),
        problems: row.problems.clone(),
    }
}
