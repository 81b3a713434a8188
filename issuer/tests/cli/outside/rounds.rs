//! Round after round: what is kept, and what is looked at.

use certwell_issuer::{config::Roots, plan::looks::roots};
use jiff::SignedDuration;

use super::*;

fn kept(facts: &FleetFacts) -> Vec<Spot> {
    let seen = facts.sightings.probes.values();
    seen.flat_map(|probe| probe.seen.keys().cloned()).collect()
}

#[test]
fn a_round_in_parts_is_over_with_its_last() {
    let mut facts = outside();
    merge(&mut facts, None, all_well(), false, noon());
    assert!(!facts.sightings.first_round_is_over());
    merge(&mut facts, None, Vec::new(), true, noon());
    assert!(facts.sightings.first_round_is_over());
    assert_eq!(kept(&facts).len(), HOSTS.len(), "of every part");
}

#[test]
fn what_is_seen_counts_for_three_rounds_however_long_they_take() {
    let fault = || with("sally", Shown::Rejects);
    let mut facts = seen(fault());
    see(&mut facts, None, fault(), noon() + minutes(9));
    assert_eq!(findings(&facts, noon() + minutes(9 + 26)).len(), 1);
    assert_eq!(findings(&facts, noon() + minutes(9 + 28)), []);
    // One that was away for long doesn't count for longer than twice the usual.
    see(&mut facts, None, fault(), noon() + minutes(120));
    assert_eq!(findings(&facts, noon() + minutes(120 + 31)), []);
}

#[test]
fn an_address_to_which_dns_no_longer_leads_is_forgotten_and_so_is_what_nobody_looks_at() {
    let leads = |to: &str| {
        let mut all = all_well();
        all.push(told(by_dns(to), Shown::Rejects));
        all
    };
    let mut facts = seen(leads("203.0.113.7:443"));
    see(
        &mut facts,
        None,
        leads("203.0.113.8:443"),
        noon() + minutes(5),
    );
    let found = only(&facts, noon() + minutes(5));
    assert_eq!(found.address, by_dns("203.0.113.8:443").address);

    let esme = || vec![told(at_host("esme"), generation(2))];
    see(&mut facts, None, esme(), noon() + minutes(10));
    assert!(kept(&facts).contains(&at_host("sally")));
    see(&mut facts, None, esme(), noon() + minutes(120));
    assert_eq!(kept(&facts), [at_host("esme")]);
}

#[test]
fn the_seventh_fact_has_the_time_since_when_it_is_so_and_that_of_the_last_look() {
    let mut facts = seen(all_well());
    older(&mut facts, MEDIA, 1, noon() + days(50));
    let at = |minute| (noon() + minutes(minute)).as_millisecond();
    see(&mut facts, None, all_well(), noon() + minutes(5));
    let again = fact(&facts, "sally").unwrap();
    assert_eq!(again.at_ms, at(0));
    see(
        &mut facts,
        None,
        with("sally", generation(1)),
        noon() + minutes(10),
    );
    let other = fact(&facts, "sally").unwrap();
    assert_eq!((other.generation, other.at_ms), (Some(1), at(10)));
}

#[test]
fn a_fault_stands_though_dns_leads_to_another_address_in_each_round() {
    const ADDRESSES: [&str; 3] = ["203.0.113.7:443", "203.0.113.8:443", "203.0.113.9:443"];
    let down = || Shown::Down("timed out".into());
    let mut facts = outside();
    configure(&mut facts, |config| {
        let of_esme = ADDRESSES.map(|address| address.parse().unwrap());
        config.hosts.get_mut(&host("esme")).unwrap().addresses = of_esme.to_vec();
    });
    let mut round = |leads: &[(&str, Shown)], second: i64| -> Vec<(String, bool)> {
        let mut all = all_well();
        all.extend(
            leads
                .iter()
                .map(|(to, shown)| told(by_dns(to), shown.clone())),
        );
        let at = noon() + SignedDuration::from_secs(second);
        see(&mut facts, None, all, at);
        let found = findings(&facts, at).into_iter();
        found
            .map(|found| (found.address.unwrap().to_string(), found.stands))
            .collect()
    };
    let [one, two, three] = ADDRESSES;
    let found = |address: &str, stands: bool| (address.to_owned(), stands);
    assert_eq!(round(&[(one, down())], 0), [found(one, false)]);
    assert_eq!(round(&[(two, down())], 10), [found(two, true)]);
    assert_eq!(round(&[(three, down())], 20), [found(three, true)]);
    // Of an address that comes beside those that stay nothing was known, nor of one that takes the place of a good one.
    let both = round(&[(three, down()), (one, down())], 30);
    assert_eq!(both, [found(one, false), found(three, true)]);
    assert_eq!(round(&[(two, generation(2))], 40), []);
    assert_eq!(round(&[(one, down())], 50), [found(one, false)]);
}

