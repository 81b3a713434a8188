//! HTTP-01, answered by nginx itself.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use certwell_agent::nginx::{
    Ask, Challenge, Verdict, addresses,
    challenge_map::{render, write},
    preflight::preflight,
    reload::{Waited, reload, wait_for_new_workers},
};
use certwell_proto::v1;
use tokio::time::Instant;

use crate::host::{Host, PATIENCE, wait_until};

pub(crate) const PRINT: &str = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

pub(crate) fn challenges(names: &[&str]) -> String {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    render(&[Challenge::from_wire(&v1::Challenge {
        thumbprint: PRINT.into(),
        names,
    })
    .unwrap()])
}

fn ask(names: &[&str], port: u16) -> Ask {
    Ask::from_wire(&v1::PreflightRequest {
        id: "1".into(),
        certificate: "media.example.org".into(),
        token: TOKEN.into(),
        thumbprint: PRINT.into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        port: port.into(),
    })
    .unwrap()
}

/// Status line and body of a bare GET.
pub(crate) fn get(host: &Host, name: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(host.socket(8080)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap();
    (status.to_owned(), body.to_owned())
}

/// Writes the map, reloads, and waits until nobody serves by the old one.
pub(crate) async fn load(host: &Host, text: &str) {
    let (settings, before) = (host.settings(), host.master());
    write(&settings.challenge_map, text).unwrap();
    reload(&settings, &before, PATIENCE).await.unwrap();
    let waited = wait_for_new_workers(&settings, &before, Instant::now() + PATIENCE)
        .await
        .unwrap();
    assert!(matches!(waited, Waited::New(_)), "{waited:?}");
    wait_until("the old workers are gone", async || {
        let workers = host.master().workers;
        workers
            .iter()
            .all(|worker| !before.workers.contains(worker))
    })
    .await;
}

pub(crate) async fn judge(host: &Host, names: &[&str]) -> Verdict {
    let local: [IpAddr; 1] = [host.address.into()];
    preflight(&ask(names, 8080), &host.parsed().servers, &local).await
}

#[tokio::test]
async fn nginx_answers_for_its_own_names_ahead_of_a_redirect_and_for_no_others() {
    let host = Host::started(&[(
        "a",
        "server { listen ADDRESS:8080; include snippets/certwell-acme.conf; return 301 https://$host$request_uri;\n\
           location ~ /\\. { deny all; }\n  location /.well-known/acme-challenge/ { return 404; } }",
    )])
    .await;
    let path = format!("/.well-known/acme-challenge/{TOKEN}");
    let answer = ("200".to_owned(), format!("{TOKEN}.{PRINT}"));
    assert_eq!(
        get(&host, "media.example.org", &path).0,
        "301",
        "the map is empty yet"
    );

    let address = host.address.to_string();
    load(
        &host,
        &challenges(&["media.example.org", &address, "*.example.org"]),
    )
    .await;
    for name in [
        "media.example.org",
        "MEDIA.example.org",
        "media.example.org:8080",
        &address,
    ] {
        assert_eq!(get(&host, name, &path), answer, "{name}");
    }
    let strange = [
        ("other.example.org", path.clone()),
        ("mediaxexample.org", path.clone()),
        ("xmedia.example.org", path.clone()),
        ("media.example.org.evil.net", path.clone()),
        ("media.example.org", format!("{path}/more")),
        (
            "media.example.org",
            "/.well-known/acme-challenge/short".to_owned(),
        ),
        (
            "media.example.org",
            format!("/.well-known/acme-challenge/{TOKEN}%3Cscript%3E"),
        ),
        ("media.example.org", "/".to_owned()),
    ];
    for (name, path) in strange {
        assert_eq!(get(&host, name, &path).0, "301", "{name} {path}");
    }
}

#[tokio::test]
async fn a_map_of_very_many_names_is_taken_by_nginx() {
    let host = Host::started(&[(
        "a",
        "server { listen ADDRESS:8080; include snippets/certwell-acme.conf; }",
    )])
    .await;
    let names: Vec<String> = (0..1000)
        .map(|n| format!("a-rather-long-label-of-some-customer-{n}.example.org"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    load(&host, &challenges(&names)).await;
    for name in [names[0], names[499], names[999]] {
        assert_eq!(
            get(&host, name, &format!("/.well-known/acme-challenge/{TOKEN}")).0,
            "200",
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_preflight_passes_where_the_ca_would() {
    let host = Host::started(&[
        ("a", "server { listen ADDRESS:8080; server_name media.example.org; include snippets/certwell-acme.conf; return 301 https://$host$request_uri; }"),
        ("b", "server { listen ADDRESS:8080; server_name www.example.org; location / { return 302 http://media.example.org:8080$request_uri; } }"),
    ])
    .await;
    let names = ["media.example.org", "www.example.org", "*.example.org"];
    load(&host, &challenges(&names[..1])).await;
    // www has no include of its own, yet its redirect leads to a name of the same certificate that answers.
    assert_eq!(judge(&host, &names).await, Verdict::Pass);
}

#[tokio::test]
async fn a_listener_that_wants_a_proxy_header_gets_one_after_a_redirect_too() {
    let host = Host::started(&[
        ("a", "server { listen ADDRESS:8080 proxy_protocol; server_name media.example.org; include snippets/certwell-acme.conf; }"),
        ("b", "server { listen ADDRESS:8079; server_name media.example.org; return 302 http://media.example.org:8080$request_uri; }"),
    ])
    .await;
    load(&host, &challenges(&["media.example.org"])).await;
    assert_eq!(judge(&host, &["media.example.org"]).await, Verdict::Pass);
    host.site("b", "server { listen ADDRESS:8080; server_name www.example.org; location / { return 302 http://media.example.org:8080$request_uri; } }");
    load(&host, &challenges(&["media.example.org"])).await;
    let names = ["media.example.org", "www.example.org"];
    assert_eq!(judge(&host, &names).await, Verdict::Pass);
}

#[tokio::test]
async fn a_missing_or_late_include_is_wrong_with_file_and_line() {
    let host = Host::started(&[
        ("a", "server {\n  listen ADDRESS:8080;\n  server_name media.example.org;\n  return 301 https://$host:1234$request_uri;\n}\n"),
        ("b", "server {\n  listen ADDRESS:8080;\n  server_name late.example.org;\n  if ($host) { return 302 ftp://$host/; }\n  include snippets/certwell-acme.conf;\n}\n"),
        ("c", "server {\n  listen ADDRESS:8080;\n  server_name page.example.org;\n  location / { return 200 \"<html>\\n\"; }\n}\n"),
    ])
    .await;
    load(
        &host,
        &challenges(&["media.example.org", "late.example.org", "page.example.org"]),
    )
    .await;
    let site = |name: &str| host.path("sites").join(name).display().to_string();
    let at = host.socket(8080);
    let Verdict::Wrong(said) = judge(&host, &["media.example.org"]).await else {
        panic!("passed")
    };
    assert_eq!(
        said,
        format!(
            "media.example.org at {at}: 301 to \"https://media.example.org:1234/.well-known/acme-challenge/ev…\" came back, \
             where no CA follows; add \"include snippets/certwell-acme.conf;\" as the first line of the server block at {}:1",
            site("a")
        )
    );
    let Verdict::Wrong(said) = judge(&host, &["late.example.org"]).await else {
        panic!("passed")
    };
    assert!(
        said.contains("302 to \"ftp://late.example.org/\" came back"),
        "{said}"
    );
    assert!(
        said.ends_with(&format!(
            "at {b}:5 comes after the redirect at {b}:4 and loses: make it the first line of the server block at {b}:1",
            b = site("b")
        )),
        "{said}"
    );
    let Verdict::Wrong(said) = judge(&host, &["page.example.org"]).await else {
        panic!("passed")
    };
    assert!(
        said.contains("200 with \"<html>\" came back; add"),
        "{said}"
    );

    // One wrong name makes the whole ask wrong, however many pass.
    host.site("a", "server { listen ADDRESS:8080; server_name media.example.org; include snippets/certwell-acme.conf; }");
    load(
        &host,
        &challenges(&["media.example.org", "late.example.org"]),
    )
    .await;
    assert_eq!(judge(&host, &["media.example.org"]).await, Verdict::Pass);
    assert!(matches!(
        judge(&host, &["media.example.org", "late.example.org"]).await,
        Verdict::Wrong(_)
    ));
}

#[tokio::test]
async fn another_accounts_answer_and_endless_redirects_are_wrong() {
    let host = Host::started(&[
        ("a", "server { listen ADDRESS:8080; server_name media.example.org; include snippets/certwell-acme.conf; }"),
        ("b", "server { listen ADDRESS:8080; server_name round.example.org; return 302 /round; }"),
    ])
    .await;
    load(
        &host,
        &challenges(&["media.example.org"]).replace(PRINT, &PRINT.replace('L', "M")),
    )
    .await;
    let Verdict::Wrong(said) = judge(&host, &["media.example.org"]).await else {
        panic!("passed")
    };
    assert!(
        said.contains("200 with") && said.contains("has the include"),
        "{said}"
    );
    let Verdict::Wrong(said) = judge(&host, &["round.example.org"]).await else {
        panic!("passed")
    };
    assert!(said.contains("redirects"), "{said}");
}

#[tokio::test]
async fn a_port_where_nginx_does_not_listen_is_wrong_and_so_is_a_stopped_nginx() {
    let mut host = Host::started(&[(
        "a",
        "server { listen ADDRESS:8080; include snippets/certwell-acme.conf; }",
    )])
    .await;
    let servers = host.parsed().servers;
    let local = addresses::local().unwrap();
    let Verdict::Wrong(said) =
        preflight(&ask(&["media.example.org"], 8079), &servers, &local).await
    else {
        panic!("passed");
    };
    assert!(
        said.contains("port 8079") && said.contains("certwell-port80.conf"),
        "{said}"
    );
    host.stop();
    let Verdict::Wrong(said) =
        preflight(&ask(&["media.example.org"], 8080), &servers, &local).await
    else {
        panic!("passed");
    };
    assert!(said.contains("refused"), "{said}");
    // Nothing answered: what the include would do is beside the point.
    assert!(!said.contains("include"), "{said}");
}

#[tokio::test]
async fn a_redirect_to_https_is_followed_with_any_certificate() {
    let mut host = Host::new(&[]);
    if std::net::TcpListener::bind(host.socket(443)).is_err() {
        skipped("port 443 is not ours to take on this machine (needs root)");
        return;
    }
    host.certificate("media.example.org", &rcgen::PKCS_ECDSA_P256_SHA256);
    host.site(
        "a",
        "server { listen ADDRESS:8080; server_name media.example.org; return 301 https://$host$request_uri; }\n\
         server { listen ADDRESS:443 ssl; server_name media.example.org; include snippets/certwell-acme.conf;\n\
           ssl_certificate LIVE/media.example.org/fullchain.pem; ssl_certificate_key LIVE/media.example.org/privkey.pem; }",
    );
    host.start().await;
    load(&host, &challenges(&["media.example.org"])).await;
    assert_eq!(judge(&host, &["media.example.org"]).await, Verdict::Pass);
}

/// Not by `eprintln!`, which is heard only when a test fails.
fn skipped(why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
