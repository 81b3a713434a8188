//! Sightings from the wire, checked at the door, and back: wire messages are never used as state.

use std::{collections::BTreeMap, net::SocketAddr};

use certwell_proto::{CertificateName, FieldError, Fingerprint, HostName, Identifier, limits, v1};
use jiff::Timestamp;

use super::{
    findings::{Finding, Kind},
    sighting::{Key, SeenLeaf, Shown, Sighting, Spot, UrlAnswer},
};
use crate::plan::observe::shortened;

/// Sightings in one report.
pub const SIGHTINGS: usize = 100_000;
/// Bytes of one short text.
const SHORT: usize = 256;

/// What one look brought, before the issuer has added its own times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where.
    pub spot: Spot,
    /// What.
    pub shown: Shown,
    /// And what the URL answered.
    pub url: Option<UrlAnswer>,
    /// The probe's clock.
    pub looked_at: Timestamp,
}

/// Everything that a probe tells.
///
/// # Errors
/// Names the field that can't be.
pub fn told(sightings: Vec<v1::Sighting>) -> Result<Vec<Told>, FieldError> {
    if sightings.len() > SIGHTINGS {
        let problem = format!("{} of them, at most {SIGHTINGS} are taken", sightings.len());
        return Err(FieldError::new("sightings", problem));
    }
    let each = sightings.into_iter().enumerate().map(|(index, sighting)| {
        one(sighting).map_err(|error| error.within(format!("sightings[{index}]")))
    });
    each.collect()
}

fn one(sighting: v1::Sighting) -> Result<Told, FieldError> {
    let state = sighting.state();
    let key = match sighting.key() {
        v1::KeyAlgorithm::Rsa => Key::Rsa,
        v1::KeyAlgorithm::Ecdsa => Key::Ecdsa,
        v1::KeyAlgorithm::Unspecified => return Err(FieldError::new("key", "it is none")),
    };
    let host = match (sighting.by_dns, sighting.host.as_str()) {
        // Whose address it is isn't the probe's to say.
        (true, _) => None,
        (false, host) => Some(HostName::from_wire("host", host)?),
    };
    let address: Option<SocketAddr> = match sighting.address.as_str() {
        "" if state == v1::SightingState::Unresolved => None,
        text => Some(text.parse().map_err(|_| {
            FieldError::new(
                "address",
                format!("{:?} is no address", shortened(text.to_owned())),
            )
        })?),
    };
    let shown = match state {
        v1::SightingState::Leaf => Shown::Leaf(leaf(&sighting)?),
        v1::SightingState::Down if sighting.own_fault => Shown::NoRoute(shortened(sighting.detail)),
        v1::SightingState::Down => Shown::Down(shortened(sighting.detail)),
        v1::SightingState::Rejects => Shown::Rejects,
        v1::SightingState::NoSuchKey => Shown::NoSuchKey,
        v1::SightingState::Unresolved if sighting.own_fault => {
            Shown::NoAnswer(shortened(sighting.detail))
        }
        v1::SightingState::Unresolved => Shown::Unresolved(shortened(sighting.detail)),
        v1::SightingState::Unspecified => return Err(FieldError::new("state", "it is none")),
    };
    Ok(Told {
        spot: Spot {
            certificate: CertificateName::from_wire("certificate", &sighting.certificate)?,
            name: Identifier::from_wire("name", &sighting.name)?.to_string(),
            host,
            address,
            key,
        },
        shown,
        url: sighting.url.map(url).transpose()?,
        looked_at: time("at_ms", Timestamp::from_millisecond(sighting.at_ms))?,
    })
}

fn leaf(sighting: &v1::Sighting) -> Result<SeenLeaf, FieldError> {
    let covers = &sighting.covers;
    if covers.len() > limits::IDENTIFIERS_PER_CERTIFICATE {
        let most = limits::IDENTIFIERS_PER_CERTIFICATE;
        return Err(FieldError::new(
            "covers",
            format!("{} names, at most {most} are taken", covers.len()),
        ));
    }
    Ok(SeenLeaf {
        fingerprint: Fingerprint::from_wire("fingerprint", &sighting.fingerprint)?,
        not_before: time("not_before", Timestamp::from_second(sighting.not_before))?,
        not_after: time("not_after", Timestamp::from_second(sighting.not_after))?,
        covers: covers
            .iter()
            .map(|name| Identifier::from_wire("covers", name))
            .collect::<Result<_, _>>()?,
        tls_version: short("tls_version", &sighting.tls_version)?,
        chain_problem: Some(shortened(sighting.chain_problem.clone()))
            .filter(|problem| !problem.is_empty()),
    })
}

