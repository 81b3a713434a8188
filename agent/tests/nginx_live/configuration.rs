//! The configuration, read in a child of the agent's own binary.

use std::{os::unix::fs::symlink, path::Path};

use certwell_agent::nginx::{
    CertificateSource,
    dump::{DumpError, listeners},
    run::{Invocation, RunError},
};

use crate::host::{Host, PATIENCE};

const AGENT: &str = env!("CARGO_BIN_EXE_certwell-agent");

#[tokio::test]
async fn the_child_reads_what_the_running_master_reads() {
    let host = Host::started(&[
        ("a", "server { listen ADDRESS:8080; server_name a.example.org; include snippets/certwell-acme.conf; }\n"),
        ("b", "server {\n  listen ADDRESS:8081;\n  return 301 https://$host;\n  include snippets/certwell-acme.conf;\n}\n"),
    ])
    .await;
    let invocation = host.nginx().invocation;
    let parsed = listeners(Path::new(AGENT), &invocation, PATIENCE)
        .await
        .unwrap();
    assert_eq!(parsed, host.parsed());
    assert_eq!(parsed.servers.len(), 2);
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    assert_eq!(parsed.files[0], host.path("nginx.conf"));
    assert!(
        parsed
            .files
            .contains(&host.path("snippets/certwell-acme.conf"))
    );
    let include = parsed.servers[1].challenge_include.as_ref().unwrap();
    assert_eq!(
        (include.file.clone(), include.line),
        (host.path("sites/b"), 4)
    );
    assert_eq!(
        parsed.servers[1]
            .redirect_before_include
            .as_ref()
            .unwrap()
            .line,
        3
    );

    host.site("c", "serwer { }\n");
    let error = listeners(Path::new(AGENT), &invocation, PATIENCE)
        .await
        .unwrap_err();
    let DumpError::Refused { words } = error else {
        panic!("{error}")
    };
    assert_eq!(
        words,
        format!(
            "[emerg] unknown directive \"serwer\" in {}:1",
            host.path("sites/c").display()
        )
    );
}

#[tokio::test]
async fn a_child_that_fails_and_an_absent_nginx_are_said() {
    let host = Host::new(&[]);
    let invocation = host.nginx().invocation;
    let error = listeners(Path::new("/bin/false"), &invocation, PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, DumpError::Child(_)), "{error}");
    let error = listeners(
        Path::new(AGENT),
        &Invocation::plain("/nonexistent"),
        PATIENCE,
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, DumpError::Run(RunError::Absent(_))),
        "{error}"
    );
}

#[test]
fn the_shipped_server_for_port_80_is_taken_by_nginx() {
    let shipped = include_str!("../../../packaging/nginx/certwell-port80.conf");
    // The same on this test's address: port 80 may be taken, or not ours to take.
    let own = shipped
        .replace("listen 80;", "listen ADDRESS:8080;")
        .replace("listen [::]:80;", "");
    assert_eq!(
        shipped.matches("listen").count(),
        own.matches("listen").count() + 1
    );
    let host = Host::new(&[("port80", &own)]);
    let parsed = host.parsed();
    assert_eq!(parsed.servers.len(), 1);
    assert!(parsed.servers[0].challenge_include.is_some());
    assert_eq!(parsed.servers[0].redirect_before_include, None);
}

#[tokio::test]
async fn a_relative_path_goes_up_from_where_a_link_leads() {
    let host = Host::new(&[]);
    host.certificate("a.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    for directory in ["srv/deep/etc", "srv/deep/tls"] {
        std::fs::create_dir_all(host.path(directory)).unwrap();
    }
    symlink("srv/deep/etc", host.path("etc")).unwrap();
    symlink(host.path("live/a.example.org"), host.path("srv/deep/tls/a")).unwrap();
    host.site(
        "a",
        "server { listen ADDRESS:8443 ssl; ssl_certificate etc/../tls/a/fullchain.pem; ssl_certificate_key etc/../tls/a/privkey.pem; }\n",
    );
    let parsed = listeners(Path::new(AGENT), &host.nginx().invocation, PATIENCE)
        .await
        .unwrap();
    let files = &parsed.servers[0].certificates[0];
    let real = host.path("srv/deep/tls/a/fullchain.pem");
    assert_eq!(files.certificate, CertificateSource::File(real));
    assert_eq!(
        files.through[0],
        host.path("live/a.example.org/fullchain.pem")
    );
}
