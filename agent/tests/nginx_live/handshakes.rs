//! What is configured, and what is served.

use std::{net::IpAddr, path::PathBuf};

use certwell_agent::nginx::{
    Endpoint, KeyAlgorithm, Managed, ProbeTarget, Probed, Way,
    probe::{probe, probe_all, served_leaf},
    reload::{Waited, reload, wait_for_new_workers},
    servers::Place,
    targets::probes,
};
use certwell_proto::Fingerprint;
use tokio::time::Instant;

use crate::host::{Host, PATIENCE, wait_until};

const SITES: &str = "
ssl_certificate LIVE/media.example.org/fullchain.pem; ssl_certificate_key LIVE/media.example.org/privkey.pem;
server { listen ADDRESS:8443 ssl default_server; server_name _; ssl_reject_handshake on; }
server { listen ADDRESS:8443 ssl; server_name media.example.org *.media.example.org; }
server { listen ADDRESS:8443 ssl; server_name other.example.org;
  ssl_certificate LIVE/other.example.org/fullchain.pem; ssl_certificate_key LIVE/other.example.org/privkey.pem; }
server { listen ADDRESS:8444 ssl proxy_protocol; server_name media.example.org; }
server { listen 203.0.113.77:8443 ssl bind; server_name media.example.org; }
server { listen unix:LIVE/socket ssl; server_name media.example.org; }
";

fn managed(names: &[&str]) -> Vec<Managed> {
    names
        .iter()
        .map(|name| Managed {
            name: name.parse().unwrap(),
            identifiers: vec![name.parse().unwrap()],
            keys: vec![],
        })
        .collect()
}

fn targets(host: &Host, managed: &[Managed]) -> Vec<ProbeTarget> {
    let local: [IpAddr; 1] = [host.address.into()];
    probes(&host.parsed().servers, &local, &host.path("live"), managed)
}

fn by_hand(host: &Host, port: u16, name: Option<&str>, key: Option<KeyAlgorithm>) -> ProbeTarget {
    ProbeTarget {
        certificate: "media.example.org".parse().unwrap(),
        endpoint: Endpoint::Tcp(host.socket(port)),
        server_name: name.map(str::to_owned),
        key,
        proxy_protocol: false,
        rejects: false,
        way: Way::Handshake,
        first: true,
        at: Place {
            file: PathBuf::from("/n.conf"),
            line: 1,
        },
        read_by_workers: None,
    }
}

fn leaf(probed: &Probed) -> Option<Fingerprint> {
    match probed {
        Probed::Leaf { fingerprint, der } => {
            assert_eq!(Fingerprint::of(der), *fingerprint);
            Some(*fingerprint)
        }
        _ => None,
    }
}

