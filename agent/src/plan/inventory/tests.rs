//! Who sees to what, and whether it is served.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn leaf(number: u8, ends: i64) -> Leaf {
    Leaf {
        fingerprint: Fingerprint([number; 32]),
        serial: "1".into(),
        not_before: at(0),
        not_after: at(ends),
        identifiers: vec![format!("n{number}.example").parse().unwrap()],
        issuer: "CN=x".into(),
        self_issued: false,
    }
}

fn used(path: &str, through: &[&str], seen: Vec<Shown>) -> Use {
    Use {
        role: Role::Listener,
        source: CertificateSource::File(path.into()),
        through: through.iter().map(PathBuf::from).collect(),
        listeners: vec!["0.0.0.0:443".into()],
        names: vec!["a".into()],
        at: Place {
            file: "/n.conf".into(),
            line: 3,
        },
        seen: seen
            .into_iter()
            .map(|shown| Seen {
                address: "127.0.0.1:443".into(),
                name: "a".into(),
                shown,
            })
            .collect(),
    }
}

fn lineage(name: &str, number: u8) -> Lineage {
    Lineage {
        name: name.into(),
        renews: true,
        alias_of: None,
        adopted_by: None,
        leaf: Some(leaf(number, 500)),
        problems: Vec::new(),
    }
}

fn facts() -> Facts {
    Facts {
        live: vec!["/etc/certwell/live".into()],
        certbot_live: vec!["/etc/letsencrypt/live".into()],
        own: vec![Own {
            name: "own".into(),
            generation: Generation(3),
            leaves: vec![leaf(1, 900), leaf(2, 900)],
        }],
        ..Facts::default()
    }
}

const OWN: &str = "/etc/certwell/live/own/fullchain.pem";
const STORE: &str = "/var/lib/certwell-agent/store/own/3/fullchain.pem";

#[test]
fn every_certificate_has_one_row_and_one_who_sees_to_it() {
    let mut facts = facts();
    facts.lineages = vec![lineage("bot", 3), lineage("idle", 4), {
        let mut adopted = lineage("adopted", 1);
        adopted.adopted_by = Some("own".into());
        adopted
    }];
    facts.files = BTreeMap::from([
        ("/etc/ssl/x.pem".into(), Ok(leaf(5, 100))),
        (
            "/etc/ssl/gone.pem".into(),
            Err("/etc/ssl/gone.pem: not found".into()),
        ),
    ]);
    let bot = "/etc/letsencrypt/live/bot/fullchain.pem";
    facts.uses = vec![
        used(OWN, &[STORE], vec![Shown::Leaf(Fingerprint([1; 32]))]),
        used(
            "/etc/letsencrypt/live/adopted/fullchain.pem",
            &[OWN, STORE],
            vec![Shown::Leaf(Fingerprint([2; 32]))],
        ),
        used(bot, &[], vec![Shown::Leaf(Fingerprint([9; 32]))]),
        used("/etc/nginx/bot.pem", &[bot], Vec::new()),
        used(
            "/etc/ssl/x.pem",
            &[],
            vec![Shown::Unprobed("a regex".into())],
        ),
        used("/etc/ssl/gone.pem", &[], Vec::new()),
        Use {
            source: CertificateSource::Variable("/ssl/$ssl_server_name".into()),
            ..used("", &[], Vec::new())
        },
    ];
    let rows = rows(&facts, at(50));
    let told: Vec<(&str, usize, Served, String)> = rows
        .iter()
        .map(|row| {
            let managed = match &row.managed {
                Managed::Certwell {
                    name,
                    generation,
                    adopted,
                } => format!("certwell {name} {generation} {adopted:?}"),
                Managed::Certbot { lineage, renews } => format!("certbot {lineage} {renews}"),
                Managed::Nobody => "nobody".into(),
            };
            (
                row.source.as_str(),
                row.used_by.len(),
                row.served(),
                managed,
            )
        })
        .collect();
    let wanted = [
        ("/etc/ssl/x.pem", 1, Served::Unprobed, "nobody"),
        (bot, 2, Served::No, "certbot bot true"),
        (
            "/etc/letsencrypt/live/idle/fullchain.pem",
            0,
            Served::Unused,
            "certbot idle true",
        ),
        (OWN, 2, Served::Yes, "certwell own 3 [\"adopted\"]"),
        ("/etc/ssl/gone.pem", 1, Served::Unprobed, "nobody"),
        ("/ssl/$ssl_server_name", 1, Served::Unprobed, "nobody"),
    ];
    assert_eq!(told, wanted.map(|(a, b, c, d)| (a, b, c, d.to_owned())));
    assert_eq!(
        rows[1].problems,
        ["127.0.0.1:443 (a) serves another certificate (09090909)"]
    );
    assert_eq!(rows[4].problems, ["/etc/ssl/gone.pem: not found"]);
}

