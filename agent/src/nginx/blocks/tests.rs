//! What server blocks a dump holds.

use super::*;
use proptest::prelude::*;

fn http(body: &str) -> Parsed {
    parse(&format!(
        "# configuration file /etc/nginx/nginx.conf:\nhttp {{\n{body}\n}}\n"
    ))
}

#[test]
fn certificates_are_inherited_as_a_whole_and_twins_stay_paired() {
    let parsed = http(
        "ssl_certificate a.pem; ssl_certificate_key a.key;\n\
         server { listen 443 ssl; }\n\
         server { listen 443 ssl; ssl_certificate /live/m/f.pem; ssl_certificate_key /live/m/k.pem;\n\
           ssl_certificate /live/r/f.pem; ssl_certificate_key /live/r/k.pem; }\n\
         server { listen 443; ssl_certificate /c/$ssl_server_name.pem; ssl_certificate_key data:$key; }",
    );
    let shown = |n: usize| format!("{:?}", parsed.servers[n].certificates);
    assert!(shown(0).contains("/etc/nginx/a.pem") && shown(0).contains("/etc/nginx/a.key"));
    assert_eq!(parsed.servers[1].certificates.len(), 2);
    assert!(shown(1).contains("/live/r/f.pem") && !shown(1).contains("a.pem"));
    assert_eq!(
        parsed.servers[2].certificates[0].certificate,
        CertificateSource::Variable("/c/$ssl_server_name.pem".into())
    );
    assert_eq!(
        parsed.servers[2].certificates[0].key,
        CertificateSource::Data
    );
    assert!(
        parsed.servers[2].listens[0].tls,
        "ssl is a property of the address"
    );
}

#[test]
fn whom_workers_run_as_is_read_where_it_is_said_be_it_in_an_included_file() {
    let user = |text: &str| {
        let dump = format!(
            "# configuration file /n/nginx.conf:\ninclude more.conf;\nhttp {{ user x; }}\n\n# configuration file /n/more.conf:\n{text}\n"
        );
        let user = parse(&dump).user?;
        Some((user.name, user.group))
    };
    assert_eq!(user("user www;"), Some(("www".into(), None)));
    let grouped = Some(("www".into(), Some("tls".into())));
    assert_eq!(user("user www tls;"), grouped);
    assert_eq!(user("worker_processes 1;"), None);
}

#[test]
fn certificates_for_upstreams_are_found_in_whatever_block_and_trust_anchors_are_none() {
    let parsed = parse(
        "# configuration file /n/nginx.conf:\n\
         http {\n proxy_ssl_certificate a.pem; ssl_client_certificate ca.pem; proxy_ssl_trusted_certificate ca.pem;\n\
         server { location / {\n grpc_ssl_certificate /b.pem; if ($x) {\n proxy_ssl_certificate \"\"; } } }\n\
         server { location /u { include up.conf; } } }\n\
         stream { server {\n proxy_ssl_certificate data:x; proxy_ssl_certificate_key k.pem; } }\n\n\
         # configuration file /n/up.conf:\nuwsgi_ssl_certificate /c/$host.pem;\n",
    );
    let told = |named: &Presented| format!("{} {:?}", named.at, named.certificate);
    let found: Vec<String> = parsed.presented.iter().map(told).collect();
    assert_eq!(
        found,
        [
            "/n/nginx.conf:2 File(\"/n/a.pem\")",
            "/n/nginx.conf:4 File(\"/b.pem\")",
            "/n/nginx.conf:8 Data",
            "/n/up.conf:1 Variable(\"/c/$host.pem\")",
        ]
    );
}

#[test]
fn names_of_every_kind() {
    let parsed =
        http("server { server_name WWW.a.org *.b.org .c.org d.* ~^x\\.(?<y>.+)$ \"\" _; }");
    use ServerName::*;
    assert_eq!(
        parsed.servers[0].names,
        [
            Exact("www.a.org".into()),
            Leading("b.org".into()),
            Dotted("c.org".into()),
            Trailing("d".into()),
            Regex("^x\\.(?<y>.+)$".into()),
            Exact("_".into())
        ]
    );
}

