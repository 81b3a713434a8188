//! What `certwell-agent inventory` tells of a host.

use std::{fs, os::unix::fs::symlink};

use serde_json::Value;

use super::{
    faults::reloaded,
    fleet::self_signed,
    host::{NAME, free_port},
    lineage::{Adopting, adopting, lay_out, server},
};

async fn rows(host: &Adopting) -> Vec<Value> {
    let (code, told) = host.verb(&["inventory", "--json"]).await;
    assert_eq!(code, 0, "{told}");
    let found: Value = serde_json::from_str(&told).unwrap();
    found["certificates"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_a_terminal_would_obey_in_a_name_is_shown_and_not_sent_to_it() {
    let host = adopting(NAME).await;
    let (certificate, key) = self_signed(NAME, (-3_600, 86_400));
    let evil = "evil\u{1b}[2J\n  ! no";
    lay_out(&host.certbot(), evil, &certificate, &key);
    fs::remove_file(host.certbot().join("live").join(evil).join("privkey.pem")).unwrap();
    let (code, told) = host.verb(&["inventory"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
    let shown = "evil\\u{1b}[2J\\n  ! no/privkey.pem is gone";
    assert!(told.contains(shown), "{told}");
}

#[tokio::test]
async fn an_operator_s_link_to_a_lineage_is_another_name_of_it_before_and_after_it_is_adopted() {
    let host = adopting(NAME).await;
    let link = host.certbot().join("live/alias");
    symlink(NAME, &link).unwrap();
    let block = server(host.port, NAME, &link);
    host.world.host.write_nginx(true, &block);
    reloaded(&host.world.host).await;
    let file = link.join("fullchain.pem").display().to_string();
    let of = |kind: &str, rows: &[Value]| -> Vec<Value> {
        let is_of = |row: &&Value| row["managed_by"]["kind"] == kind;
        rows.iter().filter(is_of).cloned().collect()
    };
    let found = of("certbot", &rows(&host).await);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["managed_by"]["name"], NAME);
    assert_eq!(found[0]["used_by"][0]["file"], file.as_str());
    assert_eq!(found[0]["served"], "yes");

    let (code, told) = host.adopt(&[NAME]).await;
    assert!(code == 0 && told.contains("1 listener and name"), "{told}");
    let all = rows(&host).await;
    assert!(of("certbot", &all).is_empty(), "{all:#?}");
    let found = of("certwell", &all);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["managed_by"]["adopted"], serde_json::json!([NAME]));
    let mut used = found[0]["used_by"].as_array().unwrap().iter();
    assert!(used.any(|used| used["file"] == file.as_str()), "{found:#?}");
}

#[tokio::test]
async fn certificates_for_upstreams_are_told_as_such_and_trust_anchors_are_none_of_this_host_s() {
    let host = adopting(NAME).await;
    let (certificate, key) = self_signed("client.example.org", (-3_600, 86_400));
    let [client, anchor] = ["client.pem", "anchor.pem"].map(|file| host.world.host.path(file));
    fs::write(&client, [certificate.as_str(), key.as_str()].concat()).unwrap();
    fs::write(&anchor, certificate).unwrap();
    let (client, live) = (client.display().to_string(), host.lineage());
    let fullchain = live.join("fullchain.pem").display().to_string();
    let block = server(host.port, NAME, &live);
    let locations = format!(
        "ssl_client_certificate {anchor};\n\
         location /a {{ proxy_pass https://{to}; proxy_ssl_trusted_certificate {anchor};\n\
         proxy_ssl_certificate {client}; proxy_ssl_certificate_key {client}; }}\n\
         location /b {{ proxy_pass https://{to};\n\
         proxy_ssl_certificate {fullchain}; proxy_ssl_certificate_key {key}; }}\n server_name",
        anchor = anchor.display(),
        to = free_port(),
        key = live.join("privkey.pem").display(),
    );
    let block = block.replace("server_name", &locations);
    host.world.host.write_nginx(true, &block);
    reloaded(&host.world.host).await;
    let found = rows(&host).await;
    let of = |source: &str| found.iter().find(|row| row["source"] == source);
    let row = of(&client).unwrap();
    assert_eq!(row["served"], "upstream");
    assert_eq!(row["names"][0], "client.example.org");
    assert_eq!(row["problems"], serde_json::json!([]));
    let used = &row["used_by"][0];
    assert_eq!(used["role"], "upstream");
    assert_eq!(used["handshakes"], serde_json::json!([]));
    assert_eq!(of(&anchor.display().to_string()), None);
    // The lineage is both: what listeners serve is judged, and the other use isn't.
    let row = of(&fullchain).unwrap();
    assert_eq!(row["served"], "yes", "{row:#}");
    let roles: Vec<&str> = row["used_by"]
        .as_array()
        .unwrap()
        .iter()
        .map(|used| used["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["listener", "upstream"]);
    let (_, told) = host.verb(&["inventory"]).await;
    let at = host.world.host.path("nginx.conf");
    let words = format!("presented to upstreams ({}:", at.display());
    assert_eq!(told.matches(&words).count(), 2, "{told}");
}
