//! What becomes of a generation that is active already and isn't known to be served: after a crash, or when nginx serves
//! another.

use certwell_proto::Generation;

use super::install::Host;

/// The way back from what is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// To a generation of ours, which was active before.
    To(Generation),
    /// To what another hand had there, and is kept aside.
    KeptAside,
}

/// The way back from generation `found` at `live/NAME`, where a crash may have kept it from being tested; `known` is the
/// one that the ledger has as active. `None` where its install came to an end, or only the placeholder was there before.
pub fn way_back(known: Option<Generation>, found: Generation) -> Option<Back> {
    match known {
        Some(known) if known == found || known.is_none() => None,
        Some(known) => Some(Back::To(known)),
        None => Some(Back::KeptAside),
    }
}

/// Whether it has to wait for the host before it is tested and loaded. What a crash left untested doesn't wait for a
/// broken one, where there is a way back: it may be just what nginx refuses.
pub fn waits(host: Host, has_way_back: bool) -> bool {
    match host {
        Host::Broken => !has_way_back,
        Host::Editing | Host::Absent | Host::Unknown => true,
        Host::Sound | Host::Stopped => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_leads_to_what_was_proven_before() {
        let (none, placeholder) = (None, Some(Generation::NONE));
        let table = [
            (Some(Generation(2)), None, "its install came to an end"),
            (
                Some(Generation(1)),
                Some(Back::To(Generation(1))),
                "a crash",
            ),
            (placeholder, None, "nothing to go back to"),
            (none, Some(Back::KeptAside), "a first install"),
        ];
        for (known, expected, why) in table {
            assert_eq!(way_back(known, Generation(2)), expected, "{why}");
        }
    }

    #[test]
    fn only_what_may_be_to_blame_is_tested_on_a_broken_host() {
        for (host, with_way_back, without) in [
            (Host::Sound, false, false),
            (Host::Stopped, false, false),
            (Host::Broken, false, true),
            (Host::Editing, true, true),
            (Host::Absent, true, true),
            (Host::Unknown, true, true),
        ] {
            assert_eq!(waits(host, true), with_way_back, "{host:?}");
            assert_eq!(waits(host, false), without, "{host:?}");
        }
    }
}
