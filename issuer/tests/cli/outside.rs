//! What is seen from outside: facts, findings, and how people are told.

mod edges;
mod rounds;
mod wire;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use certwell_issuer::plan::{
    explain::explain,
    facts::FleetFacts,
    headline::headline,
    looks::looks,
    seen::{
        Finding, Key, Kind, SeenLeaf, Shown, Spot, UrlAnswer, findings, merge::merge, wire::Told,
    },
    status::status,
};
use certwell_proto::{Fingerprint, HostName, v1};
use jiff::Timestamp;

use crate::fleet::{
    HOSTS, MEDIA, certificate, configure, days, declare, fingerprint, fleet, host, issue, leaf,
    media, minutes, noon, older,
};
use crate::server::Issuer;

/// Each host's address, as the world reaches it.
fn address(on: &str) -> SocketAddr {
    let last = HOSTS.iter().position(|host| *host == on).unwrap();
    SocketAddr::from(([192, 0, 2, 10 + u8::try_from(last).unwrap()], 443))
}

fn at_host(on: &str) -> Spot {
    Spot {
        certificate: certificate(MEDIA),
        name: MEDIA.into(),
        host: Some(host(on)),
        address: Some(address(on)),
        key: Key::Ecdsa,
    }
}

fn by_dns(to: &str) -> Spot {
    Spot {
        host: None,
        address: Some(to.parse().unwrap()),
        ..at_host("sally")
    }
}

fn shown(der: &[u8], covers: &str) -> SeenLeaf {
    SeenLeaf {
        fingerprint: Fingerprint::of(der),
        not_before: noon() - days(10),
        not_after: noon() + days(80),
        covers: vec![covers.parse().unwrap()],
        tls_version: "TLSv1.3".into(),
        chain_problem: None,
    }
}

fn generation(number: u64) -> Shown {
    Shown::Leaf(shown(&leaf(MEDIA, number), MEDIA))
}

fn told(spot: Spot, shown: Shown) -> Told {
    Told {
        spot,
        shown,
        url: None,
        looked_at: noon(),
    }
}

/// Every host shows the generation that is desired.
fn all_well() -> Vec<Told> {
    HOSTS.map(|on| told(at_host(on), generation(2))).to_vec()
}

/// The fleet, with addresses that files tell; nobody has looked.
fn outside() -> FleetFacts {
    let mut facts = fleet(noon());
    configure(&mut facts, |config| {
        for on in HOSTS {
            config.hosts.get_mut(&host(on)).unwrap().addresses = vec![address(on)];
        }
        config.hosts.get_mut(&host("esme")).unwrap().probe = true;
    });
    facts
}

fn see(facts: &mut FleetFacts, probe: Option<&str>, mut told: Vec<Told>, at: Timestamp) {
    let probe: Option<HostName> = probe.map(host);
    told.iter_mut().for_each(|told| told.looked_at = at);
    merge(facts, probe.as_ref(), told, true, at);
}

fn seen(told: Vec<Told>) -> FleetFacts {
    let mut facts = outside();
    see(&mut facts, None, told, noon());
    facts
}

/// One host shows something else.
fn with(on: &str, shown: Shown) -> Vec<Told> {
    let mut all = all_well();
    all.retain(|told| told.spot != at_host(on));
    all.push(told(at_host(on), shown));
    all
}

