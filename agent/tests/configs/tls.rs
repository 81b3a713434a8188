//! Listeners of every kind that Debian's nginx knows.

use certwell_agent::nginx::KeyAlgorithm;

use crate::shape::Shape;

const OURS: &str = "ssl_certificate LIVE/a.example.org/fullchain.pem; ssl_certificate_key LIVE/a.example.org/privkey.pem;";

#[tokio::test]
async fn proxied_listeners_unix_sockets_and_a_default_that_rejects() {
    let mut shape = Shape::new(&["a.example.org"]);
    shape.file(
        "sites/a",
        &format!(
            "server {{ listen ADDRESS:8443 ssl default_server; listen ADDRESS:8445 ssl; ssl_reject_handshake on; }}\n\
             server {{ listen ADDRESS:8443 ssl; server_name a.example.org; {OURS} }}\n\
             server {{ listen ADDRESS:8444 ssl proxy_protocol; listen unix:ROOT/a.sock ssl; \
             listen unix:ROOT/p.sock ssl proxy_protocol; server_name a.example.org; {OURS} }}\n\
             server {{ listen ADDRESS:8445; server_name a.example.org; ssl_reject_handshake on; {OURS} }}\n\
             server {{ listen ADDRESS:8081 proxy_protocol; server_name a.example.org; }}\n"
        ),
    );
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "a.example.org | ADDRESS:8443 a.example.org | serves a.example.org",
            "a.example.org | ADDRESS:8444 a.example.org proxied | serves a.example.org",
            "a.example.org | unix:a.sock a.example.org | serves a.example.org",
            "a.example.org | unix:p.sock a.example.org proxied | serves a.example.org",
            // `ssl` is said by another block on the same address.
            "a.example.org | ADDRESS:8445 a.example.org | rejects",
        ]
    );
    assert_eq!(shape.challenges(), ["sites/a:5 | none"]);
}

#[tokio::test]
async fn twins_inherited_from_http_level() {
    let mut shape = Shape::new(&["ec.example.org"]);
    shape.certificate(
        "rsa.example.org",
        &rcgen::PKCS_RSA_SHA256,
        KeyAlgorithm::Rsa,
    );
    shape.file(
        "conf.d/tls.conf",
        "ssl_certificate LIVE/ec.example.org/fullchain.pem; ssl_certificate_key LIVE/ec.example.org/privkey.pem;\n\
         ssl_certificate LIVE/rsa.example.org/fullchain.pem; ssl_certificate_key LIVE/rsa.example.org/privkey.pem;\n",
    );
    shape.file(
        "sites/a",
        "server { listen ADDRESS:8443 ssl; server_name both.example.org; }\n\
         server { listen ADDRESS:8443 ssl; server_name one.example.org; \
         ssl_certificate LIVE/rsa.example.org/fullchain.pem; ssl_certificate_key LIVE/rsa.example.org/privkey.pem; }\n",
    );
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "ec.example.org | ADDRESS:8443 both.example.org Ecdsa | serves ec.example.org",
            "rsa.example.org | ADDRESS:8443 both.example.org Rsa | serves rsa.example.org",
            "rsa.example.org | ADDRESS:8443 one.example.org | serves rsa.example.org",
        ]
    );
}

#[tokio::test]
async fn names_by_variable_wildcard_and_nobody_s() {
    let mut shape = Shape::new(&["a.example.org"]);
    shape.file(
        "sites/a",
        &format!(
            "server {{ listen ADDRESS:8443 ssl; server_name .a.example.org \"\" a.example.*; {OURS} }}\n\
             server {{ listen ADDRESS:8443 ssl; server_name $hostname; {OURS} }}\n\
             server {{ listen ADDRESS:8443 ssl; server_name A.Example.NET b.example.net.; {OURS} }}\n\
             server {{ listen ADDRESS:8443 ssl; server_name c.example.net.; {OURS} }}\n"
        ),
    );
    shape.host.start().await;
    let at = |name: &str| format!("a.example.org | ADDRESS:8443 {name} | serves a.example.org");
    let hostname = nix::sys::utsname::uname().unwrap();
    let hostname = hostname.nodename().to_str().unwrap().to_lowercase();
    assert_eq!(
        shape.listeners().await,
        [
            at("a.example.org"),
            at("certwell-probe.a.example.org"),
            at("a.example.certwell-probe"),
            at(&hostname),
            at("a.example.net"),
            "a.example.org | ADDRESS:8443 - | unprobed: it has no name that can be asked for, and is not the default server of this address".into(),
        ]
    );
}
