//! What is seen from outside, in tables.

use certwell_proto::v1;
use comfy_table::Row;
use jiff::Timestamp;

use super::{
    client::CliError,
    json::{key_word, listener_word},
    screen::Screen,
};
use crate::plan::{seen::left, words};

/// The columns of [`rows`].
pub(super) const COLUMNS: [&str; 7] = ["HOST", "SEEN AT", "NAME", "KEY", "STATE", "TLS", "LEFT"];

/// One for each look at a host, and at what DNS led to besides.
pub(super) fn rows(certificate: &v1::CertificateStatus, now: Timestamp) -> Vec<Row> {
    let hosts = certificate.hosts.iter().flat_map(|host| {
        let seen = host
            .seen
            .as_ref()
            .map_or(&[][..], |seen| seen.listeners.as_slice());
        host.sightings.iter().map(move |sighting| (sighting, seen))
    });
    let elsewhere = certificate
        .elsewhere
        .iter()
        .map(|sighting| (sighting, &[][..]));
    let mut cells: Vec<[String; 7]> = Vec::new();
    for (sighting, seen) in hosts.chain(elsewhere) {
        if sighting.state() == v1::SightingState::NoSuchKey {
            continue;
        }
        let row = row(sighting, seen, now);
        // The same from several probes, and by DNS.
        if !cells.contains(&row) {
            cells.push(row);
        }
    }
    cells.into_iter().map(Row::from).collect()
}

fn row(sighting: &v1::Sighting, seen: &[v1::Listener], now: Timestamp) -> [String; 7] {
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let listener = seen.iter().find(|listener| {
        listener.address == sighting.address
            && listener.name == sighting.name
            && listener.fingerprint == sighting.fingerprint
    });
    let state = match (sighting.state(), listener) {
        (_, Some(listener)) => match listener.detail.as_str() {
            detail if listener.state() == v1::ListenerState::Old => detail.to_owned(),
            _ => listener_word(listener.state()).to_owned(),
        },
        (v1::SightingState::Leaf, None) => "elsewhere".to_owned(),
        (v1::SightingState::Unresolved, None) => "no address".to_owned(),
        (_, None) => "down".to_owned(),
    };
    [
        or_dash(&sighting.host),
        or_dash(&sighting.address),
        sighting.name.clone(),
        key_word(sighting.key()).to_owned(),
        state,
        or_dash(&sighting.tls_version),
        left(sighting, now).unwrap_or_else(|| "-".to_owned()),
    ]
}

/// What is wrong from outside, each with its beginning.
pub(super) fn findings(
    screen: &Screen,
    findings: &[v1::Finding],
    now: Timestamp,
) -> Result<(), CliError> {
    for finding in findings {
        let since = words::relative(words::from_millis(finding.since_ms), now);
        screen.sentence(
            &format!("From outside: {} (since {since})", finding.text),
            2,
        )?;
    }
    Ok(())
}
