//! The desired state of this host, converted at the door: an error names the field, and the last good one stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use certwell_probe::Outlook;
use certwell_proto::{
    CertificateName, FieldError, Fingerprint, Generation, Identifier, Lineage, limits, v1,
};
use jiff::Timestamp;

use crate::nginx::{Ask, Challenge};

/// All that the issuer wants here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Of its store.
    pub lineage: Lineage,
    /// By name.
    pub certificates: BTreeMap<CertificateName, Wanted>,
    /// What nginx answers to HTTP-01.
    pub challenges: Vec<Challenge>,
    /// By id.
    pub preflights: BTreeMap<String, Ask>,
    /// `host:port` of the issuer.
    pub endpoints: Vec<String>,
    /// Over which a lost stream spreads its reconnect.
    pub reconnect_window: Duration,
    /// What this host looks at from outside; `None`: it is no probe.
    pub outlook: Option<Arc<Outlook>>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// 0: nothing is issued yet.
    pub generation: Generation,
    /// What the leaf must cover.
    pub identifiers: Vec<Identifier>,
    /// Of the leaves, in the bundle's order.
    pub fingerprints: Vec<Fingerprint>,
    /// DER of the roots that its chain must lead to.
    pub roots: Arc<Vec<Vec<u8>>>,
    /// When it ends; absent when nothing is issued.
    pub not_after: Option<Timestamp>,
}

impl TryFrom<v1::DesiredState> for Desired {
    type Error = FieldError;

    fn try_from(wire: v1::DesiredState) -> Result<Self, FieldError> {
        if wire.certificates.len() > limits::CERTIFICATES_PER_HOST {
            return Err(FieldError::new(
                "certificates",
                format!(
                    "{} of them; a host takes at most {}",
                    wire.certificates.len(),
                    limits::CERTIFICATES_PER_HOST
                ),
            ));
        }
        let lineage = wire
            .lineage
            .ok_or_else(|| FieldError::new("lineage", "is missing"))?
            .try_into()?;
        let authorities: BTreeMap<String, Arc<Vec<Vec<u8>>>> = wire
            .authorities
            .into_iter()
            .map(|authority| (authority.name, Arc::new(authority.roots)))
            .collect();
        let mut certificates = BTreeMap::new();
        for (index, certificate) in wire.certificates.into_iter().enumerate() {
            let within = |error: FieldError| error.within(format!("certificates[{index}]"));
            let name = CertificateName::from_wire("name", &certificate.name).map_err(within)?;
            let wanted = wanted(certificate, &authorities).map_err(within)?;
            if certificates.insert(name, wanted).is_some() {
                return Err(within(FieldError::new("name", "comes twice")));
            }
        }
        let challenges = wire
            .challenges
            .iter()
            .enumerate()
            .map(|(index, challenge)| {
                Challenge::from_wire(challenge)
                    .map_err(|e| e.within(format!("challenges[{index}]")))
            })
            .collect::<Result<_, _>>()?;
        let preflights = wire
            .preflights
            .iter()
            .enumerate()
            .map(|(index, request)| {
                let ask = Ask::from_wire(request)
                    .map_err(|e| e.within(format!("preflights[{index}]")))?;
                Ok((request.id.clone(), ask))
            })
            .collect::<Result<_, FieldError>>()?;
        let outlook = wire
            .outlook
            .map(|outlook| Outlook::from_wire(outlook).map_err(|e| e.within("outlook")))
            .transpose()?
            .map(Arc::new);
        Ok(Self {
            lineage,
            certificates,
            challenges,
            preflights,
            endpoints: wire.endpoints,
            reconnect_window: Duration::from_millis(wire.reconnect_window_ms.into()),
            outlook,
        })
    }
}

