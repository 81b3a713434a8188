//! `certwell status`: its first line, its JSON, its exit code.

use certwell_issuer::clock;
use certwell_proto::v1;

use crate::{
    fleet::{
        MEDIA, certificate, days, declare, empty, fleet, issue, media, minutes, noon, sally,
        sally_host, served,
    },
    server::Issuer,
};

#[test]
fn a_converged_fleet_says_so_first_and_exits_0() {
    let issuer = Issuer::of(fleet(clock::now()));
    let ran = issuer.run(&["status"]);
    assert_eq!(
        ran.out,
        "\
all 4 hosts serve media.hachyderm.io generation 2, valid for 80 days

media.hachyderm.io: generation 2, valid for 80 days, renewal in 50 days,
  authority letsencrypt
HOST             STATE      FETCHED  INSTALLED  TESTED  RELOADED  SERVED  SEEN
cdn-frankfurt-1  converged  2        2          2       2         2       -
cdn-fremont-1    converged  2        2          2       2         2       -
esme             converged  2        2          2       2         2       -
sally            converged  2        2          2       2         2       -
"
    );
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_host_that_holds_back_is_named_with_its_words_and_exits_3() {
    let now = clock::now();
    let mut facts = fleet(now);
    issue(&mut facts, MEDIA, 3, now - minutes(1), now + days(90));
    for name in ["cdn-frankfurt-1", "cdn-fremont-1", "esme"] {
        crate::fleet::observe(&mut facts, MEDIA, name, 3, now);
    }
    let on_sally = sally(&mut facts);
    on_sally.outcome = v1::Outcome::Held;
    on_sally.outcome_generation = certwell_proto::Generation(3);
    on_sally.facts.problem = "sally: nginx -t failed on the host's own config (not ours)".into();
    let issuer = Issuer::of(facts);
    let ran = issuer.run(&["status"]);
    let first: String = ran
        .out
        .lines()
        .take_while(|line| !line.is_empty())
        .collect();
    assert_eq!(
        first,
        "media.hachyderm.io: sally: nginx -t failed on the host's own config (not ours)"
    );
    assert!(
        ran.out.contains("sally            held       2 "),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("esme             converged  3 "),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("! sally: nginx -t failed"), "{}", ran.out);
    assert_eq!(ran.code, 3);
    assert_eq!(issuer.run(&["status", "--json"]).code, 3);
}

#[test]
fn an_expired_certificate_exits_3_even_when_all_serve_it() {
    let now = clock::now();
    let mut facts = fleet(now);
    media(&mut facts, MEDIA).issued.as_mut().unwrap().not_after = now - days(2);
    let ran = Issuer::of(facts).run(&["status"]);
    assert!(
        ran.out
            .starts_with("generation 2 of media.hachyderm.io expired 2 days ago"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("EXPIRED 2 days ago"), "{}", ran.out);
    assert_eq!(ran.code, 3);
}

#[test]
fn what_is_in_the_way_of_the_issuer_itself_is_said() {
    let mut facts = fleet(clock::now());
    facts.config_problem = Some("conf.d/media.toml:3:1: unknown key".into());
    let ran = Issuer::of(facts).run(&["status"]);
    assert!(
        ran.out
            .starts_with("a newer edit of the configuration is refused"),
        "{}",
        ran.out
    );
    assert_eq!(ran.code, 0);
}

#[test]
fn nothing_declared_is_nothing_to_fret_about() {
    let ran = Issuer::of(empty(clock::now())).run(&["status"]);
    assert!(
        ran.out.starts_with("no certificate is declared"),
        "{}",
        ran.out
    );
    assert_eq!(ran.code, 0);
}

/// Scripts rely on every byte of this. Set UPDATE=1 to write it anew, then read the difference.
#[test]
fn json_is_as_documented() {
    let now = noon();
    let mut facts = fleet(now);
    declare(&mut facts, "new.hachyderm.io", &["esme"]);
    served(&mut facts).generation = None;
    let states = [
        v1::ListenerState::Old,
        v1::ListenerState::Stranger,
        v1::ListenerState::Down,
        v1::ListenerState::Rejects,
        v1::ListenerState::Unprobed,
        v1::ListenerState::Elsewhere,
    ];
    served(&mut facts).fingerprint.clear();
    served(&mut facts).listeners.truncate(1);
    for (port, state) in (9001..).zip(states) {
        served(&mut facts).listeners.push(v1::Listener {
            address: format!("[::1]:{port}"),
            name: MEDIA.into(),
            state: state.into(),
            fingerprint: if state == v1::ListenerState::Old {
                vec![0xAB; 32]
            } else {
                vec![]
            },
            detail: String::new(),
            proxy_protocol: false,
        });
    }
    sally_host(&mut facts).problem = Some("disk full".into());
    media(&mut facts, MEDIA)
        .observations
        .remove(&crate::fleet::host("cdn-fremont-1"));

    let ran = Issuer::at(facts, Some(now)).run(&["status", "--json"]);
    assert_eq!(ran.code, 3);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/status.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &ran.out).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(ran.out, golden);

    // And by meaning, so that an update by mistake is noticed.
    let json = ran.json();
    assert_eq!(json["version"], 1);
    assert_eq!(json["certificates"][0]["not_after"], "2027-02-12T12:05:00Z");
    let frankfurt = &json["certificates"][0]["hosts"][0];
    assert_eq!(frankfurt["facts"]["served"]["generation"], 2);
    assert_eq!(frankfurt["facts"]["served"]["at"], "2026-11-14T12:00:05Z");
    assert_eq!(frankfurt["facts"]["seen"], serde_json::Value::Null);
    assert_eq!(frankfurt["problem"], serde_json::Value::Null);
    let fingerprint = frankfurt["facts"]["served"]["fingerprint"]
        .as_str()
        .unwrap();
    assert_eq!(fingerprint.len(), 64);
    assert!(
        fingerprint
            .chars()
            .all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
    );
    let sally = &json["certificates"][0]["hosts"][3];
    let states: Vec<&str> = sally["facts"]["served"]["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listener| listener["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        [
            "current",
            "old",
            "stranger",
            "down",
            "rejects",
            "unprobed",
            "elsewhere"
        ]
    );
    assert_eq!(json["certificates"][1]["generation"], 0);
    assert_eq!(
        json["certificates"][1]["not_after"],
        serde_json::Value::Null
    );
    assert_eq!(certificate(MEDIA).as_str(), json["certificates"][0]["name"]);
}
