//! What is the probe's own fault is told apart from what is the servers'.

#![expect(clippy::unwrap_used, reason = "a panic in a test is its report")]

use std::{env, process::Command};

use certwell_probe::{Look, Outlook, round};
use certwell_proto::v1::{Sighting, SightingState};
use jiff::Timestamp;

const INSIDE: &str = "CERTWELL_TEST_WITHOUT_A_NETWORK";

#[expect(clippy::disallowed_methods, reason = "nothing depends on the time")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Looks at addresses where nobody listens.
async fn look_at(addresses: &[&str]) -> Vec<Sighting> {
    let look = Look {
        certificate: "media".parse().unwrap(),
        name: "media.example.org".into(),
        host: Some("sally".parse().unwrap()),
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        port: 443,
        url: None,
    };
    let outlook = Outlook {
        looks: vec![look],
        ..Outlook::default()
    };
    round(&outlook, now).await
}

/// Run by the test below, in a network namespace that has nothing but its own loopback, which is down.
async fn without_a_network() {
    let seen = look_at(&["192.0.2.1:443", "[2001:db8::1]:443"]).await;
    assert_eq!(seen.len(), 4, "{seen:?}");
    for sighting in seen {
        assert_eq!(sighting.state(), SightingState::Down, "{sighting:?}");
        assert!(sighting.own_fault, "{sighting:?}");
        assert!(!sighting.detail.is_empty());
    }
}

#[tokio::test]
async fn an_address_without_a_route_is_the_probe_s_fault_and_a_closed_port_is_not() {
    if env::var_os(INSIDE).is_some() {
        without_a_network().await;
        return;
    }
    // Below those that the kernel gives to others.
    let seen = look_at(&["127.0.0.1:1"]).await;
    assert_eq!(seen.len(), 2);
    for sighting in seen {
        assert_eq!(sighting.state(), SightingState::Down, "{sighting:?}");
        assert!(!sighting.own_fault, "{sighting:?}");
    }
    let inside = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "an_address_without_a_route_is_the_probe_s_fault_and_a_closed_port_is_not",
        ])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, problem) = (
        String::from_utf8_lossy(&inside.stdout),
        String::from_utf8_lossy(&inside.stderr),
    );
    if problem.contains("unshare:") {
        eprintln!("SKIPPED: no network namespace can be made here: {problem}");
        return;
    }
    assert!(inside.status.success(), "{out}{problem}");
    assert!(out.contains("1 passed"), "{out}");
}