fn wanted(
    wire: v1::DesiredCertificate,
    authorities: &BTreeMap<String, Arc<Vec<Vec<u8>>>>,
) -> Result<Wanted, FieldError> {
    let issued = wire.generation > 0;
    let roots = match authorities.get(&wire.authority) {
        Some(roots) => roots.clone(),
        None if issued => {
            return Err(FieldError::new(
                "authority",
                format!("{:?} is not among the authorities", wire.authority),
            ));
        }
        None => Arc::default(),
    };
    if issued && wire.fingerprints.is_empty() {
        return Err(FieldError::new(
            "fingerprints",
            "is empty, though a generation is issued",
        ));
    }
    let not_after = issued
        .then(|| {
            Timestamp::from_second(wire.not_after).map_err(|e| FieldError::new("not_after", e))
        })
        .transpose()?;
    if wire.identifiers.is_empty() || wire.identifiers.len() > limits::IDENTIFIERS_PER_CERTIFICATE {
        return Err(FieldError::new(
            "identifiers",
            format!(
                "1 to {} are allowed, not {}",
                limits::IDENTIFIERS_PER_CERTIFICATE,
                wire.identifiers.len()
            ),
        ));
    }
    Ok(Wanted {
        generation: Generation(wire.generation),
        identifiers: wire
            .identifiers
            .iter()
            .enumerate()
            .map(|(index, text)| Identifier::from_wire(&format!("identifiers[{index}]"), text))
            .collect::<Result<_, _>>()?,
        fingerprints: wire
            .fingerprints
            .iter()
            .enumerate()
            .map(|(index, bytes)| Fingerprint::from_wire(&format!("fingerprints[{index}]"), bytes))
            .collect::<Result<_, _>>()?,
        roots,
        not_after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::DesiredState {
        v1::DesiredState {
            lineage: Some(v1::Lineage {
                id: vec![1; 16],
                started_ms: 5,
            }),
            certificates: vec![v1::DesiredCertificate {
                name: "a.example".into(),
                generation: 2,
                identifiers: vec!["a.example".into()],
                fingerprints: vec![vec![1; 32]],
                authority: "ca".into(),
                not_after: 100,
            }],
            authorities: vec![v1::Authority {
                name: "ca".into(),
                roots: vec![vec![1]],
            }],
            reconnect_window_ms: 1_500,
            ..Default::default()
        }
    }

    #[test]
    fn a_whole_state_is_taken() {
        let desired = Desired::try_from(wire()).unwrap();
        let name = "a.example".parse().unwrap();
        assert_eq!(desired.certificates[&name].generation, Generation(2));
        assert_eq!(*desired.certificates[&name].roots, vec![vec![1]]);
        assert_eq!(desired.reconnect_window, Duration::from_millis(1_500));
    }

    #[test]
    fn an_error_names_its_field() {
        type Change = fn(&mut v1::DesiredState);
        let table: &[(Change, &str)] = &[
            (|w| w.lineage = None, "lineage"),
            (
                |w| w.certificates[0].name = "../x".into(),
                "certificates[0].name",
            ),
            (
                |w| w.certificates[0].authority = "other".into(),
                "certificates[0].authority",
            ),
            (
                |w| w.certificates[0].fingerprints = vec![vec![1]],
                "certificates[0].fingerprints[0]",
            ),
            (
                |w| w.certificates[0].fingerprints.clear(),
                "certificates[0].fingerprints",
            ),
            (
                |w| w.certificates[0].identifiers.clear(),
                "certificates[0].identifiers",
            ),
            (
                |w| w.certificates[0].identifiers.push("?".into()),
                "certificates[0].identifiers[1]",
            ),
            (
                |w| w.certificates[0].not_after = i64::MAX,
                "certificates[0].not_after",
            ),
            (
                |w| w.certificates.push(w.certificates[0].clone()),
                "certificates[1].name",
            ),
        ];
        for (change, field) in table {
            let mut wire = wire();
            change(&mut wire);
            assert_eq!(Desired::try_from(wire).unwrap_err().field, *field);
        }
    }
}
