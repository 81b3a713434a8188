//! Adopting that nginx takes, and whose listeners don't serve it.

use std::fs;

use certwell_proto::Fingerprint;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::{
    fleet::self_signed,
    host::{NAME, free_port, served_at},
    issuer::eventually,
    lineage::{adopting, lay_out, server, tree},
};

#[tokio::test]
async fn a_listener_that_gets_worse_makes_it_go_back() {
    let host = adopting(NAME).await;
    // A listener that speaks with RSA keys only, and certwell's is an ECDSA key.
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let certificate = CertificateParams::new(vec![NAME.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let theirs = Fingerprint::of(certificate.der());
    lay_out(
        &host.certbot(),
        "rsa",
        &certificate.pem(),
        &key.serialize_pem(),
    );
    let port = free_port();
    let live = host.certbot().join("live");
    let rsa_only = server(port, NAME, &live.join("rsa")).replace(
        "server_name",
        "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256; server_name",
    );
    let both = [server(host.port, NAME, &live.join(NAME)), rsa_only].concat();
    host.world.host.write_nginx(true, &both);
    host.world.host.reload_nginx();
    eventually("the RSA listener serves", || async {
        (served_at(port) == Some(theirs)).then_some(())
    })
    .await;
    let before = tree(&host.certbot());
    let (code, told) = host.adopt(&["rsa", "--as", NAME]).await;
    assert_eq!(code, 3, "{told}");
    assert!(
        told.contains(&format!("{port} ({NAME}) fails")) && told.contains("was put back"),
        "{told}"
    );
    assert_eq!(tree(&host.certbot()), before);
    assert_eq!(served_at(port), Some(theirs));
    let (code, told) = host.adopt(&["rsa", "--undo"]).await;
    assert!(code == 7 && told.contains("not adopted"), "{told}");
}

#[tokio::test]
async fn what_nginx_does_not_load_stays_on_disk_and_is_asked_for_again() {
    let host = adopting(NAME).await;
    let config = host.world.host.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    // A reload that returns 0 and does nothing.
    host.world.host.set_agent("reload = \"true\"");
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 3, "{told}");
    assert!(
        told.contains("adopted on disk, and not served yet") && told.contains("--undo"),
        "{told}"
    );
    assert_eq!(host.served(), Some(host.theirs));
    assert!(host.lineage().is_symlink());
    fs::write(&config, text).unwrap();
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.ours));
}

#[tokio::test]
async fn where_no_listener_can_tell_new_workers_must() {
    let host = adopting(NAME).await;
    let (certificate, key) = self_signed(NAME, (-3_600, 86_400));
    lay_out(&host.certbot(), "unused", &certificate, &key);
    let config = host.world.host.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    host.world.host.set_agent("reload = \"true\"");
    let arguments = ["unused", "--as", NAME];
    let (code, told) = host.adopt(&arguments).await;
    assert!(
        code == 3 && told.contains("keeps its old workers"),
        "{told}"
    );
    fs::write(&config, text).unwrap();
    let (code, told) = host.adopt(&arguments).await;
    assert!(code == 0 && told.contains("no server block"), "{told}");
}
