//! Certificates by variable, and what isn't a file.

use crate::shape::Shape;

#[tokio::test]
async fn a_certificate_for_each_name_that_is_asked_for() {
    let mut shape = Shape::new(&["a.example.org", "b.example.org", "c.example.org"]);
    shape
        .file(
            "conf.d/maps.conf",
            "map $ssl_server_name $chain { default LIVE/b.example.org/fullchain.pem; c.example.org LIVE/c.example.org/fullchain.pem; }\n\
             map $ssl_server_name $secret { default LIVE/b.example.org/privkey.pem; c.example.org LIVE/c.example.org/privkey.pem; }\n\
             map $ssl_server_name $nothing { default \"\"; }\n",
        )
        .file(
            "sites/a",
            "server { listen ADDRESS:8443 ssl default_server;\n\
               ssl_certificate LIVE/$ssl_server_name/fullchain.pem; ssl_certificate_key LIVE/$ssl_server_name/privkey.pem; }\n\
             server { listen ADDRESS:8443 ssl; server_name b.example.org;\n\
               ssl_certificate LIVE/c.example.org/fullchain.pem; ssl_certificate_key LIVE/c.example.org/privkey.pem; }\n\
             server { listen ADDRESS:8444 ssl; server_name a.example.org www.example.org;\n\
               ssl_certificate LIVE/$server_name/fullchain.pem; ssl_certificate_key LIVE/${server_name}/privkey.pem; }\n\
             server { listen ADDRESS:8445 ssl; server_name c.example.org d.example.org;\n\
               ssl_certificate $chain; ssl_certificate_key $secret; }\n",
        );
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            // b.example.org is answered by the next block, which has another certificate.
            "a.example.org | ADDRESS:8443 a.example.org | serves a.example.org",
            "c.example.org | ADDRESS:8443 c.example.org | serves c.example.org",
            "c.example.org | ADDRESS:8443 b.example.org | serves c.example.org",
            "a.example.org | ADDRESS:8444 a.example.org | serves a.example.org",
            "a.example.org | ADDRESS:8444 www.example.org | serves a.example.org",
            "b.example.org | ADDRESS:8445 d.example.org | serves b.example.org",
            "c.example.org | ADDRESS:8445 c.example.org | serves c.example.org",
        ]
    );
}

#[tokio::test]
async fn what_only_nginx_knows_is_unprobed_and_what_is_no_file_is_passed_over() {
    let mut shape = Shape::new(&["a.example.org"]);
    shape.file(
        "sites/a",
        "map $remote_addr $where { default LIVE/a.example.org; }\n\
         map $remote_addr $other { default ROOT/elsewhere; }\n\
         map $remote_addr $text { default \"\"; }\n\
         server { listen ADDRESS:8443 ssl; server_name a; ssl_certificate $where/fullchain.pem; ssl_certificate_key $where/privkey.pem; }\n\
         server { listen ADDRESS:8444 ssl; server_name a; ssl_certificate $other/fullchain.pem; ssl_certificate_key $other/privkey.pem; }\n\
         server { listen ADDRESS:8445 ssl; server_name a; ssl_certificate data:$text; ssl_certificate_key data:$text; }\n\
         server { listen ADDRESS:8446 ssl; server_name a; ssl_certificate LIVE/a.example.org/fullchain.pem; ssl_certificate_key LIVE/a.example.org/privkey.pem; }\n",
    );
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "a.example.org | ADDRESS:8443 - | unprobed: its certificate path holds variables",
            "a.example.org | ADDRESS:8446 a | serves a.example.org",
        ]
    );
}