fn only(facts: &FleetFacts, now: Timestamp) -> Finding {
    let found = findings(facts, now);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

fn fact(facts: &FleetFacts, on: &str) -> Option<v1::StatusServed> {
    let status = status(facts, noon());
    let media = status
        .certificates
        .iter()
        .find(|certificate| certificate.name == MEDIA);
    let hosts = &media.unwrap().hosts;
    hosts
        .iter()
        .find(|host| host.host == on)
        .unwrap()
        .seen
        .clone()
}

#[test]
fn what_every_host_shows_fills_the_seventh_fact_and_is_no_finding() {
    let facts = seen(all_well());
    assert_eq!(findings(&facts, noon()), []);
    for on in HOSTS {
        let seen = fact(&facts, on).unwrap();
        assert_eq!(seen.generation, Some(2), "{on}");
        assert_eq!(seen.at_ms, noon().as_millisecond());
        assert_eq!(seen.fingerprint, fingerprint(MEDIA, 2));
        assert_eq!(seen.listeners.len(), 1);
        assert_eq!(seen.listeners[0].state(), v1::ListenerState::Current);
    }
}

#[test]
fn before_anybody_has_looked_nothing_is_seen_and_nothing_wrong() {
    let facts = outside();
    assert_eq!(findings(&facts, noon()), []);
    assert_eq!(fact(&facts, "sally"), None);
    assert!(!facts.sightings.first_round_is_over());
    assert!(seen(Vec::new()).sightings.first_round_is_over());
}

#[test]
fn each_fault_is_a_finding_of_its_own() {
    let stranger = shown(b"a stranger", "elsewhere.example");
    let chain = SeenLeaf {
        chain_problem: Some("it leads to no known root".into()),
        ..shown(&leaf(MEDIA, 2), MEDIA)
    };
    let cases = [
        (
            Shown::Leaf(stranger),
            Kind::Stranger,
            "isn't of certwell",
            None,
        ),
        (
            Shown::Leaf(chain),
            Kind::Chain,
            "leads to no known root",
            Some(2),
        ),
        (
            Shown::Down("connection refused".into()),
            Kind::Down,
            "connection refused",
            None,
        ),
        (Shown::Rejects, Kind::Down, "refuses", None),
    ];
    for (what, kind, words, generation) in cases {
        let facts = seen(with("sally", what));
        let found = only(&facts, noon());
        assert_eq!(found.kind, kind);
        assert_eq!(found.host, Some(host("sally")));
        assert_eq!(found.address, Some(address("sally")));
        assert!(
            found.text.contains("sally") && found.text.contains(words),
            "{}",
            found.text
        );
        assert_eq!(
            fact(&facts, "sally").unwrap().generation,
            generation,
            "{kind:?}"
        );
        assert_eq!(fact(&facts, "esme").unwrap().generation, Some(2));
    }
}

#[test]
fn a_leaf_of_another_certificate_is_another_server_block_unless_it_covers_the_name() {
    let other = "img.hachyderm.io";
    let facts = |covers: &str| {
        let mut facts = outside();
        declare(&mut facts, other, &["sally"]);
        issue(&mut facts, other, 1, noon() - days(10), noon() + days(80));
        let shown = Shown::Leaf(shown(&leaf(other, 1), covers));
        see(&mut facts, None, with("sally", shown), noon());
        facts
    };
    let found = only(&facts(other), noon());
    assert_eq!(found.kind, Kind::OtherVhost);
    assert!(found.text.contains(other), "{}", found.text);
    assert_eq!(findings(&facts(MEDIA), noon()), []);
    assert_eq!(fact(&facts(other), "sally").unwrap().generation, None);
}

#[test]
fn an_older_generation_is_a_finding_once_a_renewal_had_its_time() {
    let facts = |issued: Timestamp, looked: Timestamp| {
        let mut facts = outside();
        let old = certwell_issuer::store::StoredLeaf {
            fingerprint: Fingerprint::of(&leaf(MEDIA, 1)),
            not_before: noon() - days(10),
            not_after: noon() + days(80),
        };
        media(&mut facts, MEDIA)
            .older
            .insert(certwell_proto::Generation(1), old);
        issue(&mut facts, MEDIA, 2, issued, noon() + days(80));
        see(&mut facts, None, with("sally", generation(1)), looked);
        facts
    };
    // Under way, also if nobody looks again for a while.
    assert_eq!(findings(&facts(noon() - minutes(1), noon()), noon()), []);
    assert_eq!(
        findings(&facts(noon() - minutes(3), noon() - minutes(2)), noon()),
        []
    );
    let late = facts(noon() - minutes(5), noon());
    let found = only(&late, noon());
    assert_eq!(found.kind, Kind::OtherGeneration);
    assert!(found.text.contains("not generation 2"), "{}", found.text);
    assert_eq!(found.not_after, Some(noon() + days(80)));
    assert_eq!(fact(&late, "sally").unwrap().generation, Some(1));
}

#[test]
fn a_fault_begins_when_it_is_first_seen_and_again_after_it_was_gone() {
    let down = || with("sally", Shown::Down("refused".into()));
    let mut facts = outside();
    see(&mut facts, None, down(), noon());
    see(
        &mut facts,
        None,
        with("sally", Shown::Down("timed out".into())),
        noon() + minutes(5),
    );
    assert_eq!(only(&facts, noon() + minutes(5)).since, noon());
    // One stranger after the other is one fault.
    let stranger = |der: &[u8]| with("sally", Shown::Leaf(shown(der, "x.example")));
    see(&mut facts, None, stranger(b"one"), noon() + minutes(10));
    see(&mut facts, None, stranger(b"two"), noon() + minutes(15));
    assert_eq!(
        only(&facts, noon() + minutes(15)).since,
        noon() + minutes(10)
    );
    see(&mut facts, None, all_well(), noon() + minutes(20));
    assert_eq!(findings(&facts, noon() + minutes(20)), []);
    see(&mut facts, None, down(), noon() + minutes(25));
    assert_eq!(
        only(&facts, noon() + minutes(25)).since,
        noon() + minutes(25)
    );
}

#[test]
fn what_is_old_counts_no_more() {
    let facts = seen(with("sally", Shown::Rejects));
    assert_eq!(findings(&facts, noon() + minutes(14)).len(), 1);
    assert_eq!(findings(&facts, noon() + minutes(16)), []);
    let late = status(&facts, noon() + minutes(16));
    assert!(
        late.certificates[0]
            .hosts
            .iter()
            .all(|host| host.seen.is_none())
    );
}

#[test]
fn a_name_that_leads_elsewhere_is_told_with_where_and_what_is_there() {
    let stranger = Shown::Leaf(shown(b"x", "x.example"));
    let mut all = all_well();
    all.push(told(by_dns("203.0.113.7:443"), stranger));
    let facts = seen(all);
    let found = only(&facts, noon());
    assert_eq!(
        (found.kind, found.host.clone()),
        (Kind::LeadsElsewhere, None)
    );
    assert!(
        found.text.contains("203.0.113.7:443") && found.text.contains("no host's"),
        "{}",
        found.text
    );
    assert_eq!(status(&facts, noon()).certificates[0].elsewhere.len(), 1);
    // Another host of the fleet, which isn't one of the certificate.
    let mut all = all_well();
    all.push(told(by_dns("203.0.113.7:443"), generation(2)));
    let mut facts = outside();
    configure(&mut facts, |config| {
        let fritz = certwell_issuer::config::Host {
            addresses: vec!["203.0.113.7:443".parse().unwrap()],
            ..Default::default()
        };
        config.hosts.insert(host("fritz"), fritz);
    });
    see(&mut facts, None, all, noon());
    assert_eq!(only(&facts, noon()).host, Some(host("fritz")));
    // Where DNS leads to a host of the certificate all is well.
    let mut all = all_well();
    all.push(told(by_dns(&address("esme").to_string()), generation(2)));
    assert_eq!(findings(&seen(all), noon()), []);
}

#[test]
fn an_unknown_address_with_our_key_is_a_host_s_where_no_file_tells_all_addresses() {
    let mut facts = outside();
    configure(&mut facts, |config| {
        config
            .hosts
            .get_mut(&host("sally"))
            .unwrap()
            .addresses
            .clear();
    });
    let mut all = all_well();
    all.push(told(by_dns("203.0.113.7:443"), generation(2)));
    see(&mut facts, None, all.clone(), noon());
    assert_eq!(findings(&facts, noon()), []);
    assert_eq!(only(&seen(all), noon()).kind, Kind::LeadsElsewhere);
}

#[test]
fn a_name_without_an_address_is_told_and_a_made_up_one_is_not() {
    let unresolved = |name: &str| {
        let spot = Spot {
            name: name.into(),
            address: None,
            ..by_dns("192.0.2.1:443")
        };
        let mut all = all_well();
        all.push(told(
            spot,
            Shown::Unresolved("the name doesn't exist".into()),
        ));
        seen(all)
    };
    let found = only(&unresolved(MEDIA), noon());
    assert_eq!((found.kind, found.address), (Kind::Unresolved, None));
    assert_eq!(
        findings(&unresolved("certwell-probe.hachyderm.io"), noon()),
        []
    );
}

#[test]
fn a_url_that_answers_wrongly_is_told_by_the_edge_that_does() {
    let mut all = with("sally", generation(2));
    all.last_mut().unwrap().url = Some(UrlAnswer {
        url: "https://media.hachyderm.io/health.png".into(),
        status: Some(301),
        content_type: "text/html".into(),
        problem: Some("status 301, which leads to https://x/, not 200".into()),
    });
    let facts = seen(all);
    let found = only(&facts, noon());
    assert_eq!(
        (found.kind, found.host.clone()),
        (Kind::Url, Some(host("sally")))
    );
    assert!(
        found.text.contains("health.png") && found.text.contains("301"),
        "{}",
        found.text
    );
    // The leaf is right all the same.
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(2));
}

