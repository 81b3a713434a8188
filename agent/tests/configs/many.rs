//! A thousand server blocks, each in a file of its own.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use certwell_agent::nginx::{KeyAlgorithm, Parsed, Way, dump::listeners, probe::probe_all};

use crate::{host::PATIENCE, shape::Shape};

const MANY: usize = 1_000;
/// So many share a certificate.
const SHARED: usize = 10;

fn shape() -> Shape {
    let mut shape = Shape::new(&[]);
    for number in 0..MANY / SHARED {
        shape.certificate(
            &format!("c{number}.example.org"),
            &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::Ecdsa,
        );
    }
    shape.file(
        "snippets/tls.conf",
        "ssl_session_tickets off;\nssl_session_timeout 1d;\n",
    );
    shape.file(
        "conf.d/hash.conf",
        "server_names_hash_max_size 8192;\nserver_names_hash_bucket_size 128;\n",
    );
    for number in 0..MANY {
        let certificate = number / SHARED;
        let mut text = String::new();
        write!(
            text,
            "server {{\n  listen ADDRESS:8080;\n  server_name v{number}.example.org www.v{number}.example.org;\n  \
             include snippets/certwell-acme.conf;\n  location / {{ return 301 https://$host$request_uri; }}\n}}\n\
             server {{\n  listen ADDRESS:8443 ssl;\n  server_name v{number}.example.org www.v{number}.example.org;\n  \
             include snippets/tls.conf;\n  ssl_certificate LIVE/c{certificate}.example.org/fullchain.pem;\n  \
             ssl_certificate_key LIVE/c{certificate}.example.org/privkey.pem;\n  root ROOT/public/{number};\n  \
             location ~* \\.(css|js|png)$ {{ expires 30d; }}\n  location ~ /\\. {{ deny all; }}\n}}\n"
        )
        .unwrap();
        shape.file(&format!("sites/v{number:04}"), &text);
    }
    shape
}

#[tokio::test]
async fn a_thousand_server_blocks_are_all_found_and_the_right_leaf_is_seen() {
    let mut shape = shape();
    shape.host.start().await;
    let agent = Path::new(env!("CARGO_BIN_EXE_certwell-agent"));
    let parsed: Parsed = listeners(agent, &shape.host.nginx().invocation, PATIENCE * 3)
        .await
        .unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    assert_eq!(parsed.servers.len(), 2 * MANY);
    assert_eq!(parsed.files.len(), MANY + 5);
    assert_eq!(
        parsed
            .servers
            .iter()
            .filter(|server| server.challenge_include.is_some())
            .count(),
        MANY
    );

    let targets = shape.targets(&parsed);
    // Two names each, on one address; the first of each block is repeated.
    assert_eq!(targets.len(), 2 * MANY);
    assert!(targets.iter().all(|target| target.way == Way::Handshake));
    assert_eq!(targets.iter().filter(|target| target.first).count(), MANY);
    let certificates: BTreeSet<_> = targets.iter().map(|target| &target.certificate).collect();
    assert_eq!(certificates.len(), MANY / SHARED);
    for target in &targets {
        let name = target
            .server_name
            .as_deref()
            .unwrap()
            .trim_start_matches("www.");
        let number: usize = name[1..name.find('.').unwrap()].parse().unwrap();
        let expected = format!("c{}.example.org", number / SHARED);
        assert_eq!(target.certificate.as_str(), expected);
    }

    // A sample of them, since handshakes are slow in a debug build.
    let sample: Vec<_> = targets.into_iter().step_by(97).collect();
    let seen = probe_all(sample).await;
    assert_eq!(seen.len(), 21);
    for (target, probed) in seen {
        let shown = shape.seen(&probed);
        assert_eq!(
            shown,
            format!("serves {}", target.certificate),
            "{target:?}"
        );
    }
}
