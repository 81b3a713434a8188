//! What is seen from outside, in words.

use std::collections::BTreeMap;

use certwell_proto::{CertificateName, HostName, v1};
use jiff::Timestamp;

use super::fact::Outside;
use crate::plan::words;

/// So many places are told one by one.
const PLACES: usize = 6;

/// The life left of a leaf that was seen, "62 days (69%)"; `None` without a handshake.
pub fn left(sighting: &v1::Sighting, now: Timestamp) -> Option<String> {
    if sighting.state() != v1::SightingState::Leaf {
        return None;
    }
    let left = sighting.not_after - now.as_second();
    if left <= 0 {
        return Some("EXPIRED".to_owned());
    }
    let life = (sighting.not_after - sighting.not_before).max(1);
    Some(format!(
        "{} ({}%)",
        words::span(left),
        left.min(life) * 100 / life
    ))
}

/// How one host is seen, one sentence; `None` when nobody has looked.
pub fn sentence(
    outside: &Outside<'_>,
    certificate: &CertificateName,
    host: &HostName,
    now: Timestamp,
) -> Option<String> {
    let seen = outside.seen(certificate, host)?;
    let what = match seen.generation {
        Some(generation) => format!("generation {generation} is seen on {host}"),
        None => format!("no generation is seen everywhere on {host}"),
    };
    // Under each of many names the same is seen: it is told once for each address and kind of key.
    let mut places: BTreeMap<(String, &str), String> = BTreeMap::new();
    for sighting in outside.sightings(certificate, host) {
        let key = match sighting.key() {
            v1::KeyAlgorithm::Rsa => "RSA",
            v1::KeyAlgorithm::Ecdsa | v1::KeyAlgorithm::Unspecified => "ECDSA",
        };
        if let Some(left) = left(&sighting, now) {
            let left = match sighting.not_after > now.as_second() {
                true => format!("{left} left"),
                false => left,
            };
            let how = format!("{left}, {}", sighting.tls_version);
            places.entry((sighting.address, key)).or_insert(how);
        }
    }
    let more = places.len().saturating_sub(PLACES);
    let mut told: Vec<String> = places
        .into_iter()
        .take(PLACES)
        .map(|((address, key), how)| format!("{address} {key}: {how}"))
        .collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    let places = match told.is_empty() {
        true => String::new(),
        false => format!(" ({})", told.join("; ")),
    };
    let since = words::relative(words::from_millis(seen.at_ms), now);
    Some(format!("From outside, {what}, so since {since}{places}"))
}
