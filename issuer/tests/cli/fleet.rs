//! A fleet as in real life, to be changed by each test.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use certwell_issuer::{
    config::{Alerts, Authority, Certificate, Config, Host, Issuer, KeyType, Page, Renewal, Roots},
    plan::facts::{CertificateFacts, FleetFacts, HostFacts, OrderFacts, OrderStage},
    store::{HostRecord, Issued, Observation, StoredLeaf},
};
use certwell_proto::{CertificateName, Fingerprint, Generation, HostName, Lineage, v1};
use jiff::{SignedDuration, Timestamp};

pub(crate) const MEDIA: &str = "media.hachyderm.io";
pub(crate) const HOSTS: [&str; 4] = ["cdn-frankfurt-1", "cdn-fremont-1", "esme", "sally"];

/// The instant of the golden tests.
pub(crate) fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

pub(crate) fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

pub(crate) fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(crate) fn certificate(name: &str) -> CertificateName {
    name.parse().unwrap()
}

/// What stands for the DER of a leaf: only its fingerprint is looked at.
pub(crate) fn leaf(name: &str, generation: u64) -> Vec<u8> {
    format!("leaf {generation} of {name}").into_bytes()
}

pub(crate) fn fingerprint(name: &str, generation: u64) -> Vec<u8> {
    Fingerprint::of(&leaf(name, generation)).0.to_vec()
}

/// Four hosts serve generation 2 of media.hachyderm.io on two listeners each: issued 10 days before `now`, valid
/// for another 80.
pub(crate) fn fleet(now: Timestamp) -> FleetFacts {
    let mut facts = empty(now);
    declare(&mut facts, MEDIA, &HOSTS);
    issue(
        &mut facts,
        MEDIA,
        2,
        now - days(10),
        now + days(80) + minutes(5),
    );
    for name in HOSTS {
        observe(&mut facts, MEDIA, name, 2, now - days(10));
    }
    facts
}

/// The same fleet, without certificates.
pub(crate) fn empty(now: Timestamp) -> FleetFacts {
    let config = Config {
        issuer: Issuer {
            fleet: "hachyderm".parse().unwrap(),
            state_directory: PathBuf::from("/var/lib/certwell-issuer"),
            listen: vec![SocketAddr::from(([127, 0, 0, 10], 7443))],
            endpoints: vec!["127.0.0.10:7443".into()],
            admin_socket: PathBuf::from("/run/certwell/admin.sock"),
            admin_group: None,
            key_encryption_key: PathBuf::from("/etc/certwell/issuer.kek"),
            backup_directory: "/nowhere".into(),
            backups_kept: 14,
        },
        page: Page::default(),
        alerts: Alerts::default(),
        renewal: Renewal {
            at_fraction: 0.667,
            preflight_wait: Duration::from_secs(30),
            retry_first: Duration::from_secs(60),
            retry_max: Duration::from_secs(21_600),
        },
        probe: Default::default(),
        notifiers: Default::default(),
        authorities: BTreeMap::from([(
            "letsencrypt".to_owned(),
            Authority {
                directory: "https://acme-v02.api.letsencrypt.org/directory".into(),
                contact: vec![],
                roots: Roots::System,
                http_01_port: 80,
            },
        )]),
        hosts: HOSTS.map(|name| (host(name), Host::default())).into(),
        certificates: BTreeMap::new(),
    };
    let identity = identity(now - days(1));
    FleetFacts {
        fleet: "hachyderm".parse().unwrap(),
        lineage: Lineage {
            id: "0d6a7a0e-3c5e-4b1c-8a63-4f5d1c2b3a49".parse().unwrap(),
            started_ms: 1,
        },
        config: Arc::new(config),
        config_problem: None,
        paused: false,
        certificates: BTreeMap::new(),
        hosts: HOSTS
            .map(|name| {
                let record = HostRecord {
                    name: host(name),
                    bound_key: vec![1],
                    identity: identity.clone(),
                    identity_key: [0; 32],
                    revoked: None,
                    retired: false,
                    info: v1::HostInfo {
                        hostname: name.into(),
                        os: "Debian GNU/Linux 12".into(),
                        agent_version: "0.1.0".into(),
                        nginx_version: "1.22.1".into(),
                    },
                    last_seen: Some(now),
                };
                let facts = HostFacts {
                    ahead: Default::default(),
                    record: Some(record),
                    connected: true,
                    last_seen: Some(now),
                    problem: None,
                };
                (host(name), facts)
            })
            .into(),
        thumbprints: BTreeMap::new(),
        inventories: BTreeMap::new(),
        recovery: None,
        sightings: certwell_issuer::plan::seen::Sightings::none(Timestamp::UNIX_EPOCH),
        issuer: Default::default(),
        intruders: Default::default(),
    }
}

