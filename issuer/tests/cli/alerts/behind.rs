//! A certificate whose names lead to something else on purpose, as to a CDN: `probe-dns = false`.

use std::collections::BTreeSet;

use certwell_issuer::plan::{
    alert::{Alert, Class, Severity, unseen},
    explain::explain,
    facts::FleetFacts,
    looks::{looks, outlook},
    seen::Shown,
    status::status,
};
use certwell_proto::v1::ListenerState;

use super::{
    dns, keys, of,
    seen::{leaf, look},
    told,
};
use crate::fleet::{
    HOSTS, MEDIA, certificate, configure, days, declare, fleet, host, issue, noon, served,
};

const CDN: &str = "198.51.100.7:443";
const OUTSIDE: &str = "192.0.2.13:443";

fn leave_out_dns(facts: &mut FleetFacts) {
    configure(facts, |config| {
        let mut all = config.certificates.values_mut();
        all.find(|declared| declared.hosts.len() == HOSTS.len())
            .unwrap()
            .probe_dns = false;
    });
}

/// Each thing that only DNS leads to, and the alert of it.
fn by_dns() -> [(Class, &'static str, Shown); 4] {
    let strangers = || Shown::Leaf(leaf(None, noon() + days(80)));
    [
        (Class::SeenElsewhere, CDN, strangers()),
        (Class::SeenElsewhere, CDN, Shown::Down("timed out".into())),
        (Class::SeenDown, "", Shown::Unresolved("NXDOMAIN".into())),
        (Class::SeenDown, "", Shown::NoAnswer("timed out".into())),
    ]
}

fn open(facts: &FleetFacts, class: Class) -> Alert {
    of(&told(facts, noon()), class).clone()
}

#[test]
fn nothing_that_dns_says_of_its_names_is_told_and_what_was_open_is_over() {
    for (class, address, shown) in by_dns() {
        let mut facts = fleet(noon());
        look(&mut facts, noon(), None, address, shown.clone());
        let open = open(&facts, class);
        let mut forgotten = facts.clone();
        forgotten.sightings.probes.clear();
        assert_eq!(unseen(&forgotten, [&open], noon()).len(), 1);
        leave_out_dns(&mut facts);
        // What was seen before, or by a probe that hasn't heard of it yet, counts no more.
        assert_eq!(told(&facts, noon()), [], "{shown:?}");
        assert_eq!(status(&facts, noon()).certificates[0].findings, []);
        assert_eq!(status(&facts, noon()).certificates[0].elsewhere, []);
        assert_eq!(unseen(&facts, [&open], noon()), [], "{shown:?}");
        // Also where nobody has looked since a start: nobody is to.
        facts.sightings.probes.clear();
        assert_eq!(unseen(&facts, [&open], noon()), [], "{shown:?}");
    }
}

#[test]
fn its_hosts_are_looked_at_as_before() {
    let mut facts = fleet(noon());
    leave_out_dns(&mut facts);
    look(&mut facts, noon(), Some("sally"), OUTSIDE, Shown::Rejects);
    assert_eq!(
        keys(&told(&facts, noon())),
        [(Class::SeenDown, MEDIA, Severity::Page)]
    );
    // And that somebody has looked there has to be known before it is over.
    let open = open(&facts, Class::SeenDown);
    facts.sightings.probes.clear();
    assert_eq!(unseen(&facts, [&open], noon()), std::slice::from_ref(&open));
}

#[test]
fn where_dns_leads_is_not_looked_at_but_each_host_and_each_address() {
    let mut facts = fleet(noon());
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.identifiers.push("192.0.2.1".parse().unwrap());
        config.hosts.get_mut(&host("esme")).unwrap().probe = true;
    });
    let by_dns = |facts: &FleetFacts| -> (Vec<String>, BTreeSet<String>) {
        let all = looks(facts);
        let hosts = all.iter().filter_map(|look| look.host.as_ref());
        let hosts = hosts.map(ToString::to_string).collect();
        let rest = all.into_iter().filter(|look| look.host.is_none());
        (rest.map(|look| look.name).collect(), hosts)
    };
    let hosts: BTreeSet<String> = HOSTS.map(str::to_owned).into();
    let (names, on) = by_dns(&facts);
    assert_eq!(names, [MEDIA, "192.0.2.1"]);
    assert_eq!(on, hosts);
    leave_out_dns(&mut facts);
    let (names, on) = by_dns(&facts);
    assert_eq!(names, ["192.0.2.1"]);
    assert_eq!(on, hosts);
    // Probes are told the same.
    let outlook = outlook(&facts, &host("esme"), 1 << 20).unwrap();
    let mut looks = outlook.looks.iter();
    assert!(looks.all(|look| !look.host.is_empty() || look.name == "192.0.2.1"));
}

