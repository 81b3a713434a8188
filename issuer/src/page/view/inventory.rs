//! Every certificate of every host, each once; those that nobody renews are marked.

use std::collections::BTreeMap;

use certwell_proto::{HostName, v1};
use jiff::Timestamp;

use super::{
    mark::{Mark, Tone},
    moment::Moment,
};
use crate::plan::{
    inventory::{
        HostInventory,
        report::{headline, left, managed, place, served, shown},
        sprawl::{Certificate, certificates, domains},
    },
    words::{self, from_millis},
};

/// Places that are named of one certificate; of hundreds of hosts nobody reads them all here.
const PLACES: usize = 20;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// What matters.
    pub headline: String,
    /// How that is meant.
    pub tone: Tone,
    /// Of which hosts how much isn't known.
    pub gaps: Vec<String>,
    /// The worst first.
    pub rows: Vec<Row>,
    /// Names that only leftovers cover.
    pub leftover: Vec<String>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its names; of a file that can't be read, none.
    pub names: Vec<String>,
    /// Who issued it; empty where it can't be read.
    pub issuer: String,
    /// When it ends.
    pub ends: Option<Moment>,
    /// What is left of its life: "12%", "expired", "?".
    pub left: String,
    /// How that is meant.
    pub tone: Tone,
    /// Whether somebody serves it.
    pub served: &'static str,
    /// Who renews it.
    pub managed: String,
    /// Neither certwell nor certbot renews it somewhere.
    pub unmanaged: Option<Mark>,
    /// No host uses it.
    pub dead: bool,
    /// Where it lies, a sentence each, and what is wrong there; those first where anything is.
    pub places: Vec<(String, String, Vec<String>)>,
    /// In how many more places it lies.
    pub more_places: usize,
}

const UNMANAGED: Mark = Mark {
    tone: Tone::Warn,
    symbol: "!",
    word: "unmanaged",
};

