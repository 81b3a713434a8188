//! A probe that no DNS server answers: the resolvers of its machine, or the servers of the zone.

use certwell_issuer::plan::{
    alert::{Alert, Class, Severity, unseen},
    facts::FleetFacts,
    seen::{Key, Shown, Spot, merge::merge, wire::Told},
    status::status,
};
use jiff::{SignedDuration, Timestamp};

use super::{keys, of, on, told};
use crate::fleet::{
    MEDIA, certificate, configure, days, declare, fleet, host, issue, noon, observe,
};

pub(super) const IMG: &str = "img.hachyderm.io";

/// One certificate with these names besides its own; esme is a probe.
pub(super) fn named(more: &[&str]) -> FleetFacts {
    let mut facts = fleet(noon());
    configure(&mut facts, |config| {
        config.hosts.get_mut(&host("esme")).unwrap().probe = true;
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        let more = more.iter().map(|name| name.parse().unwrap());
        declared.identifiers.extend(more);
    });
    facts
}

pub(super) fn silent() -> Shown {
    Shown::NoAnswer("no answer within 10 s".into())
}

fn gone() -> Shown {
    Shown::Unresolved("the name doesn't exist".into())
}

pub(super) fn second(second: i64) -> Timestamp {
    noon() - SignedDuration::from_secs(60 - second)
}

/// A round of a probe that asks DNS for these names alone.
pub(super) fn ask(
    facts: &mut FleetFacts,
    probe: Option<&str>,
    at: Timestamp,
    names: &[(&str, Shown)],
) {
    let looks = names.iter().map(|(name, shown)| Told {
        spot: Spot {
            certificate: certificate(MEDIA),
            name: (*name).into(),
            host: None,
            address: match shown {
                Shown::NoAnswer(_) | Shown::Unresolved(_) => None,
                _ => Some("[2001:db8::13]:443".parse().unwrap()),
            },
            key: Key::Ecdsa,
        },
        shown: shown.clone(),
        url: None,
        looked_at: at,
    });
    merge(facts, probe.map(host).as_ref(), looks.collect(), true, at);
}

fn subjects(facts: &FleetFacts) -> Vec<String> {
    let told = told(facts, noon());
    let down = keys(&told).into_iter().map(|(class, subject, severity)| {
        assert_eq!((class, severity), (Class::SeenDown, Severity::Warning));
        subject.to_owned()
    });
    down.collect()
}

fn status_tells(facts: &FleetFacts) -> usize {
    let problems = status(facts, noon()).problems.into_iter();
    problems
        .filter(|problem| problem.contains("no DNS server answers"))
        .count()
}

#[test]
fn a_zone_whose_servers_are_silent_is_one_warning_when_two_looks_show_it() {
    let mut facts = named(&[IMG]);
    let both = [(MEDIA, silent()), (IMG, silent())];
    ask(&mut facts, None, second(0), &both);
    assert_eq!(subjects(&facts), [""; 0], "one look");
    ask(&mut facts, None, second(10), &both);
    assert_eq!(subjects(&facts), ["dns/"]);
    let told = told(&facts, noon());
    let alert = of(&told, Class::SeenDown);
    assert_eq!(alert.title, "no DNS server answers the issuer");
    assert_eq!(
        alert.cause,
        "No DNS server answers the issuer, whichever of 2 names it asks for (no answer within 10 s): either the resolvers \
         of the issuer's machine are at fault, or the servers of the zone."
    );
    assert!(
        alert.next.contains("it asks again on 2026-11-24 12:04:10"),
        "{}",
        alert.next
    );
    assert_eq!(alert.command, "certwell status");
    assert_eq!(alert.since, Some(second(0)));
    assert_eq!(status_tells(&facts), 1);
    // Over with the first answer; the name that still has none is told by itself.
    ask(&mut facts, None, second(20), &[(IMG, gone())]);
    let now = super::told(&facts, noon());
    assert!(
        now.iter().all(|alert| alert.key.subject != "dns/"),
        "{now:#?}"
    );
}

#[test]
fn the_probe_of_a_host_is_named_and_others_that_are_answered_make_it_no_alert() {
    let mut facts = named(&[IMG]);
    let both = [(MEDIA, silent()), (IMG, silent())];
    for at in [0, 10] {
        ask(&mut facts, Some("esme"), second(at), &both);
    }
    assert_eq!(subjects(&facts), ["dns/esme"]);
    let told = told(&facts, noon());
    let alert = of(&told, Class::SeenDown);
    assert_eq!(on(alert), ["esme"]);
    let words = "either the resolvers of esme are at fault, or the servers of the zone";
    assert!(alert.cause.contains(words), "{}", alert.cause);
    // What another is answered of other names says nothing of these.
    let no_route = Shown::NoRoute("network is unreachable".into());
    ask(
        &mut facts,
        None,
        second(20),
        &[("certwell-probe.io", no_route.clone())],
    );
    assert_eq!(subjects(&facts), ["dns/esme"]);
    ask(&mut facts, None, second(30), &[(IMG, no_route)]);
    assert_eq!(subjects(&facts), [""; 0]);
    assert_eq!(status_tells(&facts), 1);
}

