//! Who else depends on a lineage: nginx's workers, clients that know one kind of key only, programs that certbot told.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use certwell_proto::Fingerprint;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::{
    adopt::refused,
    faults::reloaded,
    fleet::self_signed,
    host::{NAME, free_port, served_at},
    issuer::eventually,
    lineage::{Adopting, adopting, lay_out, said, server, tree},
};

fn open_to_all(directory: &Path) {
    let inside = tree(directory).into_keys();
    for path in inside.chain([directory.to_owned()]) {
        if !path.is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}

/// nginx's workers, of www-data, read the lineage by themselves.
async fn by_variable() -> Adopting {
    let mut host = adopting(NAME).await;
    host.world.host.stop_nginx();
    fs::set_permissions(host.world.host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    open_to_all(&host.certbot());
    let written = host.certbot().join("live/$ssl_server_name");
    let block = server(host.port, NAME, &written);
    host.world.host.write_nginx(true, &block);
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("user root;", "user www-data;")).unwrap();
    host.world.host.start_nginx().await;
    assert_eq!(host.served(), Some(host.theirs));
    host
}

fn modes(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_workers_read_by_themselves_they_must_be_able_to_read_of_certwell_s() {
    let mut host = by_variable().await;
    let words = [
        "nginx's workers (user www-data) can't read",
        "set file-group = \"www-data\" in agent.toml",
    ];
    refused(&host, &[NAME], 8, &words).await;
    // Those that a stopped nginx will have, too.
    host.world.host.stop_nginx();
    let before = tree(&host.certbot());
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 8, "{told}");
    assert!(words.iter().all(|word| told.contains(word)), "{told}");
    assert_eq!(tree(&host.certbot()), before);
    host.world.host.start_nginx().await;

    let config = host.world.host.path("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("file-group = \"www-data\"\n{text}")).unwrap();
    host.world.host.start_agent();
    let key: PathBuf = host.world.host.live().join("privkey.pem");
    eventually("the group may read", || async {
        (modes(&key) == 0o640 && modes(&host.world.host.path("state")) == 0o750).then_some(())
    })
    .await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 listener and name serve it"), "{told}");
    assert_eq!(host.served(), Some(host.ours));
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.served(), Some(host.theirs));
}

#[tokio::test]
async fn names_that_are_asked_for_by_variable_must_be_covered_and_no_others() {
    let host = by_variable().await;
    let key = KeyPair::generate().unwrap();
    let names = ["www.example.org", "spare.example.org"].map(str::to_owned);
    let certificate = CertificateParams::new(names.to_vec()).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    lay_out(
        &host.certbot(),
        "www.example.org",
        &certificate.pem(),
        &key.serialize_pem(),
    );
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let text = text.replace("user www-data;", "user root;");
    let serve = |names: &str| {
        let live = host.certbot().join("live/$ssl_server_name");
        let before = server(host.port, NAME, &live);
        let after = server(host.port, &format!("{NAME} {names}"), &live);
        assert!(text.contains(&before));
        fs::write(&path, text.replace(&before, &after)).unwrap();
    };
    serve("www.example.org spare.example.org");
    let arguments = ["www.example.org", "--as", NAME];
    let words = ["doesn't cover spare.example.org, which nginx serves"];
    refused(&host, &arguments, 8, &words).await;
    serve("www.example.org");
    let workers = host.world.host.settled_workers().await;
    host.world.host.reload_nginx();
    eventually("the workers of www-data are gone", || async {
        (host.world.host.settled_workers().await != workers).then_some(())
    })
    .await;
    let (code, told) = host.adopt(&arguments).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 listener and name serve it"), "{told}");
}

