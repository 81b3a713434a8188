//! The tables of `recover`.

use std::collections::BTreeMap;

use certwell_proto::{FleetName, Lineage};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::{
    config::{self, Alerts, Authority, Config, KeyType, Page, Renewal},
    plan::facts::HostFacts,
    store::{HostRecord, Issued, Observation},
};

const MEDIA: &str = "media.example.org";
const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn name() -> CertificateName {
    MEDIA.parse().unwrap()
}

fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

/// A root and a chain under it, for these names, valid from second 0 on.
fn chain(names: &[&str], life: i64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let date = |second: i64| {
        let since = Duration::from_secs(at(second).as_second().unsigned_abs());
        std::time::SystemTime::UNIX_EPOCH + since
    };
    let root_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&root_key).unwrap().der().to_vec();
    let issuer = Issuer::new(params, root_key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    (params.not_before, params.not_after) = (date(0).into(), date(life).into());
    let leaf = params
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    (root, vec![leaf.der().to_vec()])
}

fn record(name: &str) -> HostRecord {
    HostRecord {
        name: host(name),
        bound_key: vec![],
        identity: vec![],
        identity_key: [0; 32],
        revoked: None,
        retired: false,
        info: v1::HostInfo::default(),
        last_seen: None,
    }
}

/// Generation 5, restored at second 10: sally and esme have it; fritz never enrolled, gone is retired.
fn facts(root: Vec<u8>, fullchain: Vec<Vec<u8>>, life: i64) -> FleetFacts {
    let hosts = ["esme", "fritz", "gone", "sally"];
    let declared = Certificate {
        identifiers: vec![MEDIA.parse().unwrap()],
        hosts: hosts.map(host).to_vec(),
        challenge_hosts: vec![],
        authorities: vec!["ca".into()],
        key_type: KeyType::EcdsaP256,
        probe_url: None,
        probe_dns: true,
    };
    let config = Config {
        issuer: config::Issuer {
            fleet: "f".parse().unwrap(),
            state_directory: "/s".into(),
            listen: vec![],
            endpoints: vec![],
            admin_socket: "/a".into(),
            admin_group: None,
            key_encryption_key: "/k".into(),
            backup_directory: "/b".into(),
            backups_kept: 1,
        },
        page: Page::default(),
        alerts: Alerts::default(),
        renewal: Renewal::default(),
        probe: Default::default(),
        notifiers: Default::default(),
        authorities: [(
            "ca".to_owned(),
            Authority {
                directory: "https://ca/".into(),
                contact: vec![],
                roots: Roots::System,
                http_01_port: 80,
            },
        )]
        .into(),
        hosts: hosts.map(|h| (host(h), config::Host::default())).into(),
        certificates: [(name(), declared)].into(),
    };
    let media = CertificateFacts {
        issued: Some(Issued {
            certificate: name(),
            generation: Generation(5),
            identifiers: vec![MEDIA.parse().unwrap()],
            authority: "ca".into(),
            fullchain,
            root,
            not_before: at(0),
            not_after: at(life),
            at: at(0),
        }),
        highest: Generation(5),
        ..Default::default()
    };
    let known = |record: Option<HostRecord>| HostFacts {
        record,
        ..Default::default()
    };
    FleetFacts {
        fleet: "f".parse::<FleetName>().unwrap(),
        lineage: Lineage {
            id: uuid::Uuid::from_u128(1),
            started_ms: 1,
        },
        config: Arc::new(config),
        config_problem: None,
        paused: false,
        certificates: [(name(), media)].into(),
        hosts: [
            (host("sally"), known(Some(record("sally")))),
            (host("esme"), known(Some(record("esme")))),
            (host("fritz"), known(None)),
            (
                host("gone"),
                known(Some(HostRecord {
                    retired: true,
                    ..record("gone")
                })),
            ),
        ]
        .into(),
        thumbprints: BTreeMap::new(),
        inventories: BTreeMap::new(),
        recovery: None,
        sightings: crate::plan::seen::Sightings::none(at(0)),
        issuer: Default::default(),
        intruders: Default::default(),
    }
}

fn recovery() -> RecoveryFacts {
    let mut recovery = begin(at(5), at(10), Arc::default());
    recovery.waiting.insert(name());
    recovery
}

/// Keeps that a host's word counted, as the registry does.
fn keep(facts: &mut FleetFacts, on: &str, told: Option<Generation>) {
    let seen = Observation {
        host: host(on),
        certificate: name(),
        facts: v1::HostCertificateStatus::default(),
        outcome: v1::Outcome::Converged,
        outcome_generation: Generation::NONE,
        told,
    };
    let media = facts.certificates.get_mut(&name()).unwrap();
    media.observations.insert(host(on), seen);
}

