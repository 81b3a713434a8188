//! Paths with variables, and what they can be.

use super::*;
use crate::nginx::parse;

fn expansions(http: &str, server: &str) -> Vec<String> {
    let dump = format!(
        "# configuration file /e/n.conf:\nhttp {{ {http} server {{ listen 443 ssl; {server} }} }}\n"
    );
    let servers = parse(&dump).servers;
    assert!(servers[0].read_by_workers);
    servers[0].certificates[0]
        .expansions
        .iter()
        .map(|one| match &one.when {
            When::Always => one.path.clone(),
            When::Asked(name) => format!("{name}: {}", one.path),
            When::NotAsked(names) => format!("not {}: {}", names.join(","), one.path),
            When::Unknown => format!("?: {}", one.path),
        })
        .collect()
}

fn certificate(path: &str) -> String {
    format!("ssl_certificate {path}; ssl_certificate_key {path};")
}

#[test]
fn the_block_s_own_name_is_known_and_relative_paths_are_nginx_s() {
    for (server, expected) in [
        ("server_name a.org b.org;", "/e/a.org/f"),
        ("server_name .a.org;", "/e/a.org/f"),
        ("server_name *.a.org;", "/e/*.a.org/f"),
        ("", "/f"),
    ] {
        let server = format!("{server} {}", certificate("${server_name}/f"));
        assert_eq!(expansions("", &server), [expected], "{server}");
    }
    assert_eq!(
        expansions("", &certificate("$ssl_server_name/f")),
        ["/e/${ssl_server_name}/f"]
    );
    assert_eq!(expansions("", &certificate("$where")), ["${where}"]);
}

#[test]
fn a_map_over_the_name_that_is_asked_for_tells_each_name_its_path() {
    let map = "map $ssl_server_name $c { hostnames; default /d; a.org /a; B.org /b; }";
    let all = "server_name _;";
    let asked =
        |server: &str, map: &str| expansions(map, &format!("{server} {}", certificate("$c.pem")));
    assert_eq!(
        asked(all, map),
        ["a.org: /a.pem", "b.org: /b.pem", "not a.org,b.org: /d.pem"]
    );
    assert_eq!(
        asked("server_name b.org c.org;", map),
        ["b.org: /b.pem", "not b.org: /d.pem"],
        "names that never get there are left out"
    );
    let vague = "map $ssl_server_name $c { default /d; ~^x /x; a.org /a; }";
    assert_eq!(
        asked(all, vague),
        ["a.org: /a.pem", "?: /x.pem", "?: /d.pem"]
    );
    let own = "map $server_name $c { default /d; a.org /a; }";
    assert_eq!(asked("server_name a.org;", own), ["/a.pem"]);
    assert_eq!(asked("server_name b.org;", own), ["/d.pem"]);
    let other = "map $http_x $c { default /d; a.org /a; }";
    assert_eq!(asked(all, other), ["?: /d.pem", "?: /a.pem"]);
}

#[test]
fn a_key_by_variable_makes_workers_read_the_certificate_too() {
    let dump = "# configuration file /n.conf:\nhttp { server { listen 443 ssl; ssl_certificate /c; \
                ssl_certificate_key data:$key; } server { listen 443 ssl; ssl_certificate /c; \
                ssl_certificate_key store:pkcs11; } }\n";
    let read: Vec<bool> = parse(dump)
        .servers
        .iter()
        .map(|server| server.read_by_workers)
        .collect();
    assert_eq!(read, [true, false]);
}

#[test]
fn paths_lead_where_they_can() {
    let lead = |when: When, path: &str| {
        let expansion = Expansion {
            when,
            path: path.into(),
        };
        expansion.leads(Path::new("/live/a.org"), ["a.org", "b.org"].into_iter())
    };
    let names = |names: &[&str]| Lead::Names(names.iter().map(|&name| name.into()).collect());
    let asked = |name: &str| When::Asked(name.into());
    let not = || When::NotAsked(vec!["a.org".into()]);
    for (when, path, expected) in [
        (
            When::Always,
            "/live/${ssl_server_name}/f",
            names(&["a.org"]),
        ),
        (When::Always, "/live/$ssl_server_name/f", names(&["a.org"])),
        (When::Always, "/live/$ssl_server_name.d/f", Lead::No),
        (
            When::Always,
            "/live/a.org/$ssl_server_name",
            names(&["a.org", "b.org"]),
        ),
        (asked("b.org"), "/live/$ssl_server_name/f", Lead::No),
        (not(), "/live/$ssl_server_name/f", Lead::No),
        (When::Always, "/live/a.org/f", Lead::AllBut(vec![])),
        (When::Always, "/live/a.org.old/f", Lead::No),
        (asked("x.org"), "/live/a.org/f", names(&["x.org"])),
        (not(), "/live/a.org/f", Lead::AllBut(vec!["a.org".into()])),
        (When::Unknown, "/live/a.org/f", Lead::Unknown),
        (When::Unknown, "/live/b.org/f", Lead::No),
        (When::Always, "$x", Lead::Unknown),
        (When::Always, "/live/$x/f", Lead::Unknown),
        (When::Always, "/else/$x/f", Lead::No),
        (When::Always, "/live/b$x/f", Lead::No),
    ] {
        assert_eq!(lead(when.clone(), path), expected, "{when:?} {path}");
    }
}
