use std::sync::Arc;

use certwell_proto::{Generation, Lineage};
use jiff::Timestamp;

use super::*;
use crate::plan::facts::CertificateFacts;
use crate::{
    config::{Alerts, Config, Host, Issuer, KeyType, Page, Renewal},
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
        probe_url: None,
        probe_dns: true,
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
        page: Page::default(),
        alerts: Alerts::default(),
        renewal: Renewal {
            at_fraction: 0.66,
            preflight_wait: std::time::Duration::from_secs(30),
            retry_first: std::time::Duration::from_secs(60),
            retry_max: std::time::Duration::from_secs(3600),
        },
        probe: Default::default(),
        notifiers: Default::default(),
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
        inventories: BTreeMap::new(),
        recovery: None,
        sightings: crate::plan::seen::Sightings::none(Timestamp::UNIX_EPOCH),
        issuer: Default::default(),
        intruders: Default::default(),
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