#[test]
fn a_probe_that_reaches_nothing_is_told_and_its_sight_does_not_count() {
    let blind: Vec<Told> = HOSTS
        .map(|on| told(at_host(on), Shown::Down("unreachable".into())))
        .to_vec();
    let mut facts = seen(all_well());
    see(&mut facts, Some("esme"), blind.clone(), noon());
    assert_eq!(findings(&facts, noon()), []);
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(2));
    let problems = status(&facts, noon()).problems;
    assert!(
        problems
            .iter()
            .any(|p| p.contains("the probe on esme reaches none of the 4")),
        "{problems:?}"
    );
    // Alone it can't be told from the edges, and says so.
    let alone = seen(blind);
    let found = findings(&alone, noon());
    assert_eq!(found.len(), 4);
    assert!(
        found[0]
            .text
            .contains("the issuer reaches no other address either"),
        "{}",
        found[0].text
    );
}

#[test]
fn a_probe_without_ipv6_is_told_once_and_no_edge_is_blamed() {
    let v6 = |on: &str| Spot {
        address: Some("[2001:db8::13]:443".parse().unwrap()),
        ..at_host(on)
    };
    let no_route = || Shown::NoRoute("Network is unreachable (os error 101)".into());
    let without = |probe: Option<&str>, facts: &mut FleetFacts| {
        let mut all = all_well();
        all.extend(["sally", "esme"].map(|on| told(v6(on), no_route())));
        see(facts, probe, all, noon());
    };
    let mut facts = outside();
    without(None, &mut facts);
    assert_eq!(findings(&facts, noon()), []);
    assert_eq!(fact(&facts, "sally").unwrap().generation, Some(2));
    let told_of = |facts: &FleetFacts| {
        let mut problems = status(facts, noon()).problems;
        problems.retain(|problem| problem.contains("no route to any IPv6 address"));
        problems
    };
    assert_eq!(
        told_of(&facts),
        [
            "the issuer has no route to any IPv6 address, and doesn't see how it is at 1 place (Network is unreachable \
          (os error 101))"
        ]
    );
    // Another probe has IPv6: what it sees counts, and what it has no route to is nobody's fault but the edge's.
    let mut all = all_well();
    all.push(told(v6("esme"), generation(2)));
    all.push(told(v6("sally"), no_route()));
    see(&mut facts, Some("esme"), all, noon());
    let found = only(&facts, noon());
    assert_eq!((found.kind, found.host), (Kind::Down, Some(host("sally"))));
    assert_eq!(told_of(&facts).len(), 1);
}