#[test]
fn every_assigned_host_that_can_tell_is_waited_for_and_no_other() {
    let mut facts = facts(vec![], vec![], 90 * DAY);
    let recovery = recovery();
    keep(&mut facts, "esme", None);
    for (told, waits, reported) in [
        (None, true, 0),
        (Some("fritz"), true, 0),
        (Some("gone"), true, 0),
        (Some("sally"), true, 1),
    ] {
        if let Some(told) = told {
            keep(&mut facts, told, Some(Generation(5)));
        }
        let waiting = waiting(&facts, &recovery, at(11));
        assert_eq!(waiting, vec![name(); usize::from(waits)], "{told:?}");
        assert_eq!(count(&facts), (2, reported), "{told:?}");
    }
    let sentence = sentence(&facts, &recovery, at(11)).unwrap();
    assert!(
        sentence.contains("1 of 2 hosts have reported") && sentence.contains(MEDIA),
        "{sentence}"
    );
    keep(&mut facts, "esme", Some(Generation::NONE));
    assert_eq!(waiting(&facts, &recovery, at(11)), []);
    assert_eq!(count(&facts), (2, 2));
}

#[test]
fn nobody_is_waited_for_longer_than_ten_minutes_or_a_tenth_of_a_life_or_into_the_last_sixth() {
    for (life, press, last) in [
        (90 * DAY, None, 10 + 600),
        (180, None, 10 + 18),
        (90 * DAY, Some(40), 40),
        (90 * DAY, Some(5), 0),
    ] {
        let mut facts = facts(vec![], vec![], life);
        keep(&mut facts, "sally", Some(Generation(5)));
        let mut recovery = recovery();
        recovery
            .press_at
            .extend(press.map(|second| (name(), at(second))));
        for (second, waits) in [(last - 1, last > 5), (last.max(5), false)] {
            let waiting = waiting(&facts, &recovery, at(second));
            if second >= 5 {
                assert_eq!(!waiting.is_empty(), waits, "{life} {press:?} {second}");
            }
        }
    }
    let (_, chain) = chain(&[MEDIA], 180);
    let report = v1::CertificateReport {
        active_fullchain: chain,
        ..Default::default()
    };
    assert_eq!(press_at(&report), Some(at(150)));
    assert_eq!(press_at(&v1::CertificateReport::default()), None);
}

#[test]
fn a_host_is_believed_by_a_chain_that_verifies_whenever_it_ended_and_up_to_a_thousand_ahead() {
    let (root, good) = chain(&[MEDIA, "more.example.org"], 180);
    let (other_root, stranger) = chain(&[MEDIA], 180);
    let (_, wrong_name) = chain(&["other.example.org"], 180);
    let facts = facts(root, good.clone(), 180);
    let mut recovery = recovery();
    let fact = |generation| {
        Some(v1::Fact {
            generation,
            agent_at_ms: 1,
        })
    };
    let claimed = |recovery: &RecoveryFacts, generation, fullchain: &[Vec<u8>], second| {
        let report = v1::CertificateReport {
            installed: fact(generation),
            active_fullchain: fullchain.to_vec(),
            ..Default::default()
        };
        claim(&facts, recovery, &name(), &report, at(second))
    };
    let ahead = |generation| Claim::Ahead(Generation(generation));
    let unproven = Claim::Unproven;
    for (generation, chain, second, expected) in [
        (4, &good, 20, Claim::Known),
        (5, &good, 20, Claim::Known),
        (6, &good, 20, ahead(6)),
        (6, &good, 5_000, ahead(6)),
        (6, &good, -5_000, ahead(6)),
        (6, &stranger, 20, unproven),
        (6, &wrong_name, 20, unproven),
        (6, &vec![], 20, unproven),
        (6, &vec![vec![1, 2, 3]], 20, unproven),
        (1_005, &good, 20, ahead(1_005)),
        (1_006, &good, 20, Claim::TooFar(Generation(1_006))),
    ] {
        assert_eq!(
            claimed(&recovery, generation, chain, second),
            expected,
            "{generation} at {second}"
        );
    }
    // What the system trusts counts where the configuration says so.
    recovery.system_roots = Arc::new(vec![other_root]);
    assert_eq!(claimed(&recovery, 6, &stranger, 20), ahead(6));

    // The highest that it ever had counts, whatever is active.
    let report = v1::CertificateReport {
        fetched: fact(8),
        installed: fact(6),
        outcome_generation: 7,
        active_fullchain: good,
        ..Default::default()
    };
    assert_eq!(claim(&facts, &recovery, &name(), &report, at(20)), ahead(8));
}