#[test]
fn what_is_presented_to_upstreams_is_judged_as_no_listener() {
    let upstream = |path: &str| Use {
        role: Role::Upstream,
        listeners: Vec::new(),
        ..used(path, &[], Vec::new())
    };
    let own = used(OWN, &[STORE], vec![Shown::Leaf(Fingerprint([1; 32]))]);
    let facts = Facts {
        files: BTreeMap::from([("/etc/ssl/client.pem".into(), Ok(leaf(5, 20)))]),
        uses: vec![own, upstream(OWN), upstream("/etc/ssl/client.pem")],
        ..facts()
    };
    let found = rows(&facts, at(50));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(found[0].source, "/etc/ssl/client.pem");
    assert_eq!(found[0].served(), Served::Upstream);
    assert_eq!(found[0].problems.len(), 1, "it expired: {found:#?}");
    assert_eq!(
        (found[1].served(), found[1].used_by.len()),
        (Served::Yes, 2)
    );
}

#[test]
fn another_name_of_a_lineage_has_no_row_before_and_after_the_lineage_is_adopted() {
    let mut facts = facts();
    let alias = Lineage {
        alias_of: Some("bot".into()),
        renews: false,
        ..lineage("alias", 3)
    };
    facts.lineages = vec![alias, lineage("bot", 3)];
    let (alias, bot) = (
        "/etc/letsencrypt/live/alias/fullchain.pem",
        "/etc/letsencrypt/live/bot/fullchain.pem",
    );
    facts.uses = vec![used(alias, &[bot], Vec::new())];
    let found = rows(&facts, at(50));
    assert_eq!(found.len(), 2, "{found:#?}");
    let by_certbot = Managed::Certbot {
        lineage: "bot".into(),
        renews: true,
    };
    assert_eq!(
        (&found[0].managed, found[0].used_by.len()),
        (&by_certbot, 1)
    );

    for lineage in &mut facts.lineages {
        lineage.adopted_by = Some("own".into());
    }
    facts.uses = vec![used(alias, &[bot, OWN, STORE], Vec::new())];
    let found = rows(&facts, at(50));
    assert_eq!(found.len(), 1, "{found:#?}");
    let by_us = Managed::Certwell {
        name: "own".into(),
        generation: Generation(3),
        adopted: vec!["bot".into()],
    };
    assert_eq!((&found[0].managed, found[0].used_by.len()), (&by_us, 1));
}

#[test]
fn one_listener_that_serves_another_or_nothing_makes_it_not_served() {
    let served = |seen: Vec<Shown>| {
        let facts = Facts {
            uses: vec![used(OWN, &[STORE], seen)],
            ..facts()
        };
        rows(&facts, at(50))[0].served()
    };
    let ours = || Shown::Leaf(Fingerprint([1; 32]));
    assert_eq!(served(vec![ours(), ours()]), Served::Yes);
    assert_eq!(
        served(vec![ours(), Shown::Leaf(Fingerprint([7; 32]))]),
        Served::No
    );
    assert_eq!(
        served(vec![ours(), Shown::Down("refused".into())]),
        Served::No
    );
    assert_eq!(
        served(vec![ours(), Shown::Unprobed("x".into())]),
        Served::Yes
    );
    assert_eq!(served(vec![Shown::Unprobed("x".into())]), Served::Unprobed);
}

#[test]
fn what_expired_is_said_and_comes_first() {
    let mut facts = facts();
    facts.lineages = vec![lineage("bot", 3)];
    let found = rows(&facts, at(600));
    assert!(found[0].problems[0].contains("expired"), "{found:?}");
    assert!(found[1].problems.is_empty());
    let early = rows(&facts, at(-5));
    assert!(
        early[0].problems[0].contains("not valid before"),
        "{early:?}"
    );
}

#[test]
fn what_a_variable_names_for_each_handshake_is_not_judged() {
    let mut facts = facts();
    let mut by_variable = used("", &[], vec![Shown::Leaf(Fingerprint([77; 32]))]);
    by_variable.source = CertificateSource::Variable("$ssl_server_name.pem".into());
    facts.uses = vec![by_variable];
    let rows = rows(&facts, at(100));
    let row = rows.iter().find(|row| row.source == "$ssl_server_name.pem");
    let row = row.unwrap();
    assert_eq!(row.served(), Served::Unprobed);
    assert_eq!(row.problems, [""; 0]);
}

#[test]
fn a_certificate_is_shown_only_where_a_server_block_listens_with_it() {
    let names: Vec<CertificateName> = vec!["own".parse().unwrap()];
    let mut facts = facts();
    let path = "/etc/certwell/live/own/fullchain.pem";
    let mut deaf = used(path, &[], Vec::new());
    deaf.listeners.clear();
    let mut upstream = used(path, &[], Vec::new());
    upstream.role = Role::Upstream;
    facts.uses = vec![deaf, upstream];
    assert_eq!(unnamed(&facts, &names), names);
    facts.uses.push(used(path, &[], Vec::new()));
    assert_eq!(unnamed(&facts, &names), []);
}
