//! What each host is offered: pure.

use std::collections::{BTreeMap, BTreeSet};

use certwell_proto::{CertificateName, Fingerprint, HostName, Identifier, fingerprint::hex, v1};
use prost::Message as _;

use super::{facts::FleetFacts, recover};
use crate::{config::Certificate, store::Issued};

/// How long agents may take to come back after a lost stream, in milliseconds, for each host of the fleet.
const RECONNECT_MS_PER_HOST: u32 = 20;
/// Bounds of that window.
const RECONNECT_MS: std::ops::RangeInclusive<u32> = 500..=60_000;

/// A running preflight of a certificate: which question its challenge hosts are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightQuestion {
    /// Opaque.
    pub id: String,
    /// A made-up token.
    pub token: String,
    /// The thumbprint that must follow it.
    pub thumbprint: String,
    /// What the certificate will cover.
    pub names: Vec<String>,
    /// Where the CA validates.
    pub port: u16,
}

/// The whole desired state of one host.
pub fn desired_state(
    facts: &FleetFacts,
    host: &HostName,
    preflights: &BTreeMap<CertificateName, PreflightQuestion>,
) -> v1::DesiredState {
    let mut certificates = Vec::new();
    let mut authorities: BTreeMap<&str, BTreeSet<&[u8]>> = BTreeMap::new();
    for (name, declared) in &facts.config.certificates {
        if !declared.hosts.contains(host) {
            continue;
        }
        let offered = offered(facts, name, host);
        if let Some(issued) = offered {
            authorities
                .entry(&issued.authority)
                .or_default()
                .insert(&issued.root);
        }
        certificates.push(desired_certificate(name, declared, offered));
    }
    let mut state = v1::DesiredState {
        lineage: Some(facts.lineage.into()),
        revision: String::new(),
        certificates,
        authorities: authorities
            .into_iter()
            .map(|(name, roots)| v1::Authority {
                name: name.to_owned(),
                roots: roots.into_iter().map(<[u8]>::to_vec).collect(),
            })
            .collect(),
        challenges: challenges(facts, host),
        preflights: preflights
            .iter()
            .filter(|(name, _)| answers_challenges(facts, name, host))
            .map(|(name, question)| v1::PreflightRequest {
                id: question.id.clone(),
                certificate: name.to_string(),
                token: question.token.clone(),
                thumbprint: question.thumbprint.clone(),
                names: question.names.clone(),
                port: question.port.into(),
            })
            .collect(),
        endpoints: facts.config.issuer.endpoints.clone(),
        reconnect_window_ms: reconnect_window(facts.hosts.len()),
    };
    state.revision = hex(&certwell_proto::fingerprint::sha256(&state.encode_to_vec())[..8]);
    state
}

/// The generation that this host may draw: the newest one, unless a pause or a
/// recovery holds it back or the host has refused it.
/// `None` means: keep what you have; also for what isn't assigned to it.
pub fn offered<'a>(
    facts: &'a FleetFacts,
    name: &CertificateName,
    host: &HostName,
) -> Option<&'a Issued> {
    let assigned = facts.config.certificates.get(name)?.hosts.contains(host);
    let known = facts.certificates.get(name)?;
    let issued = known.issued.as_ref()?;
    let refused = known.observations.get(host).is_some_and(|seen| {
        seen.outcome == v1::Outcome::Rejected && seen.outcome_generation == issued.generation
    });
    let forgotten = recover::reason(facts, name, known).is_some();
    (assigned && !facts.paused && !known.paused && !refused && !forgotten).then_some(issued)
}

fn desired_certificate(
    name: &CertificateName,
    declared: &Certificate,
    offered: Option<&Issued>,
) -> v1::DesiredCertificate {
    let identifiers = offered.map_or(&declared.identifiers, |issued| &issued.identifiers);
    v1::DesiredCertificate {
        name: name.to_string(),
        generation: offered.map_or(0, |issued| issued.generation.0),
        identifiers: identifiers.iter().map(ToString::to_string).collect(),
        fingerprints: offered
            .and_then(|issued| issued.fullchain.first())
            .map(|leaf| Fingerprint::of(leaf).0.to_vec())
            .into_iter()
            .collect(),
        authority: offered
            .map(|issued| issued.authority.clone())
            .unwrap_or_default(),
        not_after: offered.map_or(0, |issued| issued.not_after.as_second()),
    }
}