#[test]
fn a_hosts_first_word_counts_and_no_later_one_however_far_ahead_it_is() {
    let (root, good) = chain(&[MEDIA], 180);
    let mut facts = facts(root, good.clone(), 180);
    let say = |facts: &mut FleetFacts, on: &str, generation, fullchain: &[Vec<u8>]| {
        let report = v1::CertificateReport {
            outcome_generation: generation,
            active_fullchain: fullchain.to_vec(),
            ..Default::default()
        };
        let heard = hear(facts, &host(on), &name(), &report, at(20));
        if heard.told.is_some() {
            keep(facts, on, heard.told);
        }
        let news = match heard.news {
            Some(News::Forgotten(generation)) => ("forgotten", generation.0),
            Some(News::TooFar(generation)) => ("too far", generation.0),
            None => ("", 0),
        };
        let highest = facts.certificates[&name()].highest.0;
        (heard.told.map(|told| told.0), news, highest)
    };
    let nothing = ("", 0);
    let heard = say(&mut facts, "sally", 7, &good);
    assert_eq!(heard, (None, nothing, 5), "there was no restore");

    facts.recovery = Some(recovery());
    for (on, generation, fullchain, expected) in [
        // What isn't proven isn't its word yet.
        ("sally", 7, &vec![], (None, nothing, 5)),
        ("sally", 7, &good, (Some(7), ("forgotten", 7), 7)),
        ("sally", 8, &good, (None, nothing, 7)),
        ("sally", 9_000, &good, (None, ("too far", 9_000), 7)),
        ("sally", 9_000, &good, (None, nothing, 7)),
        // What it knows by then counts, though another host told it: that one may retire.
        ("esme", 6, &good, (Some(7), nothing, 7)),
        ("esme", 8, &good, (None, nothing, 7)),
        ("fritz", 9_000, &good, (Some(7), ("too far", 9_000), 7)),
        ("fritz", 8, &good, (None, nothing, 7)),
    ] {
        let heard = say(&mut facts, on, generation, fullchain);
        assert_eq!(heard, expected, "{on} {generation}");
    }
    // Whoever claims what can be is suspected no longer.
    let too_far = &facts.recovery.unwrap().too_far;
    let suspected: Vec<_> = too_far.keys().map(|(_, on)| on.as_str()).collect();
    assert_eq!(suspected, ["sally"]);
}

#[test]
fn what_waits_or_was_forgotten_has_a_reason_and_is_not_offered() {
    let (root, good) = chain(&[MEDIA], 180);
    let mut facts = facts(root, good, 180);
    let sally = host("sally");
    let offered = |facts: &FleetFacts| {
        crate::plan::offer::offered(facts, &name(), &sally).map(|issued| issued.generation)
    };
    let why = |facts: &FleetFacts| reason(facts, &name(), &facts.certificates[&name()]);
    assert_eq!((offered(&facts), why(&facts)), (Some(Generation(5)), None));
    facts.recovery = Some(recovery());
    assert_eq!(offered(&facts), None);
    assert!(why(&facts).unwrap().contains("have not all told"));
    facts.recovery.as_mut().unwrap().waiting.clear();
    assert_eq!((offered(&facts), why(&facts)), (Some(Generation(5)), None));
    facts.certificates.get_mut(&name()).unwrap().highest = Generation(7);
    assert_eq!(offered(&facts), None);
    let sentence = why(&facts).unwrap();
    assert!(
        sentence.contains("generation 7 was issued after the backup")
            && sentence.contains("as generation 8"),
        "{sentence}"
    );
}

#[test]
fn a_clock_that_is_set_back_lets_the_minutes_begin_anew_and_nobody_wait_for_a_day() {
    let facts = facts(vec![], vec![], 90 * DAY);
    let mut recovery = recovery();
    let back = at(10 - DAY);
    heed_clock(&mut recovery, back);
    assert_eq!(waiting(&facts, &recovery, back), [name()]);
    let over = back + LONGEST;
    assert_eq!(waiting(&facts, &recovery, over), [] as [CertificateName; 0]);
    heed_clock(&mut recovery, over);
    assert_eq!(recovery.since, back);
}
