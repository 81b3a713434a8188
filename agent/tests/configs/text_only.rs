//! What Debian's nginx doesn't know, or has no module for: such dumps are read, not run.

use certwell_agent::nginx::parse;

use crate::shape::Shape;

/// The dump of a newer nginx.
const NEWER: &str = "# configuration file /etc/nginx/nginx.conf:
load_module modules/ngx_stream_module.so;
quic_bpf on;
frobnicate { on \"it's\"; }
http {
  http2 on; http3 on;
  ssl_certificate_cache max=1000 inactive=20s valid=1m;
  server {
    listen ADDRESS:8443 ssl;
    listen ADDRESS:8443 quic reuseport;
    listen [::1]:8443 quic;
    server_name a.example.org;
    ssl_certificate LIVE/a.example.org/fullchain.pem;
    ssl_certificate_key store:pkcs11:token=here;
    add_header Alt-Svc 'h3=\":443\"; ma=86400';
  }
  server { listen ADDRESS:8444 quic; server_name b.example.org; ssl_certificate LIVE/a.example.org/fullchain.pem; ssl_certificate_key k; }
  server { listen ADDRESS:8445 ssl; ssl_certificate store:pkcs11:token=here; ssl_certificate_key store:pkcs11:token=here; }
  server { listen ADDRESS:8446 ssl multipath fancy=new; server_name c.example.org; acme_certificate someone; ssl_certificate LIVE/a.example.org/fullchain.pem; ssl_certificate_key k; }
}
stream {
  upstream mail { server 127.0.0.1:143; }
  map $ssl_preread_server_name $backend { hostnames; default mail; .example.org mail; }
  ssl_certificate LIVE/a.example.org/fullchain.pem;
  ssl_certificate_key k;
  server { listen ADDRESS:993 ssl proxy_protocol; proxy_pass mail; }
  server { listen ADDRESS:8080 udp; proxy_pass mail; }
  server { listen ADDRESS:8447; ssl_preread on; proxy_pass $backend; }
  server { listen 203.0.113.9:993 ssl; proxy_pass mail; }
}
mail {
  server_name mail.example.org;
  ssl_certificate LIVE/a.example.org/fullchain.pem;
  ssl_certificate_key k;
  server { listen ADDRESS:995 ssl; protocol pop3; server_name a.example.org; }
  server { listen ADDRESS:465; protocol smtp; ssl on; }
  server { listen ADDRESS:587; protocol smtp; starttls on; }
  server { listen ADDRESS:110; protocol pop3; }
}

";

#[tokio::test]
async fn quic_stream_and_mail_listeners_are_found_and_said() {
    let shape = Shape::new(&["a.example.org"]);
    let parsed = parse(&shape.filled(NEWER));
    assert_eq!(parsed.warnings, Vec::<String>::new());
    // Nothing listens there: only what it would take is shown.
    let shown: Vec<String> = shape
        .probed(&parsed)
        .await
        .iter()
        .map(|line| line.split(" | down").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        shown,
        [
            "a.example.org | ADDRESS:8443 a.example.org",
            "a.example.org | ADDRESS:8443 - | unprobed: it speaks QUIC",
            "a.example.org | [::1]:8443 - | unprobed: it speaks QUIC",
            "a.example.org | ADDRESS:8444 - | unprobed: it speaks QUIC",
            "a.example.org | ADDRESS:8446 c.example.org",
            "a.example.org | ADDRESS:993 a.example.org proxied",
            "a.example.org | 203.0.113.9:993 - | elsewhere",
            "a.example.org | ADDRESS:995 a.example.org",
            "a.example.org | ADDRESS:465 a.example.org",
            "a.example.org | ADDRESS:587 - | unprobed: TLS begins by a command of its protocol (starttls)",
        ]
    );
}
