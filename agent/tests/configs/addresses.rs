//! Server blocks by address: each its own certificate, and the ones that another host has.

use std::{net::Ipv4Addr, net::TcpListener};

use crate::shape::Shape;

/// The address beside the host's own; all of 127.0.0.0/8 is on this machine.
fn beside(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b ^ 0x80, c, d)
}

fn block(listen: &str, name: &str, certificate: &str) -> String {
    format!(
        "server {{ listen {listen}; server_name {name}; ssl_certificate LIVE/{certificate}/fullchain.pem; \
         ssl_certificate_key LIVE/{certificate}/privkey.pem; return 204; }}\n"
    )
}

#[tokio::test]
async fn one_name_on_two_addresses_has_two_certificates() {
    let mut shape = Shape::new(&["one.example.org", "two.example.org", "any.example.org"]);
    let other = beside(shape.host.address).to_string();
    // One that nobody has on any address.
    let port = TcpListener::bind("0.0.0.0:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    let text = [
        block("ADDRESS:PORT ssl", "www.example.org", "one.example.org"),
        block("OTHER:PORT ssl", "www.example.org", "two.example.org"),
        // Takes every address that no block names.
        block("PORT ssl", "www.example.org", "any.example.org"),
        block("OTHER:8444 ssl default_server", "_", "any.example.org"),
    ];
    shape.file(
        "sites/a",
        &text
            .concat()
            .replace("OTHER", &other)
            .replace("PORT", &port),
    );
    shape.host.start().await;
    let shown: Vec<String> = shape
        .listeners()
        .await
        .iter()
        .map(|line| line.replace(&other, "OTHER").replace(&port, "PORT"))
        .collect();
    assert_eq!(
        shown,
        [
            "one.example.org | ADDRESS:PORT www.example.org | serves one.example.org",
            "two.example.org | OTHER:PORT www.example.org | serves two.example.org",
            "any.example.org | 127.0.0.1:PORT www.example.org | serves any.example.org",
            "any.example.org | OTHER:8444 any.example.org | serves any.example.org",
        ]
    );
}

#[tokio::test]
async fn where_two_blocks_have_one_name_the_first_answers_and_the_other_is_said() {
    let mut shape = Shape::new(&["one.example.org", "two.example.org"]);
    let text = [
        block("ADDRESS:8443 ssl", "www.example.org", "one.example.org"),
        block("ADDRESS:8443 ssl", "WWW.example.org", "two.example.org"),
    ];
    shape.file("sites/a", &text.concat());
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "one.example.org | ADDRESS:8443 www.example.org | serves one.example.org",
            "two.example.org | ADDRESS:8443 www.example.org | unprobed: the server block at sites/a:1 answers this name",
        ]
    );
}

#[tokio::test]
async fn ipv6_only() {
    let mut shape = Shape::new(&["six.example.org"]);
    let port = TcpListener::bind("[::1]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = [
        block(
            &format!("[::1]:{port} ssl"),
            "six.example.org *.six.example.org",
            "six.example.org",
        ),
        format!("server {{ listen [::1]:{port}; server_name six.example.org; }}\n")
            .replace(&port.to_string(), &(port ^ 1).to_string()),
    ];
    shape.file("sites/a", &text.concat());
    shape.host.start().await;
    let at = |name: &str| format!("six.example.org | [::1]:{port} {name} | serves six.example.org");
    assert_eq!(
        shape.listeners().await,
        [at("six.example.org"), at("certwell-probe.six.example.org")]
    );
    assert_eq!(shape.challenges(), ["sites/a:2 | none"]);
}

#[tokio::test]
async fn options_of_an_address_hold_for_every_block_on_it() {
    let mut shape = Shape::new(&["one.example.org", "two.example.org"]);
    let port = TcpListener::bind("[::]:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let text = [
        block(
            &format!("[::]:{port} ssl ipv6only=off"),
            "one.example.org",
            "one.example.org",
        ),
        block(
            &format!("[::]:{port}"),
            "two.example.org",
            "two.example.org",
        ),
    ];
    shape.file("sites/a", &text.concat());
    shape.host.start().await;
    let seen: Vec<String> = shape
        .listeners()
        .await
        .iter()
        .map(|line| {
            line.replace("127.0.0.1", "LOOPBACK")
                .replace("[::1]", "LOOPBACK")
        })
        .collect();
    let at = |name: &str| format!("{name} | LOOPBACK:{port} {name} | serves {name}");
    assert_eq!(seen, [at("one.example.org"), at("two.example.org")]);
}
