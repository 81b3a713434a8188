//! The probes that configurations call for, as tables.

use super::*;
use crate::nginx::parse;
use proptest::prelude::*;

fn servers(body: &str) -> Vec<Server> {
    parse(&format!(
        "# configuration file /n.conf:\nhttp {{\n{body}\n}}\n"
    ))
    .servers
}

fn managed(name: &str, identifiers: &[&str], keys: &[KeyAlgorithm]) -> Managed {
    Managed {
        name: name.parse().unwrap(),
        identifiers: identifiers
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        keys: keys.to_vec(),
    }
}

fn media() -> Vec<Managed> {
    vec![managed("media.example.org", &["media.example.org"], &[])]
}

const OURS: &str = "ssl_certificate /live/media.example.org/fullchain.pem; ssl_certificate_key /live/media.example.org/privkey.pem;";

fn shown(body: &str, local: &[&str], managed: &[Managed]) -> Vec<String> {
    let local: Vec<IpAddr> = local.iter().map(|ip| ip.parse().unwrap()).collect();
    probes(&servers(body), &local, Path::new("/live"), managed)
        .iter()
        .map(|target| {
            let name = target.server_name.as_deref().unwrap_or("-");
            let key = target.key.map_or(String::new(), |key| format!(" {key:?}"));
            let way = match &target.way {
                Way::Handshake if target.first => " first".to_owned(),
                Way::Handshake => String::new(),
                Way::Elsewhere => " elsewhere".to_owned(),
                Way::Unprobed(why) => format!(" unprobed: {why}"),
            };
            format!("{} {name}{key}{way}", target.endpoint)
        })
        .collect()
}

#[test]
fn every_name_on_every_address_of_the_host() {
    let body = format!(
        "server {{ listen 443 ssl; listen [::]:443 ssl; server_name media.example.org *.media.example.org; {OURS} }}"
    );
    assert_eq!(
        shown(
            &body,
            &["127.0.0.1", "192.0.2.2", "2001:db8::2", "::1"],
            &media()
        ),
        [
            "192.0.2.2:443 media.example.org first",
            "192.0.2.2:443 certwell-probe.media.example.org",
            "[2001:db8::2]:443 media.example.org first",
            "[2001:db8::2]:443 certwell-probe.media.example.org",
        ]
    );
}

#[test]
fn blocks_of_other_certificates_and_plain_listeners_are_left_alone() {
    let body = format!(
        "server {{ listen 443 ssl; server_name other; ssl_certificate /live/media.example.org.bak/f; ssl_certificate_key /k; }}\n\
         server {{ listen 80; server_name media.example.org; {OURS} }}"
    );
    assert!(shown(&body, &[], &media()).is_empty());
}

#[test]
fn addresses_of_another_host_are_elsewhere_and_unix_sockets_are_dialled() {
    let body = format!(
        "server {{ listen 203.0.113.9:443 ssl; listen 127.0.0.11:8443 ssl proxy_protocol; listen unix:/run/s ssl; listen localhost:443 ssl; server_name media.example.org; {OURS} }}"
    );
    assert_eq!(
        shown(&body, &[], &media()),
        [
            "203.0.113.9:443 - elsewhere",
            "127.0.0.11:8443 media.example.org first",
            "unix:/run/s media.example.org first",
            "localhost:443 - unprobed: nginx resolves this name when it starts",
        ]
    );
}

#[test]
fn a_block_without_a_name_is_probed_as_the_default_server() {
    let body = format!(
        "server {{ listen 127.0.0.2:443 ssl; server_name _; {OURS} }}\nserver {{ listen 127.0.0.2:443 ssl; {OURS} }}"
    );
    assert_eq!(
        shown(&body, &[], &media()),
        [
            "127.0.0.2:443 media.example.org first",
            "127.0.0.2:443 - unprobed: it has no name that can be asked for, and is not the default server of this address",
        ]
    );
    let taken = format!(
        "server {{ listen 127.0.0.2:443 ssl; {OURS} }}\nserver {{ listen 127.0.0.2:443 ssl; server_name media.example.org; ssl_certificate /c; ssl_certificate_key /k; }}"
    );
    assert_eq!(shown(&taken, &[], &media()), ["127.0.0.2:443 - first"]);
}