/// For each account that orders a certificate whose challenges this host answers, the names. One account for each
/// certificate, the one that its orders go to at present: a request for a token doesn't tell for whom it is, so
/// nginx can answer a name for one account only.
fn challenges(facts: &FleetFacts, host: &HostName) -> Vec<v1::Challenge> {
    let mut names: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, declared) in &facts.config.certificates {
        if !declared.challenge_hosts.contains(host) {
            continue;
        }
        let present = facts
            .certificates
            .get(name)
            .and_then(|known| known.authority.as_ref());
        let present = present.filter(|authority| declared.authorities.contains(authority));
        let mut by_preference = present.into_iter().chain(&declared.authorities);
        let Some(thumbprint) = by_preference.find_map(|authority| facts.thumbprints.get(authority))
        else {
            continue;
        };
        names.entry(thumbprint).or_default().extend(
            declared
                .identifiers
                .iter()
                .filter(|id| !id.is_wildcard())
                .map(Identifier::to_string),
        );
    }
    names
        .into_iter()
        .map(|(thumbprint, names)| v1::Challenge {
            thumbprint: thumbprint.to_owned(),
            names: names.into_iter().collect(),
        })
        .collect()
}

fn answers_challenges(facts: &FleetFacts, name: &CertificateName, host: &HostName) -> bool {
    facts
        .config
        .certificates
        .get(name)
        .is_some_and(|declared| declared.challenge_hosts.contains(host))
}