#[test]
fn a_probe_whose_dns_servers_do_not_answer_is_told_once_and_no_name_is_blamed() {
    let asked = |name: &str, shown: Shown| {
        let spot = Spot {
            name: name.into(),
            address: None,
            ..by_dns("192.0.2.1:443")
        };
        told(spot, shown)
    };
    let silent = || Shown::NoAnswer("no answer within 10 s".into());
    let facts = |named: Vec<Told>| {
        let mut facts = outside();
        configure(&mut facts, |config| {
            let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
            let more = ["img.hachyderm.io", "cdn.hachyderm.io"];
            declared
                .identifiers
                .extend(more.map(|name| name.parse().unwrap()));
        });
        let mut all = all_well();
        all.extend(named);
        see(&mut facts, None, all, noon());
        facts
    };
    let (img, cdn) = ("img.hachyderm.io", "cdn.hachyderm.io");
    let none = facts(vec![asked(img, silent()), asked(cdn, silent())]);
    assert_eq!(findings(&none, noon()), []);
    let problem = "no DNS server answers the issuer, whichever of 2 names it asks for: where they lead isn't seen from \
                   there (no answer within 10 s)";
    let problems = status(&none, noon()).problems;
    assert!(problems.iter().any(|told| told == problem), "{problems:?}");
    // Where another name is answered, its own servers are to blame.
    let gone = Shown::Unresolved("the name doesn't exist".into());
    let one = facts(vec![asked(img, silent()), asked(cdn, gone)]);
    let names: Vec<String> = findings(&one, noon()).into_iter().map(|f| f.name).collect();
    assert_eq!(names, [cdn, img]);
    let problems = status(&one, noon()).problems;
    assert!(
        problems.iter().all(|told| !told.contains("no DNS server")),
        "{problems:?}"
    );
}

