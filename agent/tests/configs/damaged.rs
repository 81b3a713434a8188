//! Dumps that are damaged, or hold what nobody expects: what is intact is found, and nothing stops.

use std::{fmt::Write as _, fs};

use certwell_agent::nginx::{CertificateSource, Parsed, parse};
use proptest::prelude::*;

use crate::shape::Shape;

const BEFORE: &str = "server { listen 443 ssl; server_name before.example; ssl_certificate /live/before/f; ssl_certificate_key /live/before/k; }\n";
const AFTER: &str = "server { listen 443 ssl; server_name after.example; ssl_certificate /live/after/f; ssl_certificate_key /live/after/k; }\n";
const MIDDLE: &str = "map $a $b { default \"x\"; ~*it's 1; }\nserver { listen 443 ssl; # a comment\n  server_name m.example ~^(?<x>[^\"]+)$;\n  \
    ssl_certificate /live/m/f; ssl_certificate_key /live/m/k;\n  location / { content_by_lua_block { ngx.say(\"it's }\") } }\n  if ($http_x = \"a;b\") { return 403; }\n}\n";

fn dump(middle: &str) -> String {
    format!(
        "# configuration file /n.conf:\nhttp {{\n  include sites/*;\n}}\n\n\
         # configuration file /sites/1:\n{BEFORE}\n# configuration file /sites/2:\n{middle}\n# configuration file /sites/3:\n{AFTER}\n"
    )
}

/// The certificates that are found, by the entry of the live directory.
fn found(parsed: &Parsed) -> Vec<String> {
    parsed
        .servers
        .iter()
        .flat_map(|server| &server.certificates)
        .filter_map(|files| match &files.certificate {
            CertificateSource::File(path) => path.iter().nth(2)?.to_str().map(str::to_owned),
            _ => None,
        })
        .collect()
}

#[test]
fn the_undamaged_dump_is_understood() {
    let parsed = parse(&dump(MIDDLE));
    assert_eq!(found(&parsed), ["before", "m", "after"]);
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
}

#[test]
fn no_cut_of_a_file_hides_the_others() {
    for end in 0..MIDDLE.len() {
        let found = found(&parse(&dump(&MIDDLE[..end])));
        assert!(found.contains(&"before".into()), "{end}");
        assert!(found.contains(&"after".into()), "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_damage_of_a_file_hides_the_others(
        damages in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[{};\"'#\\\\$ \n\ra-z\u{feff}é]{0,4}"), 1..8)
    ) {
        let mut middle: Vec<char> = MIDDLE.chars().collect();
        for (at, gone, put) in damages {
            let from = at.index(middle.len() + 1);
            let to = (from + gone).min(middle.len());
            middle.splice(from..to, put.chars());
        }
        let middle: String = middle.into_iter().collect();
        let parsed = parse(&dump(&middle));
        let found = found(&parsed);
        prop_assert!(found.contains(&"before".into()) && found.contains(&"after".into()), "{middle}\n{parsed:?}");
    }

    #[test]
    fn no_damage_anywhere_makes_it_panic(
        damages in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..200, "(?s).{0,6}"), 1..12)
    ) {
        let mut text: Vec<char> = dump(MIDDLE).chars().collect();
        for (at, gone, put) in damages {
            let from = at.index(text.len() + 1);
            let to = (from + gone).min(text.len());
            text.splice(from..to, put.chars());
        }
        let _ = parse(&text.into_iter().collect::<String>());
    }
}

#[tokio::test]
async fn long_lines_foreign_bytes_and_a_mark_in_a_comment_stop_nothing() {
    let mut shape = Shape::new(&["a.example.org"]);
    let mut text = b"# caf\xe9 \xff\xfe\xef\xbb\xbf latin-1, it's \"broken\r\n".to_vec();
    // A line of any length, as long as no word of it has over 4096 bytes.
    let mut long = String::from("map $http_x $long {");
    for number in 0..8_000 {
        write!(long, " k{number} {number};").unwrap();
    }
    long.push_str(" }\n");
    assert!(long.len() > 64 * 1024);
    text.extend(long.as_bytes());
    text.extend(
        shape
            .filled(
                "server {\r\n\tlisten ADDRESS:8443 ssl;\r\n\tserver_name a.example.org;\r\n\t\
                 ssl_certificate LIVE/a.example.org/fullchain.pem;\r\n\tssl_certificate_key LIVE/a.example.org/privkey.pem;\r\n\t\
                 add_header X \"",
            )
            .as_bytes(),
    );
    text.extend(b"\xe9\xff\";\r\n}\r\n");
    fs::write(shape.host.path("sites/a"), text).unwrap();
    shape.host.start().await;
    let agent = std::path::Path::new(env!("CARGO_BIN_EXE_certwell-agent"));
    let invocation = shape.host.nginx().invocation;
    let parsed = certwell_agent::nginx::dump::listeners(agent, &invocation, crate::host::PATIENCE)
        .await
        .unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    assert_eq!(
        shape.probed(&parsed).await,
        ["a.example.org | ADDRESS:8443 a.example.org | serves a.example.org"]
    );
}