/// A client certificate of seven days, its serial number as the fleet CA gives it.
fn identity(from: Timestamp) -> Vec<u8> {
    let date = |at: Timestamp| std::time::SystemTime::try_from(at).unwrap().into();
    let serial = certwell_proto::identity::serial(from, [7; 8]);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    params.not_before = date(from - SignedDuration::from_hours(1));
    params.not_after = date(from + days(7));
    params.self_signed(&key).unwrap().der().to_vec()
}

/// Changes the configuration.
pub(crate) fn configure(facts: &mut FleetFacts, change: impl FnOnce(&mut Config)) {
    change(Arc::make_mut(&mut facts.config));
}

/// Declares a certificate on these hosts.
pub(crate) fn declare(facts: &mut FleetFacts, name: &str, hosts: &[&str]) {
    let mut hosts: Vec<HostName> = hosts.iter().copied().map(host).collect();
    hosts.sort();
    configure(facts, |config| {
        config.certificates.insert(
            certificate(name),
            Certificate {
                identifiers: vec![name.parse().unwrap()],
                challenge_hosts: hosts.clone(),
                hosts,
                authorities: vec!["letsencrypt".into()],
                key_type: KeyType::EcdsaP256,
                probe_url: None,
                probe_dns: true,
            },
        );
    });
    facts
        .certificates
        .insert(certificate(name), CertificateFacts::default());
}

/// Issues a generation; its renewal falls due after two thirds of its life.
pub(crate) fn issue(
    facts: &mut FleetFacts,
    name: &str,
    generation: u64,
    at: Timestamp,
    end: Timestamp,
) {
    let known = media(facts, name);
    let issued = Issued {
        certificate: certificate(name),
        generation: Generation(generation),
        identifiers: vec![name.parse().unwrap()],
        authority: "letsencrypt".into(),
        fullchain: vec![leaf(name, generation)],
        root: vec![],
        not_before: at,
        not_after: end,
        at,
    };
    known.issued = Some(issued);
    known.order = OrderFacts {
        stage: OrderStage::Idle,
        next_at: Some(at + at.duration_until(end) * 2 / 3),
        ..OrderFacts::default()
    };
}

/// A host has come all the way with this generation.
pub(crate) fn observe(
    facts: &mut FleetFacts,
    name: &str,
    on: &str,
    generation: u64,
    at: Timestamp,
) {
    let fact = |second: i64| v1::StatusFact {
        generation,
        at_ms: (at + SignedDuration::from_secs(second)).as_millisecond(),
        agent_at_ms: at.as_millisecond(),
    };
    let listener = |port: u16| v1::Listener {
        address: format!("127.0.0.1:{port}"),
        name: name.into(),
        state: v1::ListenerState::Current.into(),
        fingerprint: fingerprint(name, generation),
        detail: String::new(),
        proxy_protocol: false,
    };
    let observation = Observation {
        host: host(on),
        certificate: certificate(name),
        facts: v1::HostCertificateStatus {
            host: on.into(),
            fetched: Some(fact(1)),
            installed: Some(fact(2)),
            tested: Some(fact(3)),
            reloaded: Some(fact(4)),
            served: Some(v1::StatusServed {
                generation: Some(generation),
                at_ms: (at + SignedDuration::from_secs(5)).as_millisecond(),
                agent_at_ms: at.as_millisecond(),
                fingerprint: fingerprint(name, generation),
                listeners: vec![listener(443), listener(8443)],
            }),
            ..Default::default()
        },
        outcome: v1::Outcome::Converged,
        outcome_generation: Generation(generation),
        told: None,
    };
    media(facts, name)
        .observations
        .insert(host(on), observation);
}

/// An older generation that hosts may serve: of 90 days, ending then.
pub(crate) fn older(facts: &mut FleetFacts, name: &str, generation: u64, end: Timestamp) {
    let leaf = StoredLeaf {
        fingerprint: Fingerprint::of(&leaf(name, generation)),
        not_before: end - days(90),
        not_after: end,
    };
    media(facts, name)
        .older
        .insert(Generation(generation), leaf);
}

/// The facts of a certificate that is declared.
pub(crate) fn media<'a>(facts: &'a mut FleetFacts, name: &str) -> &'a mut CertificateFacts {
    facts.certificates.get_mut(&certificate(name)).unwrap()
}

/// What sally said of media.hachyderm.io.
pub(crate) fn sally(facts: &mut FleetFacts) -> &mut Observation {
    media(facts, MEDIA)
        .observations
        .get_mut(&host("sally"))
        .unwrap()
}

/// What sally serves of it.
pub(crate) fn served(facts: &mut FleetFacts) -> &mut v1::StatusServed {
    sally(facts).facts.served.as_mut().unwrap()
}

/// Sally as a host.
pub(crate) fn sally_host(facts: &mut FleetFacts) -> &mut HostFacts {
    facts.hosts.get_mut(&host("sally")).unwrap()
}