#[test]
fn a_made_up_name_of_a_wildcard_is_no_second_name_and_an_address_without_a_route_is_an_answer() {
    let mut facts = named(&["*.hachyderm.io"]);
    let made_up = ("certwell-probe.hachyderm.io", silent());
    for at in [0, 10] {
        ask(
            &mut facts,
            None,
            second(at),
            &[(MEDIA, silent()), made_up.clone()],
        );
    }
    assert_eq!(subjects(&facts), [MEDIA]);
    assert_eq!(status_tells(&facts), 0);

    let mut facts = named(&[IMG, "cdn.hachyderm.io"]);
    let no_route = Shown::NoRoute("network is unreachable".into());
    let all = [
        (MEDIA, silent()),
        (IMG, silent()),
        ("cdn.hachyderm.io", no_route),
    ];
    for at in [0, 10] {
        ask(&mut facts, None, second(at), &all);
    }
    assert_eq!(subjects(&facts), [MEDIA]);
    assert_eq!(status_tells(&facts), 0);
}

#[test]
fn after_a_start_it_stays_until_that_probe_has_asked_again() {
    let both = [(MEDIA, silent()), (IMG, silent())];
    let mut facts = named(&[IMG]);
    for probe in [None, Some("esme")] {
        for at in [0, 10] {
            ask(&mut facts, probe, second(at), &both);
        }
    }
    let open = told(&facts, noon());
    let left = |facts: &FleetFacts| -> Vec<String> {
        let left = unseen(facts, &open, noon()).into_iter();
        left.map(|alert| alert.key.subject).collect()
    };
    facts.sightings.probes.clear();
    assert_eq!(left(&facts), ["dns/", "dns/esme"], "nobody has asked");
    ask(&mut facts, None, second(20), &both);
    assert_eq!(
        left(&facts),
        ["dns/", "dns/esme"],
        "the first look shows it"
    );
    let mut elsewhere = facts.clone();
    ask(
        &mut facts,
        None,
        second(30),
        &[(MEDIA, silent()), (IMG, gone())],
    );
    assert_eq!(left(&facts), ["dns/esme"]);
    // Another probe is answered, or nobody is to ask any more, or not for more than one name.
    ask(&mut elsewhere, Some("esme"), second(30), &[(IMG, gone())]);
    assert_eq!(left(&elsewhere), [""; 0]);
    facts.sightings.probes.clear();
    let mut off = facts.clone();
    configure(&mut off, |config| config.probe.enabled = false);
    assert_eq!(left(&off), ["dns/esme"]);
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.identifiers.truncate(1);
    });
    assert_eq!(left(&facts), [""; 0]);
}

#[test]
fn a_certificate_of_that_name_has_an_alert_of_its_own() {
    const NAME: &str = "dns";
    const COVERED: &str = "dns.hachyderm.io";
    let at_sally = Spot {
        certificate: certificate(NAME),
        name: COVERED.into(),
        host: Some(host("sally")),
        address: Some("192.0.2.13:443".parse().unwrap()),
        key: Key::Ecdsa,
    };
    let mut facts = named(&[IMG]);
    declare(&mut facts, COVERED, &["sally"]);
    let (from, to) = (noon() - days(10), noon() + days(80));
    issue(&mut facts, COVERED, 1, from, to);
    observe(&mut facts, COVERED, "sally", 1, from);
    let known = facts.certificates.remove(&certificate(COVERED)).unwrap();
    facts.certificates.insert(certificate(NAME), known);
    configure(&mut facts, |config| {
        let declared = config.certificates.remove(&certificate(COVERED)).unwrap();
        config.certificates.insert(certificate(NAME), declared);
    });
    for at in [0, 10].map(second) {
        let down = Told {
            spot: at_sally.clone(),
            shown: Shown::Down("refused".into()),
            url: None,
            looked_at: at,
        };
        ask(&mut facts, None, at, &[(MEDIA, silent()), (IMG, silent())]);
        merge(&mut facts, None, vec![down], true, at);
    }
    let told = told(&facts, noon());
    let down = |subject: &str| -> &Alert {
        let mut all = told.iter();
        all.find(|alert| alert.key.class == Class::SeenDown && alert.key.subject == subject)
            .unwrap()
    };
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(down("dns/").title, "no DNS server answers the issuer");
    assert_eq!(on(down(NAME)), ["sally"]);
    // One is over, and the other isn't.
    let open = [down("dns/").clone(), down(NAME).clone()];
    facts.sightings.probes.clear();
    assert_eq!(unseen(&facts, &open, noon()), open);
    ask(&mut facts, None, second(20), &[(IMG, gone())]);
    assert_eq!(unseen(&facts, &open, noon()), open[1..]);
}