#[test]
fn twins_are_probed_apart_and_a_single_certificate_is_not_limited() {
    use KeyAlgorithm::{Ecdsa, Rsa};
    let both = [managed("media.example.org", &[], &[Ecdsa, Rsa])];
    let single = format!("server {{ listen 127.0.0.2:443 ssl; server_name a; {OURS} }}");
    assert_eq!(shown(&single, &[], &both), ["127.0.0.2:443 a first"]);
    let twins = format!(
        "server {{ listen 127.0.0.2:443 ssl; server_name a; {OURS} {} }}",
        OURS.replace("fullchain", "rsa")
    );
    assert_eq!(
        shown(&twins, &[], &both),
        ["127.0.0.2:443 a Ecdsa first", "127.0.0.2:443 a Rsa first"]
    );
    let foreign = format!(
        "server {{ listen 127.0.0.2:443 ssl; server_name a; {OURS} ssl_certificate /rsa; ssl_certificate_key /k; }}"
    );
    let ours = [managed("media.example.org", &[], &[Ecdsa])];
    assert_eq!(shown(&foreign, &[], &ours), ["127.0.0.2:443 a Ecdsa first"]);
}

#[test]
fn names_that_lead_to_another_block_or_to_an_expression_are_unprobed() {
    let body = format!(
        "server {{ listen 127.0.0.2:443 ssl; server_name a; ssl_certificate /c; ssl_certificate_key /k; }}\n\
         server {{ listen 127.0.0.2:443 ssl; server_name a ~^x 192.0.2.1; {OURS} }}"
    );
    assert_eq!(
        shown(&body, &[], &media()),
        [
            "127.0.0.2:443 a unprobed: the server block at /n.conf:2 answers this name",
            "127.0.0.2:443 ~^x unprobed: its name is a regular expression",
        ]
    );
}

#[test]
fn a_listener_that_no_address_leads_to_is_said() {
    let named = "server { listen 192.0.2.2:443 ssl; server_name b; ssl_certificate /c; ssl_certificate_key /k; }";
    let body =
        format!("server {{ listen 443 ssl; listen [::]:443 ssl; server_name a; {OURS} }}\n{named}");
    assert_eq!(
        shown(&body, &["127.0.0.1", "192.0.2.2"], &media()),
        [
            "0.0.0.0:443 - unprobed: no address of this host leads to it",
            "[::]:443 - unprobed: no address of this host leads to it",
        ]
    );
}

#[test]
fn certificates_named_through_links_or_by_variables_are_recognised() {
    let body = "server { listen 127.0.0.2:443 ssl; server_name a; ssl_certificate /ssl/m.pem; ssl_certificate_key /k; }\n\
                server { listen 443 ssl; ssl_certificate /live/$cookie/f.pem; ssl_certificate_key /live/$cookie/k.pem; }\n\
                server { listen 444 ssl; ssl_certificate /else/$ssl_server_name/f.pem; ssl_certificate_key /k; }";
    let mut servers = servers(body);
    servers[0].certificates[0].through = vec![
        "/live/media.example.org/f.pem".into(),
        "/store/f.pem".into(),
    ];
    let targets = probes(&servers, &[], Path::new("/live"), &media());
    assert_eq!(targets.len(), 2);
    assert_eq!(
        (targets[0].server_name.as_deref(), &targets[0].way),
        (Some("a"), &Way::Handshake)
    );
    assert_eq!(targets[0].read_by_workers, None);
    assert_eq!(
        targets[1].way,
        Way::Unprobed("its certificate path holds variables".into())
    );
    assert_eq!(
        targets[1].read_by_workers,
        Some("/live/media.example.org/fullchain.pem".into())
    );
}

