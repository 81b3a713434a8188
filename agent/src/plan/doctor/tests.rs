mod servers;

use super::{
    Facts, Finding, Findings, Server,
    agent::{self, Configuration, Identity, Reach, Us},
    beside,
    disk::{self, Entry, Space, Step, Trial},
    examine, exec,
    nginx::{self, Map, Master, Pid, Read},
    port_80::{self, Lack},
};
use crate::{
    disk::holds,
    nginx::{Place, parse},
};

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_000 + second).unwrap()
}

const ROOT: Us = Us {
    user: 0,
    group: 0,
    capabilities: u64::MAX,
};

/// A host on which all is well.
fn well() -> Facts {
    Facts {
        agent: agent::Facts {
            configuration: Configuration::Right,
            us: ROOT,
            unknown_group: None,
            last_written: Some(("/state.json".into(), at(-10))),
            identity: Identity::Valid {
                from: at(-100),
                until: at(100),
            },
            endpoints: vec![("issuer:7443".into(), Reach::Reached)],
            running: true,
            alarm_refused: Vec::new(),
            holds: holds::Read::Known(holds::Holds::default()),
        },
        places: vec![place()],
        server: Server::Nginx(Box::new(nginx())),
        beside: beside::Facts::default(),
    }
}

#[test]
fn an_alarm_that_nobody_accepts_is_worth_knowing() {
    let mut facts = well();
    let why = "notifier chat: discord.com answered 404 Not Found".to_owned();
    facts.agent.alarm_refused = vec![("chat".into(), why)];
    let found = examine(&facts, at(0));
    assert!(found.in_the_way.is_empty(), "{found:?}");
    let note = &found.notes[0];
    assert_eq!(note.what, "alarm-refused");
    assert!(
        note.sentence.contains("404") && note.remedy.contains("[alarm.chat]"),
        "{note:?}"
    );
}

fn step(path: &str, user: u32, group: u32, mode: u32) -> Step {
    Step {
        path: path.into(),
        is_link: false,
        user,
        group,
        mode,
    }
}

fn place() -> disk::Place {
    disk::Place {
        path: "/var/state".into(),
        role: "the state directory",
        is_made: true,
        entry: Entry::Directory,
        way: vec![
            step("/", 0, 0, 0o755),
            step("/var", 0, 0, 0o755),
            step("/var/state", 0, 0, 0o700),
        ],
        trial: Trial::Passed,
        space: Some(Space {
            bytes: u64::MAX,
            inodes: None,
        }),
    }
}

const SITE: &str = "server { listen 80; server_name a.org; include s; return 301 https://$host; }";

fn servers(sites: &str) -> Vec<crate::nginx::Server> {
    let dump = format!(
        "# configuration file /n/nginx.conf:\nhttp {{\n{sites}\n}}\n# configuration file /n/s:\nif ($certwell_acme_reply) {{ return 200 $certwell_acme_reply; }}\n"
    );
    parse(&dump).servers
}

