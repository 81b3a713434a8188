//! Includes within includes, files under two names, and words that look like something else.

use crate::{fixture, shape::Shape};

const TLS: &str =
    "ssl_certificate LIVE/NAME/fullchain.pem; ssl_certificate_key LIVE/NAME/privkey.pem;\n";

#[tokio::test]
async fn globs_within_globs_in_the_order_of_nginx() {
    let mut shape = Shape::new(&[
        "first.example.org",
        "second.example.org",
        "third.example.org",
    ]);
    shape.file("conf.d/vhosts.conf", "include vhosts/*/[!_]*.conf;\n");
    // Sorted by bytes `-` and `.` come before the slash: nginx's default server is the one in `a-b`.
    for (directory, name) in [
        ("a", "third.example.org"),
        ("a-b", "first.example.org"),
        ("a.b", "second.example.org"),
    ] {
        shape
            .file(
                &format!("vhosts/{directory}/site.conf"),
                &format!("server {{ listen ADDRESS:8443 ssl; include vhosts/{directory}/inner/*.inc; }}\n"),
            )
            .file(&format!("vhosts/{directory}/inner/tls.inc"), &TLS.replace("NAME", name))
            .file(&format!("vhosts/{directory}/_off.conf"), "no configuration");
    }
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "first.example.org | ADDRESS:8443 first.example.org | serves first.example.org",
            "second.example.org | ADDRESS:8443 - | unprobed: it has no name that can be asked for, and is not the default server of this address",
            "third.example.org | ADDRESS:8443 - | unprobed: it has no name that can be asked for, and is not the default server of this address",
        ]
    );
}

#[tokio::test]
async fn one_snippet_under_three_spellings() {
    let mut shape = Shape::new(&["a.example.org", "b.example.org"]);
    shape
        .file("snippets/a.conf", &TLS.replace("NAME", "a.example.org"))
        .file("snippets/b.conf", &TLS.replace("NAME", "b.example.org"))
        .file("sites/1", "server { listen ADDRESS:8443 ssl; server_name a; include snippets/a.conf; }\n")
        .file("sites/2", "server { listen ADDRESS:8443 ssl; server_name b; include snippets/b.conf; }\n")
        .file("sites/3", "server { listen ADDRESS:8443 ssl; server_name a2; include ROOT//snippets/./a.conf; }\n")
        .file("sites/4", "server { listen ADDRESS:8443 ssl; server_name b2; include ./snippets/../snippets/b.conf; }\n")
        // Would inherit what a snippet that is taken for a part of another file leaves at http level.
        .file("sites/5", "server { listen ADDRESS:8443 ssl; server_name none; ssl_reject_handshake on; }\n");
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "a.example.org | ADDRESS:8443 a | serves a.example.org",
            "b.example.org | ADDRESS:8443 b | serves b.example.org",
            "a.example.org | ADDRESS:8443 a2 | serves a.example.org",
            "b.example.org | ADDRESS:8443 b2 | serves b.example.org",
        ]
    );
}

#[tokio::test]
async fn odd_words_hide_no_server_block() {
    let names = ["odd.example.org", "regex.example.org", "last.example.org"];
    let mut shape = Shape::new(&names);
    shape.file("sites/odd", fixture!("odd/site"));
    shape.host.start().await;
    let own = |name: &str| format!("{name} | ADDRESS:8443 {name} | serves {name}");
    assert_eq!(
        shape.listeners().await,
        [
            own("odd.example.org"),
            "regex.example.org | ADDRESS:8443 ~^(?<who>[^'\"]+)\\.users\\.example\\.org$ | unprobed: its name is a regular expression".into(),
            own("regex.example.org"),
            own("last.example.org"),
        ]
    );
    assert_eq!(
        shape.challenges(),
        [
            "sites/odd:27 | sites/odd:30",
            "sites/odd:33 | sites/odd:36 after sites/odd:35"
        ]
    );
}

#[tokio::test]
async fn a_file_made_out_of_a_dump_is_read_whole() {
    let mut shape = Shape::new(&["a.example.org", "b.example.org"]);
    let site = |name: &str| {
        format!(
            "server {{ listen ADDRESS:8443 ssl; server_name {name}; {} }}\n",
            TLS.replace("NAME", name)
        )
    };
    let text = format!(
        "# configuration file ROOT/old/sites/a:\n{}# configuration file ROOT/snippets/later.conf:\n{}server {{ listen ADDRESS:8080;\n\
         # configuration file ROOT/sites/z:\n include snippets/later.conf; include snippets/certwell-acme.conf; }}\n",
        site("a.example.org"),
        site("b.example.org"),
    );
    shape
        .file("conf.d/from-a-dump.conf", &text)
        .file("snippets/later.conf", "server_tokens off;\n")
        .file("sites/z", "server_tokens off;\n");
    shape.host.start().await;
    assert_eq!(
        shape.listeners().await,
        [
            "a.example.org | ADDRESS:8443 a.example.org | serves a.example.org",
            "b.example.org | ADDRESS:8443 b.example.org | serves b.example.org",
        ]
    );
    assert_eq!(shape.challenges().len(), 1);
}