const BY_NAME: &str = "ssl_certificate /live/$ssl_server_name/f.pem; ssl_certificate_key /live/$ssl_server_name/k.pem;";

#[test]
fn the_name_that_is_asked_for_picks_the_certificate_of_that_name() {
    let body = format!(
        "server {{ listen 127.0.0.2:443 ssl; server_name other; ssl_certificate /c; ssl_certificate_key /k; }}\n\
         server {{ listen 127.0.0.2:443 ssl default_server; {BY_NAME} }}\n\
         server {{ listen 127.0.0.3:443 ssl; server_name *.example.org; {BY_NAME} }}\n\
         server {{ listen 127.0.0.4:443 ssl; server_name ~^m; {BY_NAME} }}\n\
         server {{ listen 127.0.0.5:443 ssl; server_name media.example.org; ssl_certificate /c; ssl_certificate_key /k; }}\n\
         server {{ listen 127.0.0.5:443 ssl default_server; server_name _; {BY_NAME} }}"
    );
    assert_eq!(
        shown(&body, &[], &media()),
        [
            "127.0.0.2:443 media.example.org first",
            "127.0.0.3:443 media.example.org first",
            "127.0.0.4:443 media.example.org unprobed: which server block answers it depends on a regular expression",
        ]
    );
    let targets = probes(&servers(&body), &[], Path::new("/live"), &media());
    assert_eq!(
        targets[0].read_by_workers,
        Some("/live/media.example.org/f.pem".into())
    );
}

#[test]
fn a_map_leads_some_names_to_a_certificate_and_the_others_away() {
    let http = "map $ssl_server_name $c { default /live/media.example.org/f; b /x/f; }";
    let body = format!(
        "{http} server {{ listen 127.0.0.2:443 ssl; server_name a b; ssl_certificate $c; ssl_certificate_key $c; }}"
    );
    assert_eq!(shown(&body, &[], &media()), ["127.0.0.2:443 a first"]);
}

#[test]
fn a_listener_that_speaks_quic_is_said_beside_the_one_that_is_probed() {
    let body = format!(
        "server {{ listen 127.0.0.2:443 ssl; listen 127.0.0.2:443 quic reuseport; server_name media.example.org; {OURS} }}"
    );
    assert_eq!(
        shown(&body, &[], &media()),
        [
            "127.0.0.2:443 media.example.org first",
            "127.0.0.2:443 - unprobed: it speaks QUIC",
        ]
    );
}

proptest! {
    #[test]
    fn every_block_of_ours_has_a_target_and_none_is_doubled(
        blocks in proptest::collection::vec(("(443|8443|127\\.0\\.0\\.[12]:443|\\[::\\]:443)", "(a|b|\\*\\.c|_|~x|)"), 1..6)
    ) {
        let body: String = blocks
            .iter()
            .map(|(listen, name)| format!("server {{ listen {listen} ssl; server_name {name:?}; {OURS} }}\n"))
            .collect();
        let servers = servers(&body);
        let local = ["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        let targets = probes(&servers, &local, Path::new("/live"), &media());
        for server in &servers {
            prop_assert!(targets.iter().any(|target| target.at == server.at));
        }
        let mut seen = HashSet::new();
        for target in targets.iter().filter(|target| target.way == Way::Handshake) {
            prop_assert!(seen.insert((target.endpoint.clone(), target.server_name.clone())));
        }
    }
}

#[test]
fn a_target_knows_whether_its_server_block_rejects() {
    let body = format!(
        "server {{ listen 127.0.0.1:443 ssl; server_name a.example; {OURS} }} \
         server {{ listen 127.0.0.1:443 ssl; server_name b.example; ssl_reject_handshake on; {OURS} }}"
    );
    let rejects: Vec<bool> = probes(&servers(&body), &[], Path::new("/live"), &media())
        .iter()
        .map(|target| target.rejects)
        .collect();
    assert_eq!(rejects, [false, true]);
}
