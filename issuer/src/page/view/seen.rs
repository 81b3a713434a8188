//! What is seen from outside: each look, and what is wrong with it.

use certwell_proto::v1::{self, KeyAlgorithm, SightingState};
use jiff::Timestamp;

use super::{
    mark::{Mark, Tone},
    moment::Moment,
};

/// One look at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// "address:port"; empty: DNS gave none.
    pub address: String,
    /// What was sent in SNI.
    pub name: String,
    /// What came back.
    pub mark: Mark,
    /// Kind of key, TLS version.
    pub how: String,
    /// When the leaf ends.
    pub ends: Option<Moment>,
    /// Whether public DNS led there.
    pub by_dns: bool,
    /// When it was looked.
    pub at: Moment,
    /// What isn't right, or what came in the place of a handshake; empty: nothing.
    pub text: String,
}

/// In the order that they came in.
pub fn looks(sightings: &[v1::Sighting], now: Timestamp) -> Vec<Look> {
    sightings.iter().map(|one| look(one, now)).collect()
}

fn look(one: &v1::Sighting, now: Timestamp) -> Look {
    let url = one.url.as_ref().map(|url| url.problem.as_str());
    let text = [one.chain_problem.as_str(), one.detail.as_str()]
        .into_iter()
        .chain(url)
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    let key = match one.key() {
        KeyAlgorithm::Ecdsa => "ECDSA",
        KeyAlgorithm::Rsa => "RSA",
        KeyAlgorithm::Unspecified => "",
    };
    let is_leaf = one.state() == SightingState::Leaf;
    let over = is_leaf && one.not_after <= now.as_second();
    Look {
        address: one.address.clone(),
        name: one.name.clone(),
        mark: of_sighting(one.state(), over || !text.is_empty()),
        how: [key, &one.tls_version]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(", "),
        ends: is_leaf.then(|| Moment::of_seconds(one.not_after, now)),
        by_dns: one.by_dns,
        at: Moment::of_millis(one.at_ms, now),
        text,
    }
}

fn of_sighting(state: SightingState, troubled: bool) -> Mark {
    let (tone, symbol, word) = match state {
        SightingState::Leaf if troubled => (Tone::Bad, "✗", "wrong"),
        SightingState::Leaf => (Tone::Good, "✓", "seen"),
        SightingState::Down => (Tone::Bad, "✗", "down"),
        SightingState::Rejects => (Tone::Bad, "–", "rejects"),
        SightingState::NoSuchKey => (Tone::Plain, "–", "no such key"),
        SightingState::Unresolved => (Tone::Bad, "?", "no address"),
        SightingState::Unspecified => (Tone::Plain, "–", "unknown"),
    };
    Mark { tone, symbol, word }
}

#[cfg(test)]
mod tests {
    use super::{
        super::cell::tests::{NOW, now},
        *,
    };

    #[test]
    fn a_leaf_is_well_only_where_all_that_is_said_of_it_is() {
        let leaf = v1::Sighting {
            state: SightingState::Leaf.into(),
            key: KeyAlgorithm::Ecdsa.into(),
            tls_version: "TLSv1.3".into(),
            not_after: NOW + 86_400,
            at_ms: NOW * 1000,
            ..v1::Sighting::default()
        };
        let with = |change: fn(&mut v1::Sighting)| {
            let mut changed = leaf.clone();
            change(&mut changed);
            looks(&[changed], now()).remove(0)
        };
        let good = with(|_| ());
        assert_eq!(
            (good.mark.word, good.how.as_str()),
            ("seen", "ECDSA, TLSv1.3")
        );
        for (change, word) in [
            (
                (|s| s.chain_problem = "it leads to no root".into()) as fn(&mut v1::Sighting),
                "wrong",
            ),
            (|s| s.not_after = NOW, "wrong"),
            (
                |s| {
                    s.url = Some(v1::UrlAnswer {
                        problem: "404".into(),
                        ..v1::UrlAnswer::default()
                    });
                },
                "wrong",
            ),
            (|s| s.state = SightingState::Down.into(), "down"),
            (|s| s.state = SightingState::NoSuchKey.into(), "no such key"),
        ] {
            assert_eq!(with(change).mark.word, word);
        }
    }
}
