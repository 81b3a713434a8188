//! What is told of nginx, or of another server.

use super::*;

#[test]
fn nginx_s_words_end_with_a_place_or_have_none() {
    let place = |words| nginx::place_in(words).map(|at| at.to_string());
    assert_eq!(
        place("[emerg] unknown directive \"in x\" in /etc/nginx/a b:12; [emerg] y in /z:1")
            .as_deref(),
        Some("/etc/nginx/a b:12")
    );
    assert_eq!(
        place("[emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)"),
        None
    );
}

const PLAIN: &str = "server { listen 80; server_name b.org c.org; }";

#[test]
fn only_the_blocks_to_which_a_ca_comes_are_in_the_way() {
    let all = [
        "server { listen 80 default_server; }",
        "server { listen 80; }",
        "server { listen 443 ssl; server_name b.org; }",
        "server { listen 127.0.0.1:80; server_name status; }",
        "server { listen 198.51.100.9:80; server_name d.org; }",
        "server { listen unix:/s; server_name e.org; }",
        "server { listen 80; server_name ~^f; }",
        PLAIN,
        SITE,
    ]
    .join("\n");
    for (names, needed) in [
        (&[][..], vec![2, 6, 8, 9]),
        (&["b.org"], vec![9]),
        (&["a.org"], vec![]),
        // An expression may match it; else the default server takes it.
        (&["z.org"], vec![2, 8]),
    ] {
        let facts = port_80(&all, names);
        let blocks = port_80::blocks(&facts);
        let lines: Vec<u32> = blocks
            .iter()
            .filter(|block| block.is_needed)
            .map(|block| block.server.at.line)
            .collect();
        assert_eq!(lines, needed, "{names:?}");
        let heard: Vec<u32> = blocks.iter().map(|block| block.server.at.line).collect();
        assert_eq!(heard, [2, 3, 6, 8, 9], "{names:?}");
    }
}

#[test]
fn blocks_on_one_line_are_counted_and_what_each_lacks_is_known() {
    let late = "server { listen 80; server_name g.org; return 301 x; include s; }";
    let facts = port_80(&format!("{PLAIN} {SITE} {late}"), &[]);
    let blocks = port_80::blocks(&facts);
    let place = || Place {
        file: "/n/nginx.conf".into(),
        line: 2,
    };
    let lacks: Vec<_> = blocks
        .iter()
        .map(|block| (block.nth, block.lack.clone()))
        .collect();
    assert_eq!(
        lacks,
        [
            (0, Lack::Include(None)),
            (
                2,
                Lack::Order {
                    include: place(),
                    redirect: place()
                }
            ),
        ]
    );
}

#[test]
fn what_follows_from_an_earlier_finding_is_not_told() {
    let with = |change: fn(&mut nginx::Facts)| {
        let mut nginx = nginx();
        change(&mut nginx);
        let facts = Facts {
            server: Server::Nginx(Box::new(nginx)),
            ..well()
        };
        words(&found(&facts).in_the_way)
    };
    // Nothing is asked of blocks that don't answer yet.
    let unanswered = |nginx: &mut nginx::Facts| nginx.port_80.unanswered = vec!["no".into()];
    assert_eq!(with(unanswered), ["challenge-unanswered"]);
    assert_eq!(
        with(|nginx| {
            nginx.port_80 = port_80(PLAIN, &[]);
            nginx.port_80.unanswered = vec!["no".into()];
        }),
        ["include-missing"]
    );
    // The snippet is needed by nobody who has the include.
    assert_eq!(with(|nginx| nginx.snippet_there = false), [""; 0]);
    assert_eq!(
        with(|nginx| {
            nginx.snippet_there = false;
            nginx.port_80 = port_80(PLAIN, &[]);
        }),
        ["snippet-missing", "include-missing"]
    );
    assert_eq!(with(|nginx| nginx.snippet_silent = true), [""; 0]);
    assert_eq!(
        with(|nginx| {
            nginx.snippet_silent = true;
            nginx.port_80 = port_80(PLAIN, &[]);
        }),
        ["snippet-changed", "include-missing"]
    );
    // A stopped nginx listens nowhere.
    assert_eq!(
        with(|nginx| {
            nginx.master = None;
            nginx.pid = Pid::Missing;
            nginx.port_80.silent = vec![("192.0.2.7:80".parse().unwrap(), "no".into())];
        }),
        ["nginx-not-running"]
    );
    // Nothing is known of blocks that can't be read.
    assert_eq!(
        with(|nginx| {
            nginx.read = Read::Refused("[emerg] x in /f:1".into());
            nginx.map.is_included = None;
            nginx.port_80 = port_80::Facts::default();
        }),
        ["nginx-refuses"]
    );
}

#[test]
fn of_another_server_only_its_own_is_told() {
    let facts = Facts {
        server: Server::Exec(exec::Facts {
            test: Err("exec.test ended with exit code 7".into()),
            addresses: vec![
                (
                    "192.0.2.7:443".parse().unwrap(),
                    exec::Listening::No("refused".into()),
                ),
                ("192.0.2.8:443".parse().unwrap(), exec::Listening::Elsewhere),
                ("192.0.2.9:443".parse().unwrap(), exec::Listening::Yes),
            ],
            unanswered: vec!["nothing came back".into()],
        }),
        ..well()
    };
    let findings = found(&facts);
    assert_eq!(
        words(&findings.in_the_way),
        ["exec-test-fails", "server-silent", "challenge-unanswered"]
    );
    assert_eq!(words(&findings.notes), ["address-elsewhere"]);
}