#[test]
fn a_finding_names_the_probes_that_see_it_and_those_that_do_not() {
    let mut facts = seen(all_well());
    see(
        &mut facts,
        Some("esme"),
        with("sally", Shown::Down("timed out".into())),
        noon(),
    );
    let found = only(&facts, noon());
    let words = "(so the probe on esme sees it, but not the issuer)";
    assert!(found.text.ends_with(words), "{}", found.text);
}

#[test]
fn hosts_that_are_no_probes_any_more_count_no_more() {
    let mut facts = seen(all_well());
    see(
        &mut facts,
        Some("esme"),
        with("sally", Shown::Rejects),
        noon(),
    );
    assert_eq!(findings(&facts, noon()).len(), 1);
    configure(&mut facts, |config| {
        config.hosts.get_mut(&host("esme")).unwrap().probe = false;
    });
    assert_eq!(findings(&facts, noon()), []);
    configure(&mut facts, |config| config.probe.enabled = false);
    assert_eq!(fact(&facts, "sally"), None);
}

#[test]
fn a_finding_leads_the_status_and_leaves_it_converged() {
    let facts = seen(with("sally", Shown::Leaf(shown(b"x", "x.example"))));
    let head = headline(&status(&facts, noon()), noon());
    assert!(
        head.converged && head.text.contains("isn't of certwell"),
        "{}",
        head.text
    );
    let sentences = explain(&facts, &certificate(MEDIA), noon())
        .unwrap()
        .join("\n");
    assert!(
        sentences.contains("Wrong from outside since now: sally"),
        "{sentences}"
    );
    assert!(
        sentences.contains("From outside, generation 2 is seen on esme"),
        "{sentences}"
    );
    assert!(
        sentences.contains("80 days (88%) left, TLSv1.3"),
        "{sentences}"
    );
}

#[test]
fn each_name_is_looked_at_on_each_host_and_where_dns_leads() {
    let mut facts = outside();
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.identifiers.push("*.hachyderm.io".parse().unwrap());
        declared.identifiers.push("192.0.2.1".parse().unwrap());
    });
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for look in looks(&facts) {
        assert_eq!(look.host.is_none(), look.addresses.is_empty());
        *by_name.entry(look.name).or_default() += 1;
    }
    let names = [MEDIA, "certwell-probe.hachyderm.io", "192.0.2.1"];
    assert_eq!(
        by_name,
        names.map(|name| (name.to_owned(), HOSTS.len() + 1)).into()
    );
    // What isn't issued yet is nowhere.
    media(&mut facts, MEDIA).issued = None;
    assert_eq!(looks(&facts), []);
}

#[test]
fn without_written_addresses_the_reported_ones_are_looked_at_those_of_the_world_first() {
    let mut facts = fleet(noon());
    let addresses = |facts: &FleetFacts| {
        let looks = looks(facts);
        let sally = looks
            .into_iter()
            .find(|look| look.host == Some(host("sally")));
        sally.map(|look| look.addresses).unwrap_or_default()
    };
    let loopback: Vec<SocketAddr> = ["127.0.0.1:443", "127.0.0.1:8443"]
        .map(|a| a.parse().unwrap())
        .to_vec();
    assert_eq!(addresses(&facts), loopback);
    let report = |facts: &mut FleetFacts, address: &str, state, proxied| {
        let sally = crate::fleet::sally(facts);
        let listeners = &mut sally.facts.served.as_mut().unwrap().listeners;
        let mut listener = listeners[0].clone();
        listener.address = address.into();
        listener.state = v1::ListenerState::into(state);
        listener.proxy_protocol = proxied;
        listeners.push(listener);
    };
    use v1::ListenerState::{Current, Elsewhere};
    report(&mut facts, "10.0.0.5:443", Current, false);
    assert_eq!(addresses(&facts), ["10.0.0.5:443".parse().unwrap()]);
    for (address, state, proxied) in [
        ("203.0.113.1:443", Elsewhere, false),
        ("203.0.113.2:443", Current, true),
        ("unix:/run/x.sock", Current, false),
        ("[fe80::1]:443", Current, false),
    ] {
        report(&mut facts, address, state, proxied);
    }
    assert_eq!(addresses(&facts), ["10.0.0.5:443".parse().unwrap()]);
    report(&mut facts, "203.0.113.3:443", Current, false);
    assert_eq!(addresses(&facts), ["203.0.113.3:443".parse().unwrap()]);
}

