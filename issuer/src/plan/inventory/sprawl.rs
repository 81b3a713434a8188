//! All inventories together: each certificate once, wherever it lies, and the names that only leftovers cover.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{Fingerprint, HostName, Identifier};
use jiff::Timestamp;

use super::{HostInventory, Leaf, Managed, Row, Served};

/// One certificate, on however many hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate<'a> {
    /// The leaf; `None`: a file that can't be read, which is one of its own.
    pub leaf: Option<&'a Leaf>,
    /// Where it lies, by host.
    pub places: Vec<Place<'a>>,
}

/// One of the places of a certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place<'a> {
    /// On which host.
    pub host: &'a HostName,
    /// As that host told.
    pub row: &'a Row,
}

impl Place<'_> {
    /// Neither certwell nor certbot renews it by itself there.
    pub fn is_unmanaged(&self) -> bool {
        matches!(
            self.row.managed,
            Managed::Nobody | Managed::Certbot { renews: false, .. }
        )
    }

    /// No server block there uses it, nor is it presented to upstreams.
    pub fn is_dead(&self) -> bool {
        self.row.served == Served::Unused
    }
}

impl Certificate<'_> {
    /// On some host nobody renews it by itself.
    pub fn is_unmanaged(&self) -> bool {
        self.places.iter().any(Place::is_unmanaged)
    }

    /// No host uses it.
    pub fn is_dead(&self) -> bool {
        self.places.iter().all(Place::is_dead)
    }

    /// What is left of its life, from 0 (expired, or none knows) to 1.
    pub fn life_left(&self, now: Timestamp) -> Option<f64> {
        let leaf = self.leaf?;
        let whole = leaf.not_after.duration_since(leaf.not_before).as_secs_f64();
        let left = leaf.not_after.duration_since(now).as_secs_f64();
        Some(if whole > 0.0 {
            (left / whole).clamp(0.0, 1.0)
        } else {
            0.0
        })
    }
}

/// Each certificate once. The worst come first: those that are used before dead ones, and of either those with the least
/// of their life left, unreadable files before all others.
pub fn certificates<'a>(
    inventories: impl IntoIterator<Item = (&'a HostName, &'a HostInventory)>,
    now: Timestamp,
) -> Vec<Certificate<'a>> {
    let mut known: BTreeMap<Fingerprint, Certificate<'a>> = BTreeMap::new();
    let mut found = Vec::new();
    for (host, inventory) in inventories {
        for row in inventory.rows.iter() {
            let place = Place { host, row };
            match &row.leaf {
                Some(leaf) => known
                    .entry(leaf.fingerprint)
                    .or_insert_with(|| Certificate {
                        leaf: Some(leaf),
                        places: Vec::new(),
                    })
                    .places
                    .push(place),
                None => found.push(Certificate {
                    leaf: None,
                    places: vec![place],
                }),
            }
        }
    }
    found.extend(known.into_values());
    found.sort_by(|a, b| {
        let of = |one: &Certificate<'_>| {
            let left = one.life_left(now).unwrap_or(-1.0);
            (one.is_dead(), left, one.leaf.map(|leaf| leaf.not_after))
        };
        let ((dead_a, left_a, end_a), (dead_b, left_b, end_b)) = (of(a), of(b));
        dead_a
            .cmp(&dead_b)
            .then(left_a.total_cmp(&left_b))
            .then(end_a.cmp(&end_b))
    });
    found
}

/// Names that might be destroyed, and those that seemed so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// Covered by certificates that are unmanaged or dead somewhere, and by none that is managed and used.
    pub leftover: BTreeSet<Identifier>,
    /// Covered by such certificates too, but by one as well that is managed and used: to be kept.
    pub kept: BTreeSet<Identifier>,
}

/// Of the certificates that `of` takes; all of them say which names are to be kept.
pub fn domains(all: &[Certificate<'_>], of: impl Fn(&Place<'_>) -> bool) -> Domains {
    let alive: BTreeSet<&Identifier> = all
        .iter()
        .filter(|one| {
            let mut places = one.places.iter();
            places.any(|place| !place.is_unmanaged() && !place.is_dead())
        })
        .filter_map(|one| one.leaf)
        .flat_map(|leaf| &leaf.covers)
        .collect();
    let mut domains = Domains::default();
    for one in all {
        let mut places = one.places.iter();
        if !places.any(|place| of(place) && (place.is_unmanaged() || place.is_dead())) {
            continue;
        }
        for name in one.leaf.iter().flat_map(|leaf| &leaf.covers) {
            let is_alive = alive.contains(name)
                || wildcard_over(name).is_some_and(|wildcard| alive.contains(&wildcard));
            if is_alive {
                domains.kept.insert(name.clone());
            } else {
                domains.leftover.insert(name.clone());
            }
        }
    }
    domains
}

/// The wildcard name that covers this one.
fn wildcard_over(name: &Identifier) -> Option<Identifier> {
    match name {
        Identifier::Dns(name) => {
            let (_, parent) = name.split_once('.')?;
            Some(Identifier::Dns(format!("*.{parent}")))
        }
        Identifier::Ip(_) => None,
    }
}

#[cfg(test)]
mod tests;
