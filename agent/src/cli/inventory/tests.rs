//! What scripts read, as docs/cli.md shows it.

use super::*;
use crate::nginx::Place;
use certwell_proto::{Fingerprint, Leaf};
use jiff::Timestamp;

fn row() -> Row {
    let seen = |shown| Seen {
        address: "192.0.2.13:443".into(),
        name: "media.example.org".into(),
        shown,
    };
    Row {
        source: "/etc/letsencrypt/live/media.example.org/fullchain.pem".into(),
        leaf: Some(Leaf {
            fingerprint: Fingerprint([7; 32]),
            serial: "1".into(),
            not_before: Timestamp::from_second(0).unwrap(),
            not_after: Timestamp::from_second(1_000).unwrap(),
            identifiers: vec!["media.example.org".parse().unwrap()],
            issuer: "CN=R11".into(),
            self_issued: false,
        }),
        twins: Vec::new(),
        managed: Managed::Certwell {
            name: "media".into(),
            generation: Generation(2),
            adopted: vec!["media.example.org".into()],
        },
        used_by: vec![Use {
            role: Role::Listener,
            source: CertificateSource::File(
                "/etc/letsencrypt/live/media.example.org/fullchain.pem".into(),
            ),
            through: Vec::new(),
            listeners: vec!["0.0.0.0:443".into()],
            names: vec!["media.example.org".into()],
            at: Place {
                file: "/etc/nginx/sites-enabled/media".into(),
                line: 12,
            },
            seen: vec![
                seen(Shown::Leaf(Fingerprint([7; 32]))),
                seen(Shown::Down("refused".into())),
            ],
        }],
        problems: vec!["x".into()],
    }
}

#[test]
fn the_json_is_as_it_was() {
    let seven = "07".repeat(32);
    let wanted = serde_json::json!({
        "source": "/etc/letsencrypt/live/media.example.org/fullchain.pem",
        "names": ["media.example.org"],
        "issuer": "CN=R11",
        "not_before": "1970-01-01T00:00:00Z",
        "not_after": "1970-01-01T00:16:40Z",
        "fingerprint": seven,
        "managed_by": {
            "kind": "certwell",
            "name": "media",
            "generation": 2,
            "adopted": ["media.example.org"],
            "renews": true,
        },
        "served": "no",
        "used_by": [{
            "role": "listener",
            "at": "/etc/nginx/sites-enabled/media:12",
            "file": "/etc/letsencrypt/live/media.example.org/fullchain.pem",
            "listeners": ["0.0.0.0:443"],
            "names": ["media.example.org"],
            "handshakes": [
                {
                    "address": "192.0.2.13:443",
                    "name": "media.example.org",
                    "served": "yes",
                    "fingerprint": seven,
                    "detail": null,
                },
                {
                    "address": "192.0.2.13:443",
                    "name": "media.example.org",
                    "served": "no",
                    "fingerprint": null,
                    "detail": "refused",
                },
            ],
        }],
        "problems": ["x"],
    });
    assert_eq!(serde_json::to_value(of_row(&row())).unwrap(), wanted);
    let host = |host: &Host| serde_json::to_value(of_host(host)).unwrap();
    assert_eq!(
        host(&Host::Refused("w".into())),
        serde_json::json!({ "state": "refused", "problem": "w" })
    );
    assert_eq!(
        host(&Host::Running),
        serde_json::json!({ "state": "running", "problem": null })
    );
}

#[test]
fn the_table_fits_its_columns() {
    let long = format!("{}.example.org", "x".repeat(60));
    for names in [vec![], vec![long.clone()], vec![long.clone(); 120]] {
        assert!(short(&names).chars().count() <= NAMES, "{}", short(&names));
    }
    assert_eq!(short(&["a".into(), "b".into()]), "a +1");
    let all = [
        row().managed,
        Managed::Certbot {
            lineage: "x".into(),
            renews: false,
        },
        Managed::Nobody,
    ];
    for one in all {
        assert!(managed(&one).chars().count() <= MANAGED, "{one:?}");
    }
    assert_eq!(NAMES + UNTIL + SERVED + MANAGED + 6, 80);
}
