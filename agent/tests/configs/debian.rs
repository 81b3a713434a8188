//! A Debian host: sites that are linked into place, edited by certbot.

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::Path};

use certwell_agent::nginx::dump::listeners;

use crate::{fixture, host::PATIENCE, shape::Shape};

fn shape() -> (Shape, u16) {
    let shape = Shape::new(&["shop.example.org"]);
    let six = TcpListener::bind("[::1]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    shape
        .file(
            "available/shop",
            &fixture!("debian/available").replace("SIX", &six.to_string()),
        )
        .file(
            "letsencrypt/options-ssl-nginx.conf",
            "ssl_session_cache shared:le_nginx_SSL:1m;\nssl_session_timeout 1440m;\nssl_protocols TLSv1.2 TLSv1.3;\n",
        );
    let root = shape.host.path("");
    symlink("../available/shop", root.join("sites/shop")).unwrap();
    // As after `adopt`: certbot's directory is a link to ours.
    fs::create_dir_all(root.join("letsencrypt/live")).unwrap();
    symlink(
        root.join("live/shop.example.org"),
        root.join("letsencrypt/live/shop.example.org"),
    )
    .unwrap();
    (shape, six)
}

#[tokio::test]
async fn sites_that_certbot_edited_keep_their_lines() {
    let (mut shape, six) = shape();
    shape.host.start().await;
    // By the child: it follows the links that lead from certbot's paths to ours.
    let agent = Path::new(env!("CARGO_BIN_EXE_certwell-agent"));
    let parsed = listeners(agent, &shape.host.nginx().invocation, PATIENCE)
        .await
        .unwrap();
    let mut expected = Vec::new();
    for address in [format!("[::1]:{six}"), "ADDRESS:8443".to_owned()] {
        for name in ["shop.example.org", "www.shop.example.org"] {
            expected.push(format!(
                "shop.example.org | {address} {name} | serves shop.example.org"
            ));
        }
    }
    assert_eq!(shape.probed(&parsed).await, expected);
    // certbot's `if` comes first; the file is named as nginx reads it, by its link.
    assert_eq!(
        shape.challenges(),
        ["sites/shop:14 | none after sites/shop:15"]
    );
}