/// An address is no name: what is seen there is told, and is over only when somebody has looked again.
#[test]
fn an_address_among_its_identifiers_is_looked_at_whatever_dns_says() {
    let mut facts = fleet(noon());
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.identifiers.push("198.51.100.7".parse().unwrap());
    });
    leave_out_dns(&mut facts);
    look(&mut facts, noon(), None, CDN, Shown::Rejects);
    let probe = facts.sightings.probes.get_mut(&None).unwrap();
    let (mut spot, sighting) = probe.seen.pop_first().unwrap();
    spot.name = "198.51.100.7".into();
    probe.seen.insert(spot, sighting);
    let open = open(&facts, Class::SeenElsewhere);
    facts.sightings.probes.clear();
    assert_eq!(unseen(&facts, [&open], noon()), std::slice::from_ref(&open));
}

/// Its listeners take a PROXY header: without DNS nobody would ever look there again.
#[test]
fn an_alert_on_a_host_to_which_only_dns_led_is_over() {
    let mut facts = fleet(noon());
    for listener in &mut served(&mut facts).listeners {
        listener.proxy_protocol = true;
        listener.address = OUTSIDE.into();
    }
    let strangers = Shown::Leaf(leaf(None, noon() + days(80)));
    look(&mut facts, noon(), None, OUTSIDE, strangers);
    let open = open(&facts, Class::SeenStranger);
    facts.sightings.probes.clear();
    assert_eq!(unseen(&facts, [&open], noon()).len(), 1);
    let unlooked = "Nobody looks at sally from outside";
    let says = |facts: &FleetFacts| {
        let told = explain(facts, &certificate(MEDIA), noon()).unwrap();
        told.iter().any(|text| text.starts_with(unlooked))
    };
    assert!(!says(&facts), "by DNS");
    leave_out_dns(&mut facts);
    assert_eq!(unseen(&facts, [&open], noon()), []);
    assert!(says(&facts));
    // Where it can be looked at, somebody has to.
    served(&mut facts).listeners[0].proxy_protocol = false;
    served(&mut facts).listeners[0].state = ListenerState::Current.into();
    assert_eq!(unseen(&facts, [&open], noon()).len(), 1);
}

#[test]
fn that_no_dns_server_answers_is_over_when_no_two_names_are_asked_for() {
    let mut facts = dns::named(&[dns::IMG]);
    let both = [(MEDIA, dns::silent()), (dns::IMG, dns::silent())];
    for at in [0, 10] {
        dns::ask(&mut facts, None, dns::second(at), &both);
    }
    let open = open(&facts, Class::SeenDown);
    assert_eq!(open.key.subject, "dns/");
    facts.sightings.probes.clear();
    assert_eq!(unseen(&facts, [&open], noon()).len(), 1);
    declare(&mut facts, "social.hachyderm.io", &["sally"]);
    issue(
        &mut facts,
        "social.hachyderm.io",
        1,
        noon() - days(10),
        noon() + days(80),
    );
    leave_out_dns(&mut facts);
    assert_eq!(unseen(&facts, [&open], noon()), []);
}

#[test]
fn the_alert_about_a_name_that_leads_elsewhere_names_the_way_out() {
    let mut facts = fleet(noon());
    let strangers = Shown::Leaf(leaf(None, noon() + days(80)));
    look(&mut facts, noon(), None, CDN, strangers);
    let words = "Is that meant, as with a CDN? Write probe-dns = false in [certificate.\"media.hachyderm.io\"]. ";
    let next = open(&facts, Class::SeenElsewhere).next;
    assert!(next.contains(words), "{next}");
    assert!(
        next.contains("it looks again on") && next.contains("is renewed on"),
        "{next}"
    );
    look(&mut facts, noon(), Some("sally"), OUTSIDE, Shown::Rejects);
    let next = open(&facts, Class::SeenDown).next;
    assert!(!next.contains("probe-dns"), "{next}");
}