impl Inventory {
    /// From what every host told. A host whose word can't be read is a gap.
    pub fn new(answer: &v1::InventoryResponse, now: Timestamp) -> Self {
        let mut inventories: BTreeMap<HostName, HostInventory> = BTreeMap::new();
        let mut gaps = Vec::new();
        for of in &answer.hosts {
            let told = of
                .inventory
                .as_ref()
                .map(|told| HostInventory::told(told, from_millis(of.at_ms)));
            match (of.host.parse::<HostName>(), told) {
                (Ok(host), Some(Ok(told))) => {
                    gaps.extend(gaps_of(&host, &told));
                    inventories.insert(host, told);
                }
                (_, None) => gaps.push(format!("{} has told no inventory yet.", of.host)),
                _ => gaps.push(format!("The inventory of {} can't be read.", of.host)),
            }
        }
        let all = certificates(&inventories, now);
        let (headline, good) = headline(&all, now);
        Self {
            headline,
            tone: if good && gaps.is_empty() {
                Tone::Good
            } else {
                Tone::Warn
            },
            gaps,
            rows: all.iter().map(|one| row(one, now)).collect(),
            leftover: domains(&all, |_| true)
                .leftover
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }
}

fn gaps_of(host: &HostName, told: &HostInventory) -> Vec<String> {
    let problem = told.problem.as_ref().map(|problem| {
        format!(
            "{host}: what its server uses isn't known: {}",
            shown(problem)
        )
    });
    let more = (told.left_out > 0).then(|| {
        format!(
            "{host}: {} more didn't fit into its report.",
            words::count(told.left_out as usize, "certificate")
        )
    });
    problem.into_iter().chain(more).collect()
}

fn row(one: &Certificate<'_>, now: Timestamp) -> Row {
    let tone = match one.leaf {
        Some(leaf) if leaf.not_after > now && !one.is_unmanaged() => Tone::Good,
        Some(leaf) if leaf.not_after > now => Tone::Warn,
        _ if one.is_dead() => Tone::Warn,
        _ => Tone::Bad,
    };
    let mut places: Vec<_> = one.places.iter().collect();
    places.sort_by_key(|at| at.row.problems.is_empty());
    let more_places = places.len().saturating_sub(PLACES);
    Row {
        names: one
            .leaf
            .iter()
            .flat_map(|leaf| leaf.covers.iter().map(ToString::to_string))
            .collect(),
        issuer: one.leaf.map(|leaf| shown(&leaf.issuer)).unwrap_or_default(),
        ends: one.leaf.map(|leaf| Moment::new(leaf.not_after, now)),
        left: left(one, now),
        tone,
        served: served(one),
        managed: managed(one),
        unmanaged: one.is_unmanaged().then_some(UNMANAGED),
        dead: one.is_dead(),
        places: places
            .into_iter()
            .take(PLACES)
            .map(|at| {
                let problems = at.row.problems.iter().map(|problem| shown(problem));
                (at.host.to_string(), place(at), problems.collect())
            })
            .collect(),
        more_places,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::cell::tests::{NOW, now},
        *,
    };

    fn told(name: &str, end: i64, managed: v1::ManagedBy) -> v1::InventoryRow {
        v1::InventoryRow {
            source: format!("/etc/ssl/{name}.pem"),
            covers: vec![name.into()],
            issuer: "R3".into(),
            not_before: NOW - 86_400,
            not_after: NOW + end,
            fingerprint: vec![name.len() as u8; 32],
            managed: managed.into(),
            managed_name: match managed {
                v1::ManagedBy::Certwell => name.into(),
                _ => String::new(),
            },
            renews: managed == v1::ManagedBy::Certwell,
            served: v1::ServedState::Yes.into(),
            ..v1::InventoryRow::default()
        }
    }

    fn of(host: &str, rows: Vec<v1::InventoryRow>) -> v1::HostInventory {
        v1::HostInventory {
            host: host.into(),
            at_ms: NOW * 1000,
            inventory: Some(v1::Inventory {
                at_ms: NOW * 1000,
                rows,
                ..v1::Inventory::default()
            }),
        }
    }

    #[test]
    fn what_nobody_renews_is_marked_and_each_certificate_is_there_once() {
        let media = told("media.example.org", 86_400, v1::ManagedBy::Certwell);
        let answer = v1::InventoryResponse {
            hosts: vec![
                of(
                    "esme",
                    vec![
                        media.clone(),
                        told("old.example.org", -60, v1::ManagedBy::Nobody),
                    ],
                ),
                of("sally", vec![media]),
                v1::HostInventory {
                    host: "fritz".into(),
                    ..v1::HostInventory::default()
                },
            ],
        };
        let inventory = Inventory::new(&answer, now());
        let shown: Vec<(&str, bool, Tone, usize)> = inventory
            .rows
            .iter()
            .map(|row| {
                let name = row.names[0].as_str();
                (name, row.unmanaged.is_some(), row.tone, row.places.len())
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("old.example.org", true, Tone::Bad, 1),
                ("media.example.org", false, Tone::Good, 2)
            ]
        );
        assert_eq!(inventory.gaps, ["fritz has told no inventory yet."]);
        assert_eq!(inventory.leftover, ["old.example.org"]);
        assert_eq!(inventory.tone, Tone::Warn);
    }
    #[test]
    fn of_many_places_those_are_named_where_something_is_wrong_and_the_others_counted() {
        let media = told("media.example.org", 86_400, v1::ManagedBy::Certwell);
        let mut wrong = media.clone();
        wrong.problems = vec!["others may read its key".into()];
        let hosts = (0..200).map(|number| {
            let row = if number == 150 { &wrong } else { &media };
            of(&format!("edge-{number:03}"), vec![row.clone()])
        });
        let answer = v1::InventoryResponse {
            hosts: hosts.collect(),
        };
        let inventory = Inventory::new(&answer, now());
        let row = &inventory.rows[0];
        let hosts: Vec<&str> = row.places.iter().map(|(host, ..)| host.as_str()).collect();
        assert_eq!(hosts[..3], ["edge-150", "edge-000", "edge-001"]);
        assert_eq!((hosts.len(), row.more_places), (PLACES, 200 - PLACES));
    }
}
