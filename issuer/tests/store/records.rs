//! Records to put into a store.

use certwell_issuer::store::{
    Account, Enrolled, EventRecord, FleetCa, HostRecord, Intent, InventoryRecord, Issued,
    Observation, OrderFailure, TokenRecord,
};
use certwell_proto::{
    CertificateName, Generation, HostName, Lineage, Secret, fingerprint::sha256, v1,
};
use jiff::{SignedDuration, Timestamp};

/// A private key that is easily found in a file.
pub(crate) const CERTIFICATE_KEY: &[u8] = b"PLAINTEXT-CERTIFICATE-KEY-0123456789";
pub(crate) const ACCOUNT_KEY: &[u8] = b"PLAINTEXT-ACCOUNT-KEY-0123456789";
pub(crate) const CA_KEY: &[u8] = b"PLAINTEXT-FLEET-CA-KEY-0123456789";

pub(crate) fn name(text: &str) -> CertificateName {
    text.parse().unwrap()
}

pub(crate) fn host(text: &str) -> HostName {
    text.parse().unwrap()
}

/// Minutes after an instant in 2026.
pub(crate) fn minute(minutes: i64) -> Timestamp {
    Timestamp::from_millisecond(1_780_000_000_123).unwrap() + SignedDuration::from_mins(minutes)
}

pub(crate) fn lineage() -> Lineage {
    Lineage {
        id: uuid::Uuid::from_u128(0x1234),
        started_ms: 1_780_000_000_000,
    }
}

pub(crate) fn fleet_ca() -> FleetCa {
    FleetCa {
        fleet: "hachyderm".parse().unwrap(),
        certificate: vec![0x30, 1, 2, 3],
        key: Secret::new(CA_KEY.to_vec()),
    }
}

pub(crate) fn account(directory: &str, url: Option<&str>) -> Account {
    Account {
        directory: directory.to_owned(),
        key: Secret::new(ACCOUNT_KEY.to_vec()),
        url: url.map(str::to_owned),
        thumbprint: "thumb".to_owned(),
        contact: url
            .into_iter()
            .map(|_| "mailto:ops@a.example".to_owned())
            .collect(),
    }
}

pub(crate) fn intent(certificate: &str, generation: u64) -> Intent {
    Intent {
        certificate: name(certificate),
        generation: Generation(generation),
        identifiers: vec![
            "www.example.org".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ],
        authority: "letsencrypt".to_owned(),
        directory: "https://ca.example/directory".to_owned(),
        private_key: Secret::new(
            [
                CERTIFICATE_KEY,
                format!("{certificate}{generation}").as_bytes(),
            ]
            .concat(),
        ),
        csr: vec![0x30, 0x82, generation as u8],
        replaces: (generation > 1).then(|| vec![9; 40]),
        at: minute(0),
    }
}

pub(crate) fn issued(certificate: &str, generation: u64) -> Issued {
    Issued {
        certificate: name(certificate),
        generation: Generation(generation),
        identifiers: vec![
            "www.example.org".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ],
        authority: "letsencrypt".to_owned(),
        fullchain: vec![vec![generation as u8; 700], vec![7; 300]],
        root: vec![8; 200],
        not_before: minute(-60),
        not_after: minute(60 * 24 * 90),
        at: minute(generation as i64),
    }
}

pub(crate) fn failure(minutes: i64, problem: &str) -> OrderFailure {
    OrderFailure {
        at: minute(minutes),
        validation: minutes % 2 == 0,
        problem: problem.to_owned(),
        retry_at: (minutes > 5).then(|| minute(minutes + 60)),
    }
}

pub(crate) fn token(secret: &str, of: &str) -> TokenRecord {
    TokenRecord {
        hash: sha256(secret.as_bytes()),
        host: host(of),
        expires: minute(15),
        used_by: None,
        void: false,
    }
}

pub(crate) fn host_record(of: &str) -> HostRecord {
    HostRecord {
        name: host(of),
        bound_key: vec![4; 91],
        identity: vec![5; 400],
        identity_key: [6; 32],
        revoked: None,
        retired: false,
        info: v1::HostInfo {
            hostname: of.to_owned(),
            os: "Debian 12".to_owned(),
            agent_version: "0.1.0".to_owned(),
            nginx_version: "1.22.1".to_owned(),
        },
        last_seen: Some(minute(3)),
    }
}

pub(crate) fn enrolled(of: &str, bound_key: u8) -> Enrolled {
    Enrolled {
        host: host_record(of),
        bound_key_hash: [bound_key; 32],
    }
}

pub(crate) fn observation(of: &str, certificate: &str, generation: u64) -> Observation {
    let fact = v1::StatusFact {
        generation,
        at_ms: 12,
        agent_at_ms: 11,
    };
    Observation {
        host: host(of),
        certificate: name(certificate),
        facts: v1::HostCertificateStatus {
            host: of.to_owned(),
            fetched: Some(fact),
            problem: "nginx: [emerg] unknown directive".to_owned(),
            ..Default::default()
        },
        outcome: v1::Outcome::Held,
        outcome_generation: Generation(generation),
        told: None,
    }
}

pub(crate) fn inventory(of: &str, minutes: i64) -> InventoryRecord {
    InventoryRecord {
        host: host(of),
        at: minute(minutes),
        told: v1::Inventory {
            at_ms: minutes,
            rows: vec![v1::InventoryRow {
                source: "/etc/nginx/old.pem".to_owned(),
                fingerprint: vec![3; 32],
                managed: v1::ManagedBy::Nobody.into(),
                ..Default::default()
            }],
            left_out: 1,
            problem: String::new(),
        },
    }
}

pub(crate) fn event(minutes: i64, certificate: Option<&str>, text: &str) -> EventRecord {
    EventRecord {
        id: 0,
        at: minute(minutes),
        kind: v1::EventKind::Issued,
        certificate: certificate.map(name),
        host: certificate.is_none().then(|| host("sally")),
        generation: Generation(2),
        text: text.to_owned(),
    }
}