#[test]
fn a_look_that_is_told_twice_is_one_look() {
    let look = || with("sally", Shown::Down("timed out".into()));
    let mut facts = outside();
    let mut tell = |told: Vec<Told>, minute: i64| {
        let at = noon() + minutes(minute);
        merge(&mut facts, Some(&host("esme")), told, true, at);
        only(&facts, at).stands
    };
    assert!(!tell(look(), 0));
    assert!(!tell(look(), 1), "a look told twice stands");
    let mut next = look();
    next.iter_mut()
        .for_each(|told| told.looked_at += minutes(2));
    assert!(tell(next, 2), "two looks");
}

/// The addresses at which sally is looked at, under a name.
fn places(facts: &FleetFacts, name: &str) -> Vec<String> {
    let looks = looks(facts).into_iter();
    let of_sally = looks.filter(|look| look.host == Some(host("sally")) && look.name == name);
    of_sally
        .flat_map(|look| look.addresses)
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn written_addresses_go_before_what_an_agent_reports() {
    assert_eq!(
        places(&fleet(noon()), MEDIA),
        ["127.0.0.1:443", "127.0.0.1:8443"]
    );
    assert_eq!(places(&outside(), MEDIA), [address("sally").to_string()]);
}

#[test]
fn at_other_ports_only_what_is_served_there_is_looked_at() {
    let mut facts = fleet(noon());
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared
            .identifiers
            .push("img.hachyderm.io".parse().unwrap());
        declared
            .identifiers
            .push("*.cdn.hachyderm.io".parse().unwrap());
    });
    crate::fleet::served(&mut facts)
        .listeners
        .push(v1::Listener {
            address: "127.0.0.1:9443".into(),
            name: "made-up.cdn.hachyderm.io".into(),
            state: v1::ListenerState::Current.into(),
            ..v1::Listener::default()
        });
    assert_eq!(places(&facts, MEDIA), ["127.0.0.1:443", "127.0.0.1:8443"]);
    assert_eq!(places(&facts, "img.hachyderm.io"), ["127.0.0.1:443"]);
    let wildcard = places(&facts, "certwell-probe.cdn.hachyderm.io");
    assert_eq!(wildcard, ["127.0.0.1:443", "127.0.0.1:9443"]);
}

#[test]
fn an_edge_whose_nginx_is_stopped_is_looked_at_where_it_was() {
    let mut facts = fleet(noon());
    let spot = |port: u16| Spot {
        address: Some(SocketAddr::from(([203, 0, 113, 3], port))),
        ..at_host("sally")
    };
    let all = vec![
        told(spot(443), generation(2)),
        told(spot(8443), generation(2)),
    ];
    see(&mut facts, None, all, noon());
    crate::fleet::served(&mut facts).listeners.clear();
    assert_eq!(
        places(&facts, MEDIA),
        ["203.0.113.3:443", "203.0.113.3:8443"]
    );
}

#[test]
fn the_first_names_of_all_certificates_go_before_the_second_of_any() {
    let mut facts = outside();
    let other = "www.hachyderm.io";
    declare(&mut facts, other, &["sally"]);
    issue(&mut facts, other, 1, noon() - days(10), noon() + days(80));
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared
            .identifiers
            .push("img.hachyderm.io".parse().unwrap());
    });
    let mut names: Vec<String> = looks(&facts).into_iter().map(|look| look.name).collect();
    names.dedup();
    assert_eq!(names, [MEDIA, other, "img.hachyderm.io"]);
}

#[test]
fn chains_are_held_against_the_roots_of_files_and_of_what_is_issued_each_once() {
    let mut facts = outside();
    media(&mut facts, MEDIA).issued.as_mut().unwrap().root = b"issued".to_vec();
    configure(&mut facts, |config| {
        let authority = config.authorities.get_mut("letsencrypt").unwrap();
        authority.roots = Roots::File {
            path: "roots.pem".into(),
            certificates: vec![b"file".to_vec(), b"issued".to_vec()],
        };
    });
    assert_eq!(roots(&facts), [b"file".to_vec(), b"issued".to_vec()]);
}