#[test]
fn the_reader_decides_what_the_host_is_called_and_where_a_block_without_listen_is() {
    let dump =
        "# configuration file conf/nginx.conf:\nhttp { server { server_name $hostname; } }\n";
    let read = |hostname: &str, is_root: bool| {
        let reader = Reader {
            directory: Path::new("/srv"),
            hostname,
            is_root,
        };
        let server = parse_by(dump, reader).servers.remove(0);
        let port = server.listens[0].address.port();
        (server.at.to_string(), server.names, port)
    };
    let named = |name: &str| vec![ServerName::Exact(name.to_owned())];
    let at = "/srv/conf/nginx.conf:1";
    assert_eq!(read("Sally", true), (at.into(), named("sally"), Some(80)));
    assert_eq!(read("jan", false), (at.into(), named("jan"), Some(8_000)));
}

#[test]
fn the_include_is_found_before_or_after_a_redirect() {
    let challenge = "if ($certwell_acme_reply) { return 200 $certwell_acme_reply; }";
    let dump = format!(
        "# configuration file /etc/nginx/nginx.conf:\nhttp {{\n  include sites/*;\n}}\n\n\
         # configuration file /etc/nginx/sites/a:\nserver {{\n  listen 80;\n  include snippets/certwell-acme.conf;\n  return 301 https://$host$request_uri;\n}}\n\
         server {{\n  return 301 https://$host$request_uri;\n  include snippets/certwell-acme.conf;\n}}\n\
         server {{\n  if ($host = a.org) {{ return 301 https://$host$request_uri; }}\n  location / {{ return 404; }}\n}}\n\
         server {{\n  location / {{ return 404; }}\n}}\n\
         server {{\n  break;\n  include snippets/certwell-acme.conf;\n}}\n\n\
         # configuration file /etc/nginx/snippets/certwell-acme.conf:\n{challenge}\n"
    );
    let parsed = parse(&dump);
    let shown: Vec<_> = parsed
        .servers
        .iter()
        .map(|s| {
            let line = |place: &Option<Place>| place.as_ref().map(|place| place.line);
            (
                s.at.to_string(),
                line(&s.challenge_include),
                line(&s.redirect_before_include),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("/etc/nginx/sites/a:1".to_owned(), Some(3), None),
            ("/etc/nginx/sites/a:6".to_owned(), Some(8), Some(7)),
            ("/etc/nginx/sites/a:10".to_owned(), None, Some(11)),
            ("/etc/nginx/sites/a:14".to_owned(), None, None),
            ("/etc/nginx/sites/a:17".to_owned(), Some(19), Some(18)),
        ]
    );
}

#[test]
fn stream_servers_count_when_they_speak_tls() {
    let parsed = parse(
        "# configuration file /n.conf:\nstream {\n server { listen 993 ssl proxy_protocol; ssl_certificate c; ssl_certificate_key k; proxy_pass x; }\n server { listen 53 udp; }\n}\n",
    );
    assert_eq!(parsed.servers.len(), 1);
    assert!(parsed.servers[0].listens[0].proxy_protocol);
}

#[test]
fn what_is_not_understood_stops_nothing() {
    let parsed = http(
        "frobnicate on { x; }\n server { listen 99999; listen 127.0.0.1:81; strange \"words\" 'of' $a$b; }",
    );
    assert_eq!(parsed.servers[0].listens.len(), 1);
    assert_eq!(parsed.warnings.len(), 1);
    assert!(
        parsed.warnings[0].starts_with("/etc/nginx/nginx.conf:3"),
        "{:?}",
        parsed.warnings
    );
}

proptest! {
    #[test]
    fn no_configuration_makes_it_panic(
        words in proptest::collection::vec("server|listen|http|stream|ssl_certificate|include|\\{|\\}|;|if|return|[\\[\\]:*~.0-9a-z$/\"'-]{1,12}|\n", 0..80)
    ) {
        let _ = http(&words.join(" "));
    }
}