#[tokio::test]
async fn a_configuration_that_is_named_by_a_relative_path_makes_the_same_link() {
    let host = adopting(NAME).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_certwell-agent"));
    command
        .current_dir(host.world.host.root())
        .args(["--config", "agent.toml", "adopt", NAME]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let link = fs::read_link(host.lineage()).unwrap();
    assert_eq!(link, host.world.host.live());
    assert_eq!(host.served(), Some(host.ours));
}

#[tokio::test]
async fn one_of_twins_is_not_replaced_by_another_of_the_same_kind() {
    let host = adopting(NAME).await;
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let certificate = CertificateParams::new(vec![NAME.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    lay_out(
        &host.certbot(),
        "rsa",
        &certificate.pem(),
        &key.serialize_pem(),
    );
    let rsa_only = free_port();
    let live = host.certbot().join("live");
    let twins = |port| {
        let twin = format!(
            "ssl_certificate {0}/fullchain.pem; ssl_certificate_key {0}/privkey.pem; server_name",
            live.join("rsa").display()
        );
        server(port, NAME, &live.join(NAME)).replace("server_name", &twin)
    };
    // Another listener with the twins, which chooses as a client with RSA alone does.
    let chosen = "ssl_protocols TLSv1.2; ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256; listen";
    let blocks = [twins(host.port), twins(rsa_only).replace("listen", chosen)].concat();
    host.world.host.write_nginx(true, &blocks);
    host.world.host.reload_nginx();
    let rsa = Fingerprint::of(certificate.der());
    eventually("the RSA twin is served", || async {
        (served_at(rsa_only) == Some(rsa)).then_some(())
    })
    .await;
    let words = ["has an ECDSA key", "the lineage's RSA key", "key-type"];
    refused(&host, &["rsa", "--as", NAME], 8, &words).await;
    assert_eq!(served_at(rsa_only), Some(rsa));
    host.world.host.write_nginx(true, &twins(host.port));
    reloaded(&host.world.host).await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "the twin of certwell's kind: {told}");
    assert_eq!(host.served(), Some(host.ours));
}

#[tokio::test]
async fn what_certbot_ran_after_a_renewal_is_told_and_so_is_a_certificate_that_expired_meanwhile() {
    let host = adopting(NAME).await;
    let conf = fs::read_to_string(host.conf("")).unwrap();
    fs::write(
        host.conf(""),
        format!("{conf}renew_hook = systemctl reload postfix\npre_hook = true\n"),
    )
    .unwrap();
    let hooks = host.certbot().join("renewal-hooks/deploy");
    fs::create_dir_all(&hooks).unwrap();
    for (name, mode) in [("tell-dovecot", 0o755), ("README", 0o644)] {
        fs::write(hooks.join(name), "").unwrap();
        fs::set_permissions(hooks.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    let expected = format!(
        "certbot ran `systemctl reload postfix` (renew_hook), {} after a renewal",
        hooks.join("tell-dovecot").display()
    );
    assert!(told.contains(&expected), "{told}");

    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert!(code == 0 && !told.contains("expired"), "{told}");
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    let (certificate, key) = self_signed(NAME, (-7_200, -3_600));
    let archive = host.certbot().join("archive").join(NAME);
    for kind in ["cert", "chain", "fullchain"] {
        fs::write(archive.join(format!("{kind}1.pem")), &certificate).unwrap();
    }
    fs::write(archive.join("privkey1.pem"), key).unwrap();
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    let remedy = format!("certbot renew --cert-name {NAME}");
    assert!(
        told.contains("its certificate expired at") && told.contains(&remedy),
        "{told}"
    );
}

#[tokio::test]
async fn the_inventory_knows_what_variables_lead_to_and_what_no_listener_uses() {
    let mut host = by_variable().await;
    let (certificate, key) = self_signed("idle.example.org", (-3_600, 86_400));
    let idle = host.world.host.path("idle.pem");
    fs::write(&idle, [certificate, key].concat()).unwrap();
    let idle = idle.display();
    let plain = format!(
        "server {{ listen {}; server_name idle; ssl_certificate {idle}; ssl_certificate_key {idle}; }}\n",
        free_port()
    );
    let path = host.world.host.path("nginx.conf");
    let text = fs::read_to_string(&path).unwrap();
    let http = "include ";
    fs::write(&path, text.replacen(http, &format!("{plain} {http}"), 1)).unwrap();
    host.world.host.stop_nginx();
    host.world.host.start_nginx().await;
    let (code, told) = host.verb(&["inventory", "--json"]).await;
    assert_eq!(code, 0, "{told}");
    let found: serde_json::Value = serde_json::from_str(&told).unwrap();
    let rows = found["certificates"].as_array().unwrap();
    let row = |source: &str| rows.iter().find(|row| row["source"] == source).unwrap();
    let theirs = row(&host.lineage().join("fullchain.pem").display().to_string());
    assert_eq!(theirs["managed_by"]["kind"], "certbot");
    assert_eq!(theirs["served"], "yes", "{theirs:#}");
    let handshake = &theirs["used_by"][0]["handshakes"][0];
    assert_eq!(handshake["name"], NAME);
    assert_eq!(handshake["fingerprint"], host.theirs.to_string());
    let by_variable = host.certbot().join("live/$ssl_server_name/fullchain.pem");
    let written = row(&by_variable.display().to_string());
    assert_eq!(written["served"], "unprobed", "{written:#}");
    assert_eq!(theirs["used_by"][0]["listeners"][0], host.port.to_string());
    let unused = row(&idle.to_string());
    assert_eq!(unused["served"], "unused");
    assert_eq!(unused["names"][0], "idle.example.org");
    assert_eq!(unused["used_by"][0]["names"][0], "idle");
    let (_, told) = host.verb(&["inventory"]).await;
    assert!(told.contains("which has no TLS listener"), "{told}");
}

#[tokio::test]
async fn certbot_s_directory_behind_a_link_is_known_by_both_its_paths() {
    let mut host = adopting(NAME).await;
    host.world.host.stop_nginx();
    let real = host.world.host.path("srv");
    fs::rename(host.certbot(), &real).unwrap();
    symlink("srv", host.certbot()).unwrap();
    let by_real = free_port();
    let blocks = [
        server(host.port, NAME, &host.lineage()),
        server(by_real, NAME, &real.join("live").join(NAME)),
    ];
    host.world.host.write_nginx(true, &blocks.concat());
    host.world.host.start_nginx().await;
    let (code, told) = host.adopt(&[NAME]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("2 listeners and names serve it"), "{told}");
    assert_eq!(served_at(by_real), Some(host.ours));
    let (code, told) = host.adopt(&[NAME, "--undo"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("2 listeners and names serve it"), "{told}");
    assert_eq!(served_at(by_real), Some(host.theirs));
}