fn port_80(sites: &str, names: &[&str]) -> port_80::Facts {
    port_80::Facts {
        port: 80,
        servers: servers(sites),
        local: vec!["192.0.2.7".parse().unwrap()],
        names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn nginx() -> nginx::Facts {
    nginx::Facts {
        pid_file: "/run/nginx.pid".into(),
        pid: Pid::Ours,
        binary: "/usr/sbin/nginx".into(),
        binary_there: true,
        config: "/n/nginx.conf".into(),
        master: Some(Master {
            pid: 7,
            may_be_signalled: true,
        }),
        others: Vec::new(),
        read: Read::Known(Vec::new()),
        edit: None,
        map: Map {
            path: "/n/map.conf".into(),
            is_there: true,
            is_included: Some(true),
            http: None,
        },
        snippet: "/n/snippets/certwell-acme.conf".into(),
        snippet_there: true,
        snippet_silent: false,
        kept_out: Vec::new(),
        port_80: port_80(SITE, &[]),
    }
}

fn words(list: &[Finding]) -> Vec<&'static str> {
    list.iter().map(|finding| finding.what).collect()
}

fn found(facts: &Facts) -> Findings {
    examine(facts, at(0))
}

#[test]
fn a_host_that_is_well_has_nothing_in_the_way() {
    assert_eq!(found(&well()), Findings::default());
}

#[test]
fn clock_and_identity_are_told_apart_by_what_is_known() {
    let valid = |from, until| Identity::Valid {
        from: at(from),
        until: at(until),
    };
    for (identity, written, expected) in [
        (valid(-10, 10), 0, None),
        // A clock that is off by minutes is no lost clock.
        (valid(60, 600), 60, None),
        (valid(4_000, 8_000), 0, Some("clock-wrong")),
        (valid(-10, 10), 4_000, Some("clock-wrong")),
        (valid(-10, -1), 0, Some("identity-expired")),
        (Identity::Absent, 0, Some("not-enrolled")),
        (
            Identity::Denied("/i".into()),
            0,
            Some("identity-unreadable"),
        ),
    ] {
        let mut facts = well();
        facts.agent.identity = identity.clone();
        facts.agent.last_written = Some(("/f".into(), at(written)));
        let words = words(&found(&facts).in_the_way);
        assert_eq!(
            words,
            expected.into_iter().collect::<Vec<_>>(),
            "{identity:?} {written}"
        );
    }
    let mut lost = well();
    lost.agent.identity = Identity::Absent;
    let findings = examine(&lost, jiff::Timestamp::from_second(1).unwrap());
    assert_eq!(words(&findings.in_the_way), ["clock-wrong", "not-enrolled"]);
}

#[test]
fn the_endpoint_that_came_furthest_says_what_to_do() {
    let (unresolved, unconnected, refused) = (
        Reach::Unresolved("x".into()),
        Reach::Unconnected("y".into()),
        Reach::Refused("z".into()),
    );
    for (endpoints, expected) in [
        (vec![], None),
        (vec![unresolved.clone()], Some("issuer-unresolved")),
        (
            vec![unresolved.clone(), unconnected.clone()],
            Some("issuer-unreachable"),
        ),
        (
            vec![refused.clone(), unconnected.clone()],
            Some("issuer-refuses"),
        ),
        (vec![refused, unconnected, Reach::Reached, unresolved], None),
    ] {
        let mut facts = well();
        facts.agent.endpoints = endpoints
            .into_iter()
            .map(|reach| ("e:1".to_owned(), reach))
            .collect();
        assert_eq!(
            words(&found(&facts).in_the_way),
            expected.into_iter().collect::<Vec<_>>()
        );
    }
}

#[test]
fn who_is_not_root_is_told_so_once_and_only_where_something_is_kept_from_him() {
    let mut facts = well();
    facts.agent.us.user = 1_000;
    for place in &mut facts.places {
        place.way[2].user = 1_000;
    }
    assert_eq!(
        words(&found(&facts).in_the_way),
        [""; 0],
        "all that it needs is its own"
    );
    facts.places[0].trial = Trial::Denied("no".into());
    facts.agent.identity = Identity::Denied("/i".into());
    assert_eq!(words(&found(&facts).in_the_way), ["not-root"]);
    facts.agent.us = ROOT;
    facts.places[0].way[2].user = 0;
    assert_eq!(
        words(&found(&facts).in_the_way),
        ["not-writable", "identity-unreadable"]
    );
    facts.agent.us.capabilities = !0b10_0001;
    let findings = found(&facts);
    assert!(
        findings.in_the_way[0]
            .sentence
            .contains("CAP_CHOWN, CAP_KILL"),
        "{findings:?}"
    );
}

#[test]
fn who_could_exchange_what_is_in_a_directory_is_named() {
    let link = |user| Step {
        is_link: true,
        ..step("/var", user, 0, 0o777)
    };
    for (changed, expected) in [
        (step("/var", 0, 0, 0o1777), None),
        (step("/var", 0, 0, 0o777), Some("wrong-mode")),
        (step("/var", 0, 5, 0o775), Some("wrong-mode")),
        (step("/var", 0, 0, 0o775), None),
        (step("/var", 0, 5, 0o1775), None),
        (step("/var", 5, 0, 0o755), Some("wrong-owner")),
        (step("/var", 5, 0, 0o1777), Some("wrong-owner")),
        (link(0), None),
        (link(5), Some("foreign-link")),
    ] {
        let mut facts = well();
        facts.places = vec![place(), place()];
        for place in &mut facts.places {
            place.way[1] = changed.clone();
        }
        let words = words(&found(&facts).in_the_way);
        assert_eq!(
            words,
            expected.into_iter().collect::<Vec<_>>(),
            "once: {changed:?}"
        );
    }
    // In the directory itself nobody else may make anything.
    let mut facts = well();
    facts.places[0].way[2].mode = 0o1777;
    assert_eq!(words(&found(&facts).in_the_way), ["wrong-mode"]);
}

#[test]
fn room_is_judged_by_what_an_install_needs() {
    let missing = Entry::Missing {
        nearest: "/var".into(),
    };
    for (entry, trial, bytes, inodes, expected) in [
        (Entry::Directory, Trial::Passed, 2 << 20, Some(100), None),
        (
            Entry::Directory,
            Trial::Passed,
            1 << 19,
            Some(100),
            Some("disk-full"),
        ),
        (
            Entry::Directory,
            Trial::Full,
            2 << 20,
            None,
            Some("disk-full"),
        ),
        (
            Entry::Directory,
            Trial::Full,
            2 << 20,
            Some(0),
            Some("no-inodes"),
        ),
        (
            Entry::Directory,
            Trial::ReadOnly,
            0,
            Some(0),
            Some("read-only"),
        ),
        (
            Entry::Directory,
            Trial::Failed("EIO".into()),
            2 << 20,
            None,
            Some("not-writable"),
        ),
        (Entry::Directory, Trial::Untried, 2 << 20, None, None),
        (missing.clone(), Trial::Passed, 2 << 20, None, None),
        (missing, Trial::ReadOnly, 2 << 20, None, Some("read-only")),
        (
            Entry::NotDirectory("/var".into()),
            Trial::Untried,
            0,
            None,
            Some("not-a-directory"),
        ),
        (
            Entry::Dangling {
                link: "/var".into(),
                target: "/x".into(),
            },
            Trial::Untried,
            0,
            None,
            Some("dangling-link"),
        ),
        (
            Entry::Unknown("EIO".into()),
            Trial::Untried,
            0,
            None,
            Some("directory-unusable"),
        ),
    ] {
        let mut facts = well();
        let place = &mut facts.places[0];
        place.entry = entry.clone();
        place.trial = trial.clone();
        place.space = Some(Space { bytes, inodes });
        let words = words(&found(&facts).in_the_way);
        assert_eq!(
            words,
            expected.into_iter().collect::<Vec<_>>(),
            "{entry:?} {trial:?}"
        );
    }
}
