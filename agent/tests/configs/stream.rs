//! `stream` blocks: TLS for mail and the like, beside what nginx serves over HTTP.

use std::fs;

use crate::shape::Shape;

const MODULE: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";

/// A listener that ends TLS, one with a PROXY header before it, one that looks at the name only and passes the bytes
/// on, UDP, plain TCP, and one on an address of another host; the certificate is said once, at stream level.
const STREAM: &str = "stream {
  upstream web { server ADDRESS:8443; }
  map $ssl_preread_server_name $backend { hostnames; default web; .example.org web; }
  ssl_certificate LIVE/mail.example.org/fullchain.pem;
  ssl_certificate_key LIVE/mail.example.org/privkey.pem;
  server { listen ADDRESS:8993 ssl; listen ADDRESS:8994 ssl proxy_protocol; proxy_pass web; }
  server { listen ADDRESS:8995 udp; proxy_pass web; }
  server { listen ADDRESS:8996; ssl_preread on; proxy_pass $backend; }
  server { listen ADDRESS:8997; proxy_pass web; }
}
";

#[tokio::test]
async fn stream_listeners_that_end_tls_are_proven_and_others_are_left_alone() {
    let mut shape = Shape::new(&["mail.example.org", "www.example.org"]);
    shape.file(
        "sites/a",
        "server { listen ADDRESS:8443 ssl; server_name www.example.org; \
         ssl_certificate LIVE/www.example.org/fullchain.pem; ssl_certificate_key LIVE/www.example.org/privkey.pem; }\n",
    );
    let http = fs::read_to_string(shape.host.path("nginx.conf")).unwrap();
    shape.file("nginx.conf", &format!("{MODULE}\n{http}{STREAM}"));
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "www.example.org | ADDRESS:8443 www.example.org | serves www.example.org",
            "mail.example.org | ADDRESS:8993 mail.example.org | serves mail.example.org",
            "mail.example.org | ADDRESS:8994 mail.example.org proxied | serves mail.example.org",
        ]
    );
    // None of them speaks HTTP: nothing asks for an include there.
    assert_eq!(shape.challenges(), Vec::<String>::new());
}
