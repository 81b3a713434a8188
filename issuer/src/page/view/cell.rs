//! How far one certificate is on one host.

use certwell_proto::v1;
use jiff::Timestamp;

use super::{
    mark::{EXPIRED, Mark, Tone, of_state},
    moment::Moment,
};

/// The seven facts, in their order.
pub const FACTS: [&str; 7] = [
    "desired",
    "fetched",
    "installed",
    "tested",
    "reloaded",
    "served",
    "seen",
];

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// `None`: several at once, or a stranger's.
    pub generation: Option<u64>,
    /// The issuer's receipt time.
    pub at: Moment,
}

/// One certificate on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The certificate.
    pub certificate: String,
    /// The host.
    pub host: String,
    /// How it stands.
    pub mark: Mark,
    /// How many of the seven facts the desired generation has reached: 0, nothing is issued, to 7, it is seen.
    pub reached: usize,
    /// The generation that is desired; 0: none is issued.
    pub generation: u64,
    /// When the furthest fact was reached.
    pub at: Option<Moment>,
    /// What is served instead of that generation; empty when that is served.
    pub serves: String,
    /// What is in the way; empty when nothing is.
    pub problem: String,
    /// The facts as they are, of whichever generation.
    pub facts: [Option<Fact>; 7],
}

impl Cell {
    /// From the status of a certificate on a host.
    pub fn new(certificate: &str, host: &v1::HostCertificateStatus, now: Timestamp) -> Self {
        let desired = host.desired.as_ref().map_or(0, |fact| fact.generation);
        let fact = |fact: &Option<v1::StatusFact>| {
            fact.as_ref().map(|fact| Fact {
                generation: Some(fact.generation),
                at: Moment::of_millis(fact.at_ms, now),
            })
        };
        let served = |served: &Option<v1::StatusServed>| {
            served.as_ref().map(|served| Fact {
                generation: served.generation,
                at: Moment::of_millis(served.at_ms, now),
            })
        };
        let facts = [
            fact(&host.desired),
            fact(&host.fetched),
            fact(&host.installed),
            fact(&host.tested),
            fact(&host.reloaded),
            served(&host.served),
            served(&host.seen),
        ];
        let furthest = facts.iter().enumerate().rev().find_map(|(at, fact)| {
            let fact = fact.as_ref()?;
            (desired > 0 && fact.generation == Some(desired)).then_some((at, fact))
        });
        let expired = host
            .served_not_after
            .is_some_and(|end| end <= now.as_second());
        let mut mark = of_state(host.state());
        if expired {
            mark = EXPIRED;
        } else if mark.tone == Tone::Good && !host.problem.is_empty() {
            // All is served well, and something else is in the way of what comes.
            (mark.tone, mark.symbol) = (Tone::Warn, "!");
        }
        Self {
            certificate: certificate.to_owned(),
            host: host.host.clone(),
            mark,
            reached: furthest.map_or(0, |(at, _)| at + 1),
            generation: desired,
            at: furthest.map(|(_, fact)| fact.at.clone()),
            serves: instead(host, desired),
            problem: host.problem.clone(),
            facts,
        }
    }

    /// The name of the furthest fact.
    pub fn fact(&self) -> &'static str {
        match self.reached {
            0 => "not issued",
            reached => FACTS[reached - 1],
        }
    }

    /// Whether somebody should look at it, or it is under way.
    pub fn is_well(&self) -> bool {
        self.mark.tone == Tone::Good
    }
}

fn instead(host: &v1::HostCertificateStatus, desired: u64) -> String {
    match &host.served {
        None => String::new(),
        Some(served) => match served.generation {
            Some(generation) if generation == desired => String::new(),
            Some(generation) => format!("serves {generation}"),
            None if served.listeners.is_empty() => "used by no listener".to_owned(),
            None => "serves something else".to_owned(),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use v1::HostState;

    use super::*;
    use crate::plan::words::from_seconds;

    pub(crate) const NOW: i64 = 1_800_000_000;

    pub(crate) fn now() -> Timestamp {
        from_seconds(NOW)
    }

    fn fact(generation: u64, ago: i64) -> Option<v1::StatusFact> {
        Some(v1::StatusFact {
            generation,
            at_ms: (NOW - ago) * 1000,
            agent_at_ms: 0,
        })
    }

    fn served(generation: Option<u64>, ago: i64) -> Option<v1::StatusServed> {
        Some(v1::StatusServed {
            generation,
            at_ms: (NOW - ago) * 1000,
            listeners: vec![v1::Listener::default()],
            ..v1::StatusServed::default()
        })
    }

    /// A host that has come as far as this fact with a generation, and serves this one.
    pub(crate) fn host(
        name: &str,
        state: HostState,
        reached: usize,
        serves: Option<u64>,
    ) -> v1::HostCertificateStatus {
        let at = |number: usize| {
            if reached >= number {
                fact(7, 1000 - number as i64)
            } else {
                None
            }
        };
        v1::HostCertificateStatus {
            host: name.into(),
            state: state.into(),
            desired: at(1),
            fetched: at(2),
            installed: at(3),
            tested: at(4),
            reloaded: at(5),
            served: served(serves, 3600),
            seen: if reached == 7 {
                served(Some(7), 60)
            } else {
                None
            },
            served_not_after: Some(NOW + 86_400),
            ..v1::HostCertificateStatus::default()
        }
    }

    #[test]
    fn the_furthest_fact_is_that_of_the_desired_generation() {
        for (reached, serves, fact, instead, near) in [
            (7, 7, "seen", "", "60 s ago"),
            (6, 7, "served", "", "60 min ago"),
            (5, 6, "reloaded", "serves 6", "16 min ago"),
            (2, 6, "fetched", "serves 6", "16 min ago"),
            (1, 6, "desired", "serves 6", "16 min ago"),
        ] {
            let cell = Cell::new(
                "media",
                &host("sally", HostState::Pending, reached, Some(serves)),
                now(),
            );
            assert_eq!(
                (cell.reached, cell.fact(), cell.serves.as_str()),
                (reached, fact, instead)
            );
            assert_eq!(cell.at.unwrap().near, near);
        }
    }

    #[test]
    fn nothing_issued_and_a_stranger_are_said_to_be_so() {
        let mut nothing = host("sally", HostState::Pending, 0, None);
        nothing.served = None;
        let cell = Cell::new("media", &nothing, now());
        assert_eq!((cell.reached, cell.fact()), (0, "not issued"));
        assert_eq!((cell.at, cell.serves.as_str()), (None, ""));
        let stranger = host("sally", HostState::Failed, 5, None);
        let cell = Cell::new("media", &stranger, now());
        assert_eq!(cell.serves, "serves something else");
    }

    #[test]
    fn what_is_served_and_over_is_never_well() {
        let mut over = host("sally", HostState::Converged, 6, Some(7));
        assert!(Cell::new("media", &over, now()).is_well());
        over.served_not_after = Some(NOW);
        let cell = Cell::new("media", &over, now());
        assert_eq!(cell.mark, EXPIRED);
        over.served_not_after = Some(NOW + 1);
        over.problem = "its map can't be written".into();
        let mark = Cell::new("media", &over, now()).mark;
        assert_eq!((mark.tone, mark.symbol), (Tone::Warn, "!"));
    }
}
