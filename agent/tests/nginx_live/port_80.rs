//! Port 80 as people have it: whatever a server block does there besides, HTTP-01 is answered first; what it did before
//! it does still; and nobody takes another's reply.

use std::fs;

use certwell_agent::nginx::{Challenge, Verdict, challenge_map::render};
use certwell_proto::v1;

use crate::{
    challenge::{PRINT, TOKEN, challenges, get, judge, load},
    host::Host,
};

/// A server block behind the include, and what it answers to a path of its own.
struct Shape {
    name: &'static str,
    body: &'static str,
    path: &'static str,
    status: &'static str,
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "location-redirects.example.org",
        body: "location / { return 301 https://$host$request_uri; }",
        path: "/",
        status: "301",
    },
    Shape {
        name: "server-redirects.example.org",
        body: "return 301 https://$host$request_uri;",
        path: "/",
        status: "301",
    },
    Shape {
        name: "certbot-redirects.example.org",
        body: "if ($host = certbot-redirects.example.org) { return 301 https://$host$request_uri; } return 404;",
        path: "/",
        status: "301",
    },
    Shape {
        name: "rewrites.example.org",
        body: "rewrite ^ https://$host$request_uri? permanent;",
        path: "/",
        status: "301",
    },
    Shape {
        name: "has-a-location.example.org",
        body: "root WEB; location /.well-known/acme-challenge/ { allow all; } location / { return 301 https://$host$request_uri; }",
        path: "/",
        status: "301",
    },
    Shape {
        name: "hides-dot-files.example.org",
        body: "root WEB; location ~ /\\. { deny all; }",
        path: "/.git",
        status: "403",
    },
    Shape {
        name: "asks-a-password.example.org",
        body: "root WEB; auth_basic members; auth_basic_user_file WEB/passwords;",
        path: "/",
        status: "401",
    },
    Shape {
        name: "is-for-a-few.example.org",
        body: "root WEB; deny all;",
        path: "/",
        status: "403",
    },
    Shape {
        name: "proxies.example.org",
        body: "location / { proxy_pass http://ADDRESS:9; }",
        path: "/",
        status: "502",
    },
    Shape {
        name: "tries-files.example.org",
        body: "root WEB; location / { try_files $uri $uri/ /index.php?$args; } location ~ \\.php$ { return 418; }",
        path: "/a",
        status: "418",
    },
];

/// The shapes as sites of a host, in its own directory for files.
async fn started(host: &mut Host) {
    let web = host.path("web");
    fs::create_dir_all(web.join(".well-known/acme-challenge")).unwrap();
    fs::write(web.join("passwords"), "").unwrap();
    for shape in SHAPES {
        let body = shape.body.replace("WEB", &web.to_string_lossy());
        let Shape { name, .. } = shape;
        host.site(
            name,
            &format!(
                "server {{ listen ADDRESS:8080; server_name {name}; include snippets/certwell-acme.conf; {body} }}"
            ),
        );
    }
    host.start().await;
}

#[tokio::test]
async fn every_shape_answers_and_does_what_it_did() {
    let mut host = Host::new(&[]);
    started(&mut host).await;
    let question = format!("/.well-known/acme-challenge/{TOKEN}");
    for shape in SHAPES {
        let before = get(&host, shape.name, &question);
        assert_ne!(before.0, "200", "{}: the map is empty yet", shape.name);
    }
    let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
    load(&host, &challenges(&names)).await;
    let answer = ("200".to_owned(), format!("{TOKEN}.{PRINT}"));
    for shape in SHAPES {
        let Shape {
            name, path, status, ..
        } = shape;
        assert_eq!(get(&host, name, &question), answer, "{name}");
        assert_eq!(get(&host, name, path).0, *status, "{name}");
        assert_eq!(judge(&host, &[name]).await, Verdict::Pass, "{name}");
    }
}

#[tokio::test]
async fn another_client_s_name_in_the_same_server_block_keeps_its_own_replies() {
    let mut host = Host::new(&[]);
    let web = host.path("web");
    let directory = web.join(".well-known/acme-challenge");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(TOKEN), "of the other client").unwrap();
    host.site(
        "shared",
        &format!(
            "server {{ listen ADDRESS:8080; server_name ours.example.org theirs.example.org; include snippets/certwell-acme.conf;\n\
             location /.well-known/acme-challenge/ {{ root {}; }}\n location / {{ return 301 https://$host$request_uri; }} }}",
            web.display()
        ),
    );
    host.start().await;
    load(&host, &challenges(&["ours.example.org"])).await;
    let question = format!("/.well-known/acme-challenge/{TOKEN}");
    let reply = |name: &str| get(&host, name, &question).1;
    assert_eq!(reply("ours.example.org"), format!("{TOKEN}.{PRINT}"));
    assert_eq!(reply("theirs.example.org"), "of the other client");
}

#[tokio::test]
async fn two_accounts_answer_each_for_its_own_names() {
    let host = Host::started(&[(
        "a",
        "server { listen ADDRESS:8080; include snippets/certwell-acme.conf; return 404; }",
    )])
    .await;
    let other = "A".repeat(43);
    let of = |name: &str, thumbprint: &str| {
        Challenge::from_wire(&v1::Challenge {
            thumbprint: thumbprint.to_owned(),
            names: vec![name.to_owned()],
        })
        .unwrap()
    };
    let map = render(&[of("one.example.org", PRINT), of("two.example.org", &other)]);
    load(&host, &map).await;
    let question = format!("/.well-known/acme-challenge/{TOKEN}");
    let reply = |name: &str| get(&host, name, &question).1;
    assert_eq!(reply("one.example.org"), format!("{TOKEN}.{PRINT}"));
    assert_eq!(reply("two.example.org"), format!("{TOKEN}.{other}"));
    assert_eq!(get(&host, "three.example.org", &question).0, "404");
}