fn reconnect_window(hosts: usize) -> u32 {
    u32::try_from(hosts)
        .unwrap_or(u32::MAX)
        .saturating_mul(RECONNECT_MS_PER_HOST)
        .clamp(*RECONNECT_MS.start(), *RECONNECT_MS.end())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use certwell_proto::{Generation, Lineage};
    use jiff::Timestamp;

    use super::*;
    use crate::plan::facts::CertificateFacts;
    use crate::{
        config::{Config, Host, Issuer, KeyType, Renewal},
        store::Observation,
    };

    const MEDIA: &str = "media.hachyderm.io";

    fn name(text: &str) -> CertificateName {
        text.parse().unwrap()
    }

    fn host(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn declared(hosts: &[&str], challenge_hosts: &[&str], identifiers: &[&str]) -> Certificate {
        Certificate {
            identifiers: identifiers.iter().map(|id| id.parse().unwrap()).collect(),
            hosts: hosts.iter().map(|h| host(h)).collect(),
            challenge_hosts: challenge_hosts.iter().map(|h| host(h)).collect(),
            authorities: vec!["one".into(), "two".into()],
            key_type: KeyType::EcdsaP256,
        }
    }

    fn issued(generation: u64) -> Issued {
        Issued {
            certificate: name(MEDIA),
            generation: Generation(generation),
            identifiers: vec![MEDIA.parse().unwrap()],
            authority: "one".into(),
            fullchain: vec![b"leaf".to_vec()],
            root: b"root".to_vec(),
            not_before: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::from_second(1_000).unwrap(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    /// sally needs media and answers for it; esme answers for both; fritz does nothing.
    fn facts() -> FleetFacts {
        let config = Config {
            issuer: Issuer {
                fleet: "hachyderm".parse().unwrap(),
                state_directory: "/s".into(),
                listen: vec![],
                endpoints: vec!["issuer:7443".into()],
                admin_socket: "/a".into(),
                admin_group: None,
                key_encryption_key: "/k".into(),
                backup_directory: "/nowhere".into(),
                backups_kept: 14,
            },
            renewal: Renewal {
                at_fraction: 0.66,
                preflight_wait: std::time::Duration::from_secs(30),
                retry_first: std::time::Duration::from_secs(60),
                retry_max: std::time::Duration::from_secs(3600),
            },
            authorities: BTreeMap::new(),
            hosts: ["sally", "esme", "fritz"]
                .map(|h| (host(h), Host::default()))
                .into(),
            certificates: [
                (
                    name(MEDIA),
                    declared(&["sally"], &["sally", "esme"], &[MEDIA]),
                ),
                (
                    name("other"),
                    declared(&["esme"], &["esme"], &["a.example.org", "*.example.org"]),
                ),
            ]
            .into(),
        };
        let media = CertificateFacts {
            issued: Some(issued(3)),
            ..Default::default()
        };
        FleetFacts {
            fleet: "hachyderm".parse().unwrap(),
            lineage: Lineage {
                id: uuid::Uuid::from_u128(1),
                started_ms: 1,
            },
            config: Arc::new(config),
            config_problem: None,
            paused: false,
            certificates: [
                (name(MEDIA), media),
                (name("other"), CertificateFacts::default()),
            ]
            .into(),
            hosts: BTreeMap::new(),
            thumbprints: [("one".into(), "T1".into()), ("two".into(), "T2".into())].into(),
            recovery: None,
        }
    }

    fn names_and_generations(state: &v1::DesiredState) -> Vec<(&str, u64)> {
        state
            .certificates
            .iter()
            .map(|c| (c.name.as_str(), c.generation))
            .collect()
    }

    #[test]
    fn each_host_is_told_of_its_own_certificates_and_their_roots_alone() {
        let facts = facts();
        let none = BTreeMap::new();
        let sally = desired_state(&facts, &host("sally"), &none);
        assert_eq!(names_and_generations(&sally), [(MEDIA, 3)]);
        assert_eq!(
            sally.certificates[0].fingerprints,
            [Fingerprint::of(b"leaf").0.to_vec()]
        );
        assert_eq!(sally.authorities.len(), 1);
        assert_eq!(sally.authorities[0].roots, [b"root".to_vec()]);
        let esme = desired_state(&facts, &host("esme"), &none);
        assert_eq!(names_and_generations(&esme), [("other", 0)]);
        assert!(esme.authorities.is_empty());
        let fritz = desired_state(&facts, &host("fritz"), &none);
        assert!(fritz.certificates.is_empty() && fritz.challenges.is_empty());
    }

    #[test]
    fn challenge_hosts_answer_for_the_account_in_use_and_never_for_wildcards() {
        let answers = |facts: &FleetFacts| -> Vec<(String, Vec<String>)> {
            desired_state(facts, &host("esme"), &BTreeMap::new())
                .challenges
                .into_iter()
                .map(|c| (c.thumbprint, c.names))
                .collect()
        };
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut facts = facts();
        assert_eq!(
            answers(&facts),
            [("T1".to_owned(), own(&["a.example.org", MEDIA]))]
        );
        facts.certificates.get_mut(&name(MEDIA)).unwrap().authority = Some("two".into());
        assert_eq!(
            answers(&facts),
            [
                ("T1".to_owned(), own(&["a.example.org"])),
                ("T2".to_owned(), own(&[MEDIA]))
            ]
        );
        // An authority that is no longer declared for it doesn't count.
        facts.certificates.get_mut(&name(MEDIA)).unwrap().authority = Some("three".into());
        assert_eq!(
            answers(&facts),
            [("T1".to_owned(), own(&["a.example.org", MEDIA]))]
        );
    }

    #[test]
    fn only_challenge_hosts_are_asked_in_a_preflight() {
        let question = PreflightQuestion {
            id: "q".into(),
            token: "t".into(),
            thumbprint: "T1".into(),
            names: vec![MEDIA.into()],
            port: 80,
        };
        let asked = [(name(MEDIA), question)].into();
        for (who, expected) in [("sally", 1), ("esme", 1), ("fritz", 0)] {
            assert_eq!(
                desired_state(&facts(), &host(who), &asked).preflights.len(),
                expected,
                "{who}"
            );
        }
    }

    #[test]
    fn a_generation_that_a_host_refused_is_withheld_from_it_and_the_next_is_not() {
        let mut facts = facts();
        let media = facts.certificates.get_mut(&name(MEDIA)).unwrap();
        media.observations.insert(
            host("sally"),
            Observation {
                host: host("sally"),
                certificate: name(MEDIA),
                facts: v1::HostCertificateStatus::default(),
                outcome: v1::Outcome::Rejected,
                outcome_generation: Generation(3),
                told: None,
            },
        );
        let offer = |facts: &FleetFacts| {
            desired_state(facts, &host("sally"), &BTreeMap::new()).certificates[0].generation
        };
        assert_eq!(offer(&facts), 0);
        facts.certificates.get_mut(&name(MEDIA)).unwrap().issued = Some(issued(4));
        assert_eq!(offer(&facts), 4);
    }

    #[test]
    fn a_pause_offers_nothing_and_its_end_the_newest() {
        let offer = |facts: &FleetFacts| {
            desired_state(facts, &host("sally"), &BTreeMap::new()).certificates[0].generation
        };
        let mut facts = facts();
        facts.paused = true;
        assert_eq!(offer(&facts), 0);
        facts.paused = false;
        assert_eq!(offer(&facts), 3);
        facts.certificates.get_mut(&name(MEDIA)).unwrap().paused = true;
        assert_eq!(offer(&facts), 0);
    }

    #[test]
    fn what_is_not_assigned_is_not_offered_whatever_is_known_of_it() {
        let mut facts = facts();
        facts.certificates.insert(
            name("gone"),
            CertificateFacts {
                issued: Some(issued(9)),
                ..Default::default()
            },
        );
        assert!(offered(&facts, &name("gone"), &host("sally")).is_none());
        assert!(offered(&facts, &name(MEDIA), &host("esme")).is_none());
        assert!(offered(&facts, &name(MEDIA), &host("sally")).is_some());
    }

    #[test]
    fn the_revision_changes_with_what_is_said_and_only_then() {
        let revision =
            |facts: &FleetFacts| desired_state(facts, &host("sally"), &BTreeMap::new()).revision;
        let mut facts = facts();
        let first = revision(&facts);
        assert_eq!(revision(&facts), first);
        facts.certificates.get_mut(&name("other")).unwrap().issued = Some(issued(1));
        assert_eq!(revision(&facts), first);
        facts.certificates.get_mut(&name(MEDIA)).unwrap().issued = Some(issued(4));
        assert_ne!(revision(&facts), first);
    }
}
