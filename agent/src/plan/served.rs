//! What the handshakes of one certificate add up to.

use certwell_proto::{Fingerprint, Generation, v1};

use super::confirm::Seen;

/// What one listener shows, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// `address:port`.
    pub address: String,
    /// As sent in SNI; empty without.
    pub name: String,
    /// It wants a PROXY header first.
    pub proxy_protocol: bool,
    /// What was seen.
    pub shown: Shown,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A leaf; its generation when it is one of ours.
    Leaf(Fingerprint, Option<Generation>),
    /// No handshake, with the reason.
    Down(String),
    /// It rejects by intent.
    Rejects,
    /// Its address is elsewhere.
    Elsewhere,
    /// It can't be probed, with the reason.
    Unprobed(String),
}

impl Sighting {
    /// As confirming counts it.
    pub fn seen(&self, desired: Generation) -> Seen {
        match &self.shown {
            // The placeholder never counts.
            Shown::Leaf(_, None | Some(Generation::NONE)) => Seen::Stranger,
            Shown::Leaf(_, Some(generation)) if *generation == desired => Seen::New,
            Shown::Leaf(_, Some(_)) => Seen::Old,
            Shown::Down(_) => Seen::Down,
            Shown::Rejects | Shown::Elsewhere | Shown::Unprobed(_) => Seen::Exempt,
        }
    }

    /// Whether a leaf is served here, whosoever's.
    pub fn healthy(&self) -> bool {
        matches!(self.shown, Shown::Leaf(..))
    }

    fn to_wire(&self, desired: Generation) -> v1::Listener {
        let (state, fingerprint, detail) = match &self.shown {
            Shown::Leaf(leaf, generation) => {
                let (state, detail) = match generation {
                    Some(Generation::NONE) => (
                        v1::ListenerState::Stranger,
                        "the placeholder of this agent".into(),
                    ),
                    Some(generation) if *generation == desired => {
                        (v1::ListenerState::Current, String::new())
                    }
                    Some(generation) => {
                        (v1::ListenerState::Old, format!("generation {generation}"))
                    }
                    None => (v1::ListenerState::Stranger, String::new()),
                };
                (state, leaf.0.to_vec(), detail)
            }
            Shown::Down(reason) => (v1::ListenerState::Down, Vec::new(), reason.clone()),
            Shown::Rejects => (v1::ListenerState::Rejects, Vec::new(), String::new()),
            Shown::Elsewhere => (v1::ListenerState::Elsewhere, Vec::new(), String::new()),
            Shown::Unprobed(reason) => (v1::ListenerState::Unprobed, Vec::new(), reason.clone()),
        };
        v1::Listener {
            address: self.address.clone(),
            name: self.name.clone(),
            state: state.into(),
            fingerprint,
            detail,
            proxy_protocol: self.proxy_protocol,
        }
    }
}

/// The lowest generation over the listeners; `None` when any serves a stranger or is down, or nothing was probed.
pub fn generation(sightings: &[Sighting]) -> Option<Generation> {
    let mut lowest = None;
    for sighting in sightings {
        match &sighting.shown {
            Shown::Leaf(_, Some(generation)) if !generation.is_none() => {
                lowest =
                    Some(lowest.map_or(*generation, |lowest: Generation| lowest.min(*generation)));
            }
            Shown::Leaf(..) | Shown::Down(_) => return None,
            Shown::Rejects | Shown::Elsewhere | Shown::Unprobed(_) => {}
        }
    }
    lowest
}

/// Whether a generation is known to be served by one look. Where no handshake shows it (no listener, or none that can be
/// probed) only new workers could: `reloaded` says that they were seen with it.
pub fn is_known(seen: impl Iterator<Item = Seen> + Clone, reloaded: bool) -> bool {
    seen.clone()
        .all(|seen| matches!(seen, Seen::New | Seen::Exempt))
        && (reloaded || seen.clone().any(|seen| seen == Seen::New))
}