#[test]
fn rounds_come_as_often_as_the_shortest_life_asks_and_what_has_ended_hurries_nobody() {
    use certwell_issuer::plan::seen::merge::shortest_life;
    let mut facts = outside();
    issue(
        &mut facts,
        MEDIA,
        2,
        noon() - minutes(1),
        noon() + minutes(3),
    );
    assert_eq!(
        shortest_life(&facts, noon()),
        Some(Duration::from_secs(180))
    );
    assert_eq!(shortest_life(&facts, noon() + minutes(4)), None);
}

#[test]
fn only_a_declared_certificate_that_lives_sets_the_issuers_own_pace() {
    let now = noon();
    let mut facts = outside();
    let others = ["expired.example", "undeclared.example"];
    for (name, end) in others.into_iter().zip([now - days(1), now + minutes(3)]) {
        declare(&mut facts, name, &["sally"]);
        issue(&mut facts, name, 1, now - days(90), end);
    }
    configure(&mut facts, |config| {
        config
            .certificates
            .remove(&certificate("undeclared.example"));
    });
    let ends = media(&mut facts, MEDIA).issued.as_ref().unwrap().not_after;
    let life = Duration::try_from(now.duration_until(ends)).unwrap();
    assert_eq!(facts.shortest_life(now), Some(life));
    assert_eq!(facts.shortest_life(ends + minutes(1)), None);
}

#[test]
fn what_is_seen_is_told_to_scripts_and_in_tables() {
    let mut all = with("sally", Shown::Leaf(shown(b"x", "x.example")));
    all.push(told(
        by_dns("203.0.113.7:443"),
        Shown::Down("refused".into()),
    ));
    let issuer = Issuer::at(seen(all), Some(noon()));
    let json = issuer.run(&["status", "--json"]).json();
    let media = &json["certificates"][0];
    let kinds: Vec<&str> = media["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["stranger", "leads-elsewhere"]);
    assert_eq!(media["findings"][0]["host"], "sally");
    assert_eq!(media["findings"][0]["since"], "2026-11-24T12:00:00Z");
    assert_eq!(media["elsewhere"][0]["address"], "203.0.113.7:443");
    let [esme, sally] = [&media["hosts"][2], &media["hosts"][3]];
    assert_eq!(esme["facts"]["seen"]["generation"], 2);
    assert_eq!(esme["facts"]["seen"]["listeners"][0]["state"], "current");
    assert_eq!(
        sally["facts"]["seen"]["generation"],
        serde_json::Value::Null
    );
    let sighting = &sally["sightings"][0];
    for (field, value) in [
        ("key", "ecdsa"),
        ("state", "leaf"),
        ("tls_version", "TLSv1.3"),
        ("not_after", "2027-02-12T12:00:00Z"),
    ] {
        assert_eq!(sighting[field], value);
    }
    let shown = issuer.run(&["certificates", "show", MEDIA]);
    for part in [
        "SEEN AT",
        "192.0.2.13:443",
        "stranger",
        "TLSv1.3",
        "From outside: sally:",
    ] {
        assert!(
            shown.out.contains(part),
            "{part} is missing in:\n{}",
            shown.out
        );
    }
    assert_eq!(media["probe_dns"], true);
    assert!(!shown.out.contains("public DNS"), "{}", shown.out);
    let mut facts = outside();
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.probe_dns = false;
    });
    let left_out = Issuer::at(facts, Some(noon()));
    let json = left_out.run(&["status", "--json"]).json();
    assert_eq!(json["certificates"][0]["probe_dns"], false);
    let shown = left_out.run(&["certificates", "show", MEDIA]);
    let words = "Where public DNS leads isn't looked at: probe-dns = false.";
    assert!(shown.out.contains(words), "{}", shown.out);
    let host = issuer.run(&["hosts", "show", "esme"]);
    assert!(host.out.contains("SEEN"), "{}", host.out);
}
