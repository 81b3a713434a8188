//! Whether a host is there: the part it plays, when it was last heard from, and why it is out of touch.

use std::time::Duration;

use certwell_proto::{HostName, Leaf, identity::issued_at, v1};
use jiff::Timestamp;

use super::{facts::HostFacts, words};
use crate::store::HostRecord;

/// How long a host may be out of touch, or behind, before it is said; shorter as what it serves ages.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The part that a host plays, by its record.
pub fn life(host: Option<&HostFacts>) -> v1::HostLife {
    match host.and_then(|h| h.record.as_ref()) {
        None => v1::HostLife::Declared,
        Some(record) if record.retired => v1::HostLife::Retired,
        Some(record) if is_revoked(record) => v1::HostLife::Revoked,
        Some(_) => v1::HostLife::Enrolled,
    }
}

/// When the host last spoke to us.
pub fn last_seen(host: Option<&HostFacts>) -> Option<Timestamp> {
    let host = host?;
    let stored = host.record.as_ref().and_then(|record| record.last_seen);
    let instants = [host.last_seen, stored].into_iter().flatten();
    instants.map(|at| host.ahead.counted(at)).max()
}

/// Why the host is out of touch, one sentence; `None` when it isn't.
pub fn silence(name: &HostName, host: Option<&HostFacts>, now: Timestamp) -> Option<String> {
    silence_after(name, host, PATIENCE, now)
}

/// The same with another patience.
pub fn silence_after(
    name: &HostName,
    host: Option<&HostFacts>,
    patience: Duration,
    now: Timestamp,
) -> Option<String> {
    match life(host) {
        v1::HostLife::Retired => {
            return Some(format!(
                "{name} is retired; take it out of the configuration"
            ));
        }
        v1::HostLife::Revoked => {
            return Some(format!(
                "the identity of {name} is revoked; it can come back with `certwell token create --host {name}`"
            ));
        }
        v1::HostLife::Enrolled => {}
        v1::HostLife::Declared | v1::HostLife::Unspecified => {
            return Some(format!(
                "{name} has never joined; make it a token with `certwell token create --host {name}`"
            ));
        }
    }
    if host.is_some_and(|h| h.connected) {
        return None;
    }
    let Some(seen) = last_seen(host) else {
        return Some(format!(
            "{name} joined, but never connected; is certwell-agent running there?"
        ));
    };
    let quiet = Duration::try_from(seen.duration_until(now)).unwrap_or(Duration::ZERO);
    (quiet > patience).then(|| {
        format!(
            "{name} was last heard from {}; is certwell-agent running there?",
            words::relative(seen, now)
        )
    })
}

/// Whether the identity on record was issued before the host's revocation: one made later is good again. By its
/// serial number, as every call is judged: its not-before is set back.
fn is_revoked(record: &HostRecord) -> bool {
    record.revoked.is_some_and(|revoked| {
        let identity = Leaf::read(&record.identity).ok();
        identity
            .and_then(|leaf| issued_at(&leaf.serial))
            .is_none_or(|issued| issued <= revoked)
    })
}