/// The fact for the report.
pub fn to_wire(sightings: &[Sighting], desired: Generation, agent_at_ms: i64) -> v1::Served {
    let mut leaves = sightings
        .iter()
        .filter_map(|sighting| match &sighting.shown {
            Shown::Leaf(leaf, _) => Some(*leaf),
            _ => None,
        });
    let first = leaves.next();
    let common = first.filter(|first| leaves.all(|leaf| leaf == *first));
    v1::Served {
        generation: generation(sightings).map(|generation| generation.0),
        agent_at_ms,
        fingerprint: common.map(|leaf| leaf.0.to_vec()).unwrap_or_default(),
        listeners: sightings
            .iter()
            .map(|sighting| sighting.to_wire(desired))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(n: u8, generation: Option<u64>) -> Sighting {
        Sighting {
            address: "127.0.0.1:443".into(),
            name: "a.example".into(),
            proxy_protocol: false,
            shown: Shown::Leaf(Fingerprint([n; 32]), generation.map(Generation)),
        }
    }

    fn other(shown: Shown) -> Sighting {
        Sighting {
            shown,
            ..leaf(0, None)
        }
    }

    #[test]
    fn served_is_the_lowest_and_a_stranger_voids_it() {
        assert_eq!(
            generation(&[leaf(1, Some(3)), leaf(2, Some(2))]),
            Some(Generation(2))
        );
        assert_eq!(generation(&[leaf(1, Some(3)), leaf(9, None)]), None);
        assert_eq!(generation(&[leaf(1, Some(3)), leaf(0, Some(0))]), None);
        assert_eq!(
            generation(&[leaf(1, Some(3)), other(Shown::Down("refused".into()))]),
            None
        );
        assert_eq!(
            generation(&[
                leaf(1, Some(3)),
                other(Shown::Rejects),
                other(Shown::Elsewhere)
            ]),
            Some(Generation(3))
        );
        assert_eq!(generation(&[]), None);
    }

    #[test]
    fn where_no_handshake_shows_it_only_new_workers_count() {
        use Seen::{Down, Exempt, New, Old, Stranger};
        let table: [(&[Seen], bool, bool); 9] = [
            (&[New], false, true),
            (&[New, Exempt], false, true),
            (&[Exempt], false, false),
            (&[Exempt], true, true),
            (&[], false, false),
            (&[], true, true),
            (&[New, Old], true, false),
            (&[New, Stranger], true, false),
            (&[Down], true, false),
        ];
        for (seen, reloaded, wanted) in table {
            assert_eq!(is_known(seen.iter().copied(), reloaded), wanted, "{seen:?}");
        }
    }

    #[test]
    fn the_wire_tells_one_fingerprint_only_when_all_serve_it() {
        let same = to_wire(&[leaf(1, Some(3)), leaf(1, Some(3))], Generation(3), 5);
        assert_eq!(
            (same.generation, same.fingerprint, same.agent_at_ms),
            (Some(3), vec![1; 32], 5)
        );
        assert!(
            same.listeners
                .iter()
                .all(|l| l.state() == v1::ListenerState::Current)
        );
        let mixed = to_wire(&[leaf(1, Some(3)), leaf(2, Some(2))], Generation(3), 5);
        assert_eq!(mixed.fingerprint, Vec::<u8>::new());
        assert_eq!(mixed.listeners[1].state(), v1::ListenerState::Old);
        assert_eq!(mixed.listeners[1].detail, "generation 2");
    }

    #[test]
    fn only_a_leaf_is_healthy_whosoever_s_it_is() {
        assert!(leaf(1, Some(3)).healthy() && leaf(9, None).healthy());
        for shown in [
            Shown::Down("refused".into()),
            Shown::Rejects,
            Shown::Elsewhere,
            Shown::Unprobed("a regex name".into()),
        ] {
            assert!(!other(shown).healthy());
        }
    }

    #[test]
    fn the_placeholder_never_counts_as_served() {
        assert_eq!(leaf(0, Some(0)).seen(Generation(0)), Seen::Stranger);
    }
}
