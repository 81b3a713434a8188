//! Certificates of this host that others see to, or nobody: worth a note, never in the way.

use certwell_proto::Identifier;
use jiff::{SignedDuration, Timestamp};

use super::Findings;
use crate::plan::inventory::{Lineage, Managed, Row};

/// When somebody should know of it.
const SOON: SignedDuration = SignedDuration::from_hours(21 * 24);

/// What is known.
#[derive(Debug, Default)]
pub struct Facts {
    /// Every certificate of the host.
    pub rows: Vec<Row>,
    /// certbot's lineages.
    pub lineages: Vec<Lineage>,
    /// certwell's certificates, with the names of each.
    pub own: Vec<(String, Vec<Identifier>)>,
}

pub(super) fn examine(facts: &Facts, now: Timestamp, found: &mut Findings) {
    for row in &facts.rows {
        let is_left = match &row.managed {
            Managed::Nobody => true,
            Managed::Certbot { renews, .. } => !renews,
            Managed::Certwell { .. } => false,
        };
        let Some(leaf) = row
            .leaf
            .as_ref()
            .filter(|_| is_left && !row.used_by.is_empty())
        else {
            continue;
        };
        if leaf.not_after.duration_since(now) >= SOON {
            continue;
        }
        let ends = if leaf.not_after < now {
            "ended"
        } else {
            "ends"
        };
        found.note(
            "expires-unmanaged",
            format!(
                "{} {ends} at {}, and nobody renews it",
                row.source, leaf.not_after
            ),
            "declare its names at the issuer for this host, or renew it as before",
        );
    }
    for lineage in facts
        .lineages
        .iter()
        .filter(|lineage| lineage.renews && lineage.adopted_by.is_none())
    {
        let covers = |(_, names): &&(String, Vec<Identifier>)| {
            let theirs = lineage.leaf.as_ref().map(|leaf| &leaf.identifiers);
            theirs.is_some_and(|theirs| names.iter().any(|name| theirs.contains(name)))
        };
        if let Some((certificate, _)) = facts.own.iter().find(covers) {
            found.note(
                "certbot-renews-too",
                format!(
                    "certbot renews its lineage {}, whose names certwell's {certificate} has too",
                    lineage.name
                ),
                format!(
                    "certwell-agent adopt --as {certificate} {} takes it over",
                    lineage.name
                ),
            );
        }
    }
}