fn url(answer: v1::UrlAnswer) -> Result<UrlAnswer, FieldError> {
    Ok(UrlAnswer {
        url: shortened(answer.url),
        status: match answer.status {
            0 => None,
            status => Some(u16::try_from(status).map_err(|_| {
                FieldError::new("url.status", format!("{status} is no HTTP status"))
            })?),
        },
        content_type: shortened(answer.content_type),
        problem: Some(shortened(answer.problem)).filter(|problem| !problem.is_empty()),
    })
}

fn short(field: &str, text: &str) -> Result<String, FieldError> {
    if text.len() > SHORT {
        return Err(FieldError::new(
            field,
            format!("{} bytes, at most {SHORT} are taken", text.len()),
        ));
    }
    Ok(text.to_owned())
}

fn time(field: &str, at: Result<Timestamp, jiff::Error>) -> Result<Timestamp, FieldError> {
    at.map_err(|error| FieldError::new(field, error))
}

/// For `status`: `host` is whose address it is.
pub fn sighting(spot: &Spot, sighting: &Sighting, host: Option<&HostName>) -> v1::Sighting {
    let mut wire = v1::Sighting {
        certificate: spot.certificate.to_string(),
        name: spot.name.clone(),
        host: host.map(HostName::to_string).unwrap_or_default(),
        by_dns: spot.host.is_none(),
        address: spot
            .address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        key: match spot.key {
            Key::Ecdsa => v1::KeyAlgorithm::Ecdsa,
            Key::Rsa => v1::KeyAlgorithm::Rsa,
        }
        .into(),
        at_ms: sighting.at.as_millisecond(),
        url: sighting.url.as_ref().map(|url| v1::UrlAnswer {
            url: url.url.clone(),
            status: url.status.unwrap_or_default().into(),
            content_type: url.content_type.clone(),
            problem: url.problem.clone().unwrap_or_default(),
        }),
        ..v1::Sighting::default()
    };
    let state = match &sighting.shown {
        Shown::Leaf(leaf) => {
            wire.fingerprint = leaf.fingerprint.0.to_vec();
            wire.not_before = leaf.not_before.as_second();
            wire.not_after = leaf.not_after.as_second();
            wire.covers = leaf.covers.iter().map(ToString::to_string).collect();
            wire.tls_version.clone_from(&leaf.tls_version);
            wire.chain_problem = leaf.chain_problem.clone().unwrap_or_default();
            v1::SightingState::Leaf
        }
        Shown::Down(why) => {
            wire.detail.clone_from(why);
            v1::SightingState::Down
        }
        Shown::NoRoute(why) => {
            wire.detail.clone_from(why);
            wire.own_fault = true;
            v1::SightingState::Down
        }
        Shown::Rejects => v1::SightingState::Rejects,
        Shown::NoSuchKey => v1::SightingState::NoSuchKey,
        Shown::NoAnswer(why) => {
            wire.detail.clone_from(why);
            wire.own_fault = true;
            v1::SightingState::Unresolved
        }
        Shown::Unresolved(why) => {
            wire.detail.clone_from(why);
            v1::SightingState::Unresolved
        }
    };
    wire.state = state.into();
    wire
}

impl From<Finding> for v1::Finding {
    fn from(finding: Finding) -> Self {
        let kind = match finding.kind {
            Kind::Down => v1::FindingKind::Down,
            Kind::Stranger => v1::FindingKind::Stranger,
            Kind::Chain => v1::FindingKind::Chain,
            Kind::OtherVhost => v1::FindingKind::OtherVhost,
            Kind::Url => v1::FindingKind::Url,
            Kind::OtherGeneration => v1::FindingKind::OtherGeneration,
            Kind::LeadsElsewhere => v1::FindingKind::LeadsElsewhere,
            Kind::Unresolved => v1::FindingKind::Unresolved,
        };
        Self {
            kind: kind.into(),
            certificate: finding.certificate.to_string(),
            host: finding
                .host
                .map(|host| host.to_string())
                .unwrap_or_default(),
            address: finding
                .address
                .map(|address| address.to_string())
                .unwrap_or_default(),
            name: finding.name,
            text: finding.text,
            since_ms: finding.since.as_millisecond(),
            not_after: finding.not_after.map(Timestamp::as_second),
        }
    }
}

/// What was known of each look before: every place that it led to.
pub(super) fn by_look<T>(
    seen: BTreeMap<Spot, T>,
) -> BTreeMap<(CertificateName, String, Option<HostName>), BTreeMap<Spot, T>> {
    let mut looks: BTreeMap<_, BTreeMap<Spot, T>> = BTreeMap::new();
    for (spot, what) in seen {
        looks.entry(look_of(&spot)).or_default().insert(spot, what);
    }
    looks
}

/// Which look a place belongs to.
pub(super) fn look_of(spot: &Spot) -> (CertificateName, String, Option<HostName>) {
    (
        spot.certificate.clone(),
        spot.name.clone(),
        spot.host.clone(),
    )
}