#[tokio::test]
async fn every_listener_is_found_and_its_served_leaf_is_seen() {
    let mut host = Host::new(&[]);
    let media = host.certificate("media.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    let other = host.certificate("other.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    // An address of another host: nginx binds it only where the system lets it.
    host.site(
        "a",
        &SITES.replace(
            "server { listen 203.0.113.77:8443 ssl bind; server_name media.example.org; }\n",
            "",
        ),
    );
    host.start().await;

    let targets = targets(&host, &managed(&["media.example.org", "other.example.org"]));
    let shown: Vec<_> = targets
        .iter()
        .map(|target| {
            (
                target.endpoint.to_string(),
                target.server_name.clone().unwrap_or_default(),
            )
        })
        .collect();
    let at = |port: u16| host.socket(port).to_string();
    let socket = format!("unix:{}", host.path("live/socket").display());
    let expected = [
        // The default server inherits the certificate; it has no name, so that any unclaimed one leads to it.
        (at(8443), String::new()),
        (at(8443), "media.example.org".to_owned()),
        (at(8443), "certwell-probe.media.example.org".to_owned()),
        (at(8443), "other.example.org".to_owned()),
        (at(8444), "media.example.org".to_owned()),
        (socket, "media.example.org".to_owned()),
    ];
    assert_eq!(shown, expected);
    assert!(targets[4].proxy_protocol);

    let probed = probe_all(targets.clone()).await;
    assert_eq!(
        probed
            .iter()
            .map(|(target, _)| target.clone())
            .collect::<Vec<_>>(),
        targets
    );
    assert_eq!(probed[0].1, Probed::Rejects);
    let leaves: Vec<_> = probed[1..].iter().map(|(_, probed)| leaf(probed)).collect();
    assert_eq!(
        leaves,
        [media, media, other, media, media].map(Some),
        "{probed:?}"
    );
}

#[tokio::test]
async fn a_renewed_certificate_is_seen_after_the_reload_and_not_before() {
    let mut host = Host::new(&[(
        "a",
        "server { listen ADDRESS:8443 ssl; server_name media.example.org; ssl_certificate LIVE/media.example.org/fullchain.pem; ssl_certificate_key LIVE/media.example.org/privkey.pem; }",
    )]);
    let old = host.certificate("media.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    host.start().await;
    let target = by_hand(&host, 8443, Some("media.example.org"), None);
    assert_eq!(leaf(&probe(&target).await), Some(old));

    let new = host.certificate("media.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(
        leaf(&probe(&target).await),
        Some(old),
        "nothing is loaded yet"
    );
    let (settings, before) = (host.settings(), host.master());
    reload(&settings, &before, PATIENCE).await.unwrap();
    let waited = wait_for_new_workers(&settings, &before, Instant::now() + PATIENCE)
        .await
        .unwrap();
    assert!(matches!(waited, Waited::New(_)), "{waited:?}");
    wait_until("the new leaf is served", async || {
        leaf(&probe(&target).await) == Some(new)
    })
    .await;
}

#[tokio::test]
async fn twins_are_told_apart() {
    let mut host = Host::new(&[(
        "a",
        "server { listen ADDRESS:8443 ssl; server_name media.example.org;
           ssl_certificate LIVE/media.example.org/fullchain.pem; ssl_certificate_key LIVE/media.example.org/privkey.pem;
           ssl_certificate LIVE/twin.example.org/fullchain.pem; ssl_certificate_key LIVE/twin.example.org/privkey.pem; }
         server { listen ADDRESS:8442 ssl; ssl_protocols TLSv1.2; server_name media.example.org;
           ssl_certificate LIVE/media.example.org/fullchain.pem; ssl_certificate_key LIVE/media.example.org/privkey.pem;
           ssl_certificate LIVE/twin.example.org/fullchain.pem; ssl_certificate_key LIVE/twin.example.org/privkey.pem; }",
    )]);
    let ecdsa = host.certificate("media.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    let rsa = host.certificate("twin.example.org", &rcgen::PKCS_RSA_SHA256);
    host.start().await;
    for port in [8443, 8442] {
        for (key, expected) in [(KeyAlgorithm::Ecdsa, ecdsa), (KeyAlgorithm::Rsa, rsa)] {
            let probed = probe(&by_hand(&host, port, Some("media.example.org"), Some(key))).await;
            assert_eq!(leaf(&probed), Some(expected), "{port} {key:?}: {probed:?}");
        }
    }
    let mut managed = managed(&["media.example.org", "twin.example.org"]);
    managed[0].keys = vec![KeyAlgorithm::Ecdsa];
    managed[1].keys = vec![KeyAlgorithm::Rsa];
    let probed = probe_all(targets(&host, &managed)).await;
    assert_eq!(probed.len(), 4);
    for (target, probed) in probed {
        let expected = if target.certificate.as_str() == "media.example.org" {
            ecdsa
        } else {
            rsa
        };
        assert_eq!(leaf(&probed), Some(expected), "{target:?}");
    }
}

#[tokio::test]
async fn down_says_why_and_other_states_are_kept_apart() {
    let host = Host::started(&[("a", "server { listen ADDRESS:8080; return 204; }")]).await;
    let Probed::Down(why) = probe(&by_hand(&host, 8443, None, None)).await else {
        panic!("not down")
    };
    assert!(why.contains("refused"), "{why}");
    let Probed::Down(why) = probe(&by_hand(&host, 8080, None, None)).await else {
        panic!("not down")
    };
    assert!(!why.is_empty());
    let silent = std::net::TcpListener::bind(host.socket(8081)).unwrap();
    assert_eq!(
        probe(&by_hand(&host, 8081, None, None)).await,
        Probed::Down("no answer within 2 s".into())
    );
    drop(silent);
    let elsewhere = ProbeTarget {
        way: Way::Elsewhere,
        ..by_hand(&host, 8080, None, None)
    };
    assert_eq!(probe(&elsewhere).await, Probed::Elsewhere);
    let unprobed = ProbeTarget {
        way: Way::Unprobed("why".into()),
        ..by_hand(&host, 8080, None, None)
    };
    assert_eq!(probe(&unprobed).await, Probed::Unprobed("why".into()));
}

#[tokio::test]
async fn without_sni_the_default_server_answers() {
    let mut host = Host::new(&[(
        "a",
        "server { listen ADDRESS:8443 ssl; server_name a.example.org; ssl_certificate LIVE/a.example.org/fullchain.pem; ssl_certificate_key LIVE/a.example.org/privkey.pem; }
         server { listen ADDRESS:8443 ssl default_server; ssl_certificate LIVE/b.example.org/fullchain.pem; ssl_certificate_key LIVE/b.example.org/privkey.pem; }",
    )]);
    let a = host.certificate("a.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    let b = host.certificate("b.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    host.start().await;
    assert_eq!(
        Fingerprint::of(
            &served_leaf(host.socket(8443), Some("a.example.org"))
                .await
                .unwrap()
        ),
        a
    );
    assert_eq!(
        Fingerprint::of(&served_leaf(host.socket(8443), None).await.unwrap()),
        b
    );
}
