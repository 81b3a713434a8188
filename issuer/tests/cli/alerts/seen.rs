//! What users see, whatever agents say.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use certwell_issuer::plan::{
    alert::{Class, Severity, alerts, unseen},
    facts::FleetFacts,
    seen::{
        Key, Kind, Probe, SeenLeaf, Shown, Sighting, Spot, UrlAnswer, merge::merge, wire::Told,
    },
};
use certwell_proto::{Fingerprint, v1::ListenerState};
use jiff::{SignedDuration, Timestamp};

use super::{Change, keys, of, on, told};
use crate::fleet::{
    MEDIA, certificate, configure, days, declare, fingerprint, fleet, host, issue, minutes, noon,
    older, served,
};

/// What the issuer's own probe saw at this place, a minute ago.
pub(crate) fn look(
    facts: &mut FleetFacts,
    now: Timestamp,
    on: Option<&str>,
    address: &str,
    shown: Shown,
) {
    let at = now - minutes(1);
    let probe = facts.sightings.probes.entry(None).or_insert_with(|| Probe {
        at,
        every: Duration::from_secs(300),
        rounds: 1,
        seen: BTreeMap::new(),
    });
    let address: Option<SocketAddr> = (!address.is_empty()).then(|| address.parse().unwrap());
    let spot = Spot {
        certificate: certificate(MEDIA),
        name: MEDIA.into(),
        host: on.map(host),
        address,
        key: Key::Ecdsa,
    };
    // So it was in the look before.
    let before = [Kind::Down, Kind::Unresolved, Kind::Url].map(|kind| (kind, at - minutes(5)));
    let sighting = Sighting {
        shown,
        url: None,
        looked_at: at,
        at,
        same_since: at - minutes(30),
        since: BTreeMap::from(before),
    };
    probe.seen.insert(spot, sighting);
}

/// A leaf of our generation, or of nobody's, that ends then.
pub(crate) fn leaf(generation: Option<u64>, not_after: Timestamp) -> SeenLeaf {
    let digest = match generation {
        Some(generation) => fingerprint(MEDIA, generation).try_into().unwrap(),
        None => [9; 32],
    };
    SeenLeaf {
        fingerprint: Fingerprint(digest),
        not_before: not_after - days(90),
        not_after,
        covers: vec![MEDIA.parse().unwrap()],
        tls_version: "TLSv1.3".into(),
        chain_problem: None,
    }
}

const OUTSIDE: &str = "192.0.2.13:443";

type Case = (&'static str, Change, &'static [(Class, Severity)]);

#[test]
fn each_thing_that_is_seen_has_its_class() {
    use {
        Class::*,
        Severity::{Page, Warning},
    };
    let now = noon();
    let cases: &[Case] = &[
        (
            "what is desired",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(Some(2), now + days(80))),
                )
            },
            &[],
        ),
        (
            "a stranger's leaf that clients take",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(None, now + days(80))),
                )
            },
            &[(SeenStranger, Warning)],
        ),
        (
            "a stranger's leaf that clients refuse",
            |f, now| {
                let leaf = SeenLeaf {
                    chain_problem: Some("it doesn't cover the name".into()),
                    ..leaf(None, now + days(80))
                };
                look(f, now, Some("sally"), OUTSIDE, Shown::Leaf(leaf));
            },
            &[(SeenStranger, Page)],
        ),
        (
            "a stranger's leaf that ends soon, by its own dates",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(None, now + days(11))),
                )
            },
            &[(Expiry, Page), (SeenStranger, Warning)],
        ),
        (
            "a leaf of ours with a chain that isn't right",
            |f, now| {
                let leaf = SeenLeaf {
                    chain_problem: Some("the intermediate is missing".into()),
                    ..leaf(Some(2), now + days(80))
                };
                look(f, now, Some("sally"), OUTSIDE, Shown::Leaf(leaf));
            },
            &[(SeenChain, Page)],
        ),
        (
            "a leaf of ours that is over, which its chain says too",
            |f, now| {
                older(f, MEDIA, 1, now - days(1));
                let leaf = SeenLeaf {
                    chain_problem: Some("it is over".into()),
                    ..leaf(Some(1), now - days(1))
                };
                look(f, now, None, "198.51.100.7:443", Shown::Leaf(leaf));
                configure(f, |config| {
                    let declared = config.hosts.get_mut(&host("sally")).unwrap();
                    declared.addresses = vec!["198.51.100.7:443".parse().unwrap()];
                });
            },
            &[(Expiry, Page), (NotServed, Warning)],
        ),
        (
            "an older generation, though the host says that all is well",
            |f, now| {
                older(f, MEDIA, 1, now + days(50));
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(Some(1), now + days(50))),
                );
            },
            &[(NotServed, Warning)],
        ),
        (
            "another of our certificates, which doesn't cover the name",
            |f, now| {
                declare(f, "other.example.org", &["esme"]);
                issue(f, "other.example.org", 7, now - days(1), now + days(89));
                crate::fleet::observe(f, "other.example.org", "esme", 7, now - days(1));
                let leaf = SeenLeaf {
                    fingerprint: Fingerprint(
                        fingerprint("other.example.org", 7).try_into().unwrap(),
                    ),
                    covers: vec!["other.example.org".parse().unwrap()],
                    ..leaf(None, now + days(89))
                };
                look(f, now, Some("sally"), OUTSIDE, Shown::Leaf(leaf));
            },
            &[(SeenOtherVhost, Page)],
        ),
        (
            "nobody answers",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Down("connection refused".into()),
                )
            },
            &[(SeenDown, Page)],
        ),
        (
            "one of a host's two addresses answers",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    "[2001:db8::13]:443",
                    Shown::Down("network unreachable".into()),
                );
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(Some(2), now + days(80))),
                );
            },
            &[(SeenDown, Warning)],
        ),
        (
            "DNS has no address",
            |f, now| look(f, now, None, "", Shown::Unresolved("NXDOMAIN".into())),
            &[(SeenDown, Page)],
        ),
        (
            "no DNS server answers for the name, which may be the probe's own trouble",
            |f, now| look(f, now, None, "", Shown::NoAnswer("timed out".into())),
            &[(SeenDown, Warning)],
        ),
        (
            "DNS leads to somebody who serves it well",
            |f, now| {
                look(
                    f,
                    now,
                    None,
                    "198.51.100.7:443",
                    Shown::Leaf(leaf(None, now + days(80))),
                )
            },
            &[(SeenElsewhere, Warning)],
        ),
        (
            "DNS leads to where nobody answers",
            |f, now| {
                look(
                    f,
                    now,
                    None,
                    "198.51.100.7:443",
                    Shown::Down("timed out".into()),
                )
            },
            &[(SeenElsewhere, Page)],
        ),
        (
            "the images don't load",
            |f, now| {
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(Some(2), now + days(80))),
                );
                let probe = f.sightings.probes.get_mut(&None).unwrap();
                probe.seen.values_mut().next().unwrap().url = Some(UrlAnswer {
                    url: "https://media.hachyderm.io/health.png".into(),
                    status: Some(404),
                    content_type: "text/html".into(),
                    problem: Some("404 in the place of 200".into()),
                });
            },
            &[(UrlBroken, Page)],
        ),
        (
            "the host sees a stranger as well: told once",
            |f, now| {
                served(f).generation = None;
                served(f).listeners[0].state = ListenerState::Stranger.into();
                served(f).listeners[0].fingerprint = vec![9; 32];
                look(
                    f,
                    now,
                    Some("sally"),
                    OUTSIDE,
                    Shown::Leaf(leaf(None, now + days(80))),
                );
            },
            &[(SeenStranger, Warning)],
        ),
    ];
    for (case, change, expected) in cases {
        let mut facts = fleet(now);
        change(&mut facts, now);
        let told = told(&facts, now);
        let found: Vec<_> = keys(&told)
            .into_iter()
            .map(|(class, subject, severity)| {
                assert_eq!(subject, MEDIA, "{case}");
                (class, severity)
            })
            .collect();
        assert_eq!(found, *expected, "{case}: {told:#?}");
    }
}

#[test]
fn four_edges_that_are_down_are_one_alert() {
    let now = noon();
    let mut facts = fleet(now);
    for (number, name) in crate::fleet::HOSTS.iter().enumerate() {
        let address = format!("192.0.2.{number}:443");
        look(
            &mut facts,
            now,
            Some(name),
            &address,
            Shown::Down("timed out".into()),
        );
    }
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::SeenDown, MEDIA, Severity::Page)]);
    assert_eq!(on(&told[0]), crate::fleet::HOSTS);
}

#[test]
fn what_one_look_shows_and_may_pass_is_told_when_the_next_shows_it_too() {
    let now = noon();
    let url = UrlAnswer {
        url: "https://media.hachyderm.io/health.png".into(),
        status: Some(404),
        content_type: "text/html".into(),
        problem: Some("status 404, not 200".into()),
    };
    let ours = || Shown::Leaf(leaf(Some(2), now + days(80)));
    let at_sally = || (Some(host("sally")), Some(OUTSIDE.parse().unwrap()));
    let cases = [
        (at_sally(), Shown::Down("timed out".into()), None),
        (at_sally(), Shown::Rejects, None),
        (at_sally(), ours(), Some(url)),
        ((None, None), Shown::Unresolved("NXDOMAIN".into()), None),
    ];
    for ((on, address), shown, url) in cases {
        let round = |shown: &Shown, url: &Option<UrlAnswer>| Told {
            spot: Spot {
                certificate: certificate(MEDIA),
                name: MEDIA.into(),
                host: on.clone(),
                address,
                key: Key::Ecdsa,
            },
            shown: shown.clone(),
            url: url.clone(),
            looked_at: now,
        };
        let mut facts = fleet(now);
        let mut see = |mut told: Told, second: i64| {
            let at = now - SignedDuration::from_secs(60 - second);
            told.looked_at = at;
            merge(&mut facts, None, vec![told], true, at);
            keys(&alerts(&facts, now)).len()
        };
        let (fault, well) = (|| round(&shown, &url), || round(&ours(), &None));
        assert_eq!(see(fault(), 0), 0, "one look: {shown:?}");
        assert_eq!(see(fault(), 10), 1, "two looks: {shown:?}");
        if address.is_some() {
            assert_eq!(see(well(), 20), 0);
            assert_eq!(see(fault(), 30), 0, "one look anew: {shown:?}");
        }
    }
}

#[test]
fn after_a_start_an_open_alert_stays_until_a_probe_has_looked_there() {
    let now = noon();
    let mut facts = fleet(now);
    configure(&mut facts, |config| {
        config.probe.enabled = false;
        config.hosts.get_mut(&host("esme")).unwrap().probe = true;
    });
    let by_esme = |facts: &mut FleetFacts, on: Option<&str>, address: &str, shown: Shown| {
        let probes = |facts: &mut FleetFacts, from, to| {
            if let Some(probe) = facts.sightings.probes.remove(&from) {
                facts.sightings.probes.insert(to, probe);
            }
        };
        probes(facts, Some(host("esme")), None);
        look(facts, now, on, address, shown);
        probes(facts, None, Some(host("esme")));
    };
    let ours = || Shown::Leaf(leaf(Some(2), now + days(80)));
    let forget = |facts: &mut FleetFacts| facts.sightings.probes.clear();
    by_esme(&mut facts, Some("sally"), OUTSIDE, Shown::Rejects);
    let down = of(&told(&facts, now), Class::SeenDown).clone();
    let strangers = Shown::Leaf(leaf(None, now + days(80)));
    by_esme(&mut facts, None, "198.51.100.7:443", strangers);
    let elsewhere = of(&told(&facts, now), Class::SeenElsewhere).clone();
    forget(&mut facts);
    let open = [&down, &elsewhere];
    let left = |facts: &FleetFacts| -> Vec<Class> {
        let left = unseen(facts, open, now).into_iter();
        left.map(|alert| alert.key.class).collect()
    };
    assert_eq!(unseen(&facts, open, now).len(), 2, "nobody has looked");
    // What another host shows, or a resolver that doesn't answer, says nothing of them.
    by_esme(&mut facts, Some("esme"), "192.0.2.10:443", ours());
    assert_eq!(unseen(&facts, open, now).len(), 2);
    by_esme(&mut facts, None, "", Shown::NoAnswer("timed out".into()));
    assert_eq!(unseen(&facts, open, now).len(), 2);
    by_esme(&mut facts, Some("sally"), OUTSIDE, ours());
    assert_eq!(left(&facts), [Class::SeenElsewhere]);
    forget(&mut facts);
    by_esme(&mut facts, None, "192.0.2.10:443", ours());
    assert_eq!(left(&facts), [Class::SeenDown]);
    // Nobody is to look at a host that left the certificate, or at all.
    forget(&mut facts);
    configure(&mut facts, |config| {
        let declared = config.certificates.get_mut(&certificate(MEDIA)).unwrap();
        declared.hosts.retain(|on| *on != host("sally"));
    });
    assert_eq!(left(&facts), [Class::SeenElsewhere]);
    configure(&mut facts, |config| {
        config.hosts.get_mut(&host("esme")).unwrap().probe = false;
    });
    assert_eq!(unseen(&facts, open, now), []);
}

#[test]
fn after_a_start_a_fault_that_its_first_look_shows_again_is_not_over() {
    let now = noon();
    let url = UrlAnswer {
        url: "https://media.hachyderm.io/health.png".into(),
        status: Some(404),
        content_type: "text/html".into(),
        problem: Some("status 404, not 200".into()),
    };
    let ours = || Shown::Leaf(leaf(Some(2), now + days(80)));
    let at_sally = || (Some("sally"), OUTSIDE);
    let cases = [
        (at_sally(), Shown::Down("timed out".into()), None),
        (at_sally(), Shown::Rejects, None),
        (at_sally(), ours(), Some(url)),
        ((None, ""), Shown::Unresolved("NXDOMAIN".into()), None),
    ];
    for ((on, address), shown, url) in cases {
        let mut facts = fleet(now);
        let mut see = |shown: &Shown, url: &Option<UrlAnswer>, is_first: bool| {
            look(&mut facts, now, on, address, shown.clone());
            let probe = facts.sightings.probes.get_mut(&None).unwrap();
            for sighting in probe.seen.values_mut() {
                sighting.url.clone_from(url);
                if is_first {
                    sighting.since.values_mut().for_each(|at| *at = sighting.at);
                }
            }
            facts.clone()
        };
        let open = alerts(&see(&shown, &url, false), now);
        assert_eq!(open.len(), 1, "{shown:?}");
        let first = see(&shown, &url, true);
        assert_eq!(alerts(&first, now), [], "one look: {shown:?}");
        assert_eq!(unseen(&first, &open, now), open, "{shown:?}");
        if address.is_empty() {
            continue;
        }
        let well = see(&ours(), &None, true);
        assert_eq!(unseen(&well, &open, now), [], "{shown:?}");
    }
}

#[test]
fn another_of_ours_that_covers_the_name_and_is_not_assigned_there_is_held_to_its_chain_and_end() {
    use Severity::Page;
    const OTHER: &str = "other.hachyderm.io";
    let now = noon();
    let told = |assigned: &str, end: Timestamp, problem: &str| {
        let mut facts = fleet(now);
        declare(&mut facts, OTHER, &[assigned]);
        issue(&mut facts, OTHER, 7, now - days(80), end);
        let leaf = SeenLeaf {
            fingerprint: Fingerprint(fingerprint(OTHER, 7).try_into().unwrap()),
            chain_problem: Some(problem.into()).filter(|problem: &String| !problem.is_empty()),
            ..leaf(None, end)
        };
        look(&mut facts, now, Some("sally"), OUTSIDE, Shown::Leaf(leaf));
        let mut told = told(&facts, now);
        told.retain(|alert| alert.key.subject == MEDIA);
        told
    };
    let classes = |told: &[certwell_issuer::plan::alert::Alert]| -> Vec<_> {
        let keys = keys(told).into_iter();
        keys.map(|(class, _, severity)| (class, severity)).collect()
    };
    let broken = told("esme", now + days(80), "without any intermediate");
    assert_eq!(classes(&broken), [(Class::SeenChain, Page)]);
    assert!(
        broken[0].cause.contains("serves other.hachyderm.io for"),
        "{}",
        broken[0].cause
    );
    let over = told("esme", now - days(1), "the leaf expired");
    assert_eq!(classes(&over), [(Class::Expiry, Page)]);
    assert_eq!(
        over[0].members[0].served,
        "the certificate other.hachyderm.io"
    );
    assert_eq!(classes(&told("esme", now + days(80), "")), []);
    // Where it is assigned it is told with itself.
    assert_eq!(
        classes(&told("sally", now - days(1), "the leaf expired")),
        []
    );
}

#[test]
fn it_says_when_it_looks_again_and_what_the_host_itself_says() {
    let now = noon();
    let mut facts = fleet(now);
    look(
        &mut facts,
        now,
        Some("sally"),
        OUTSIDE,
        Shown::Down("connection refused".into()),
    );
    let told = told(&facts, now);
    let alert = of(&told, Class::SeenDown);
    assert_eq!(
        alert.title,
        "sally can't be reached from outside for media.hachyderm.io"
    );
    assert!(
        alert.cause.contains(
            "By its own handshakes sally serves generation 2, valid until 2027-02-12 12:05:00 UTC"
        ),
        "{}",
        alert.cause
    );
    assert!(
        alert.next.contains("it looks again on 2026-11-24 12:04:00 UTC (in 4 minutes). media.hachyderm.io is renewed on"),
        "{}",
        alert.next
    );
    assert_eq!(alert.command, "ssh sally certwell-agent doctor");
}

#[test]
fn what_a_host_has_proven_since_goes_before_an_older_look() {
    let now = noon();
    let mut facts = fleet(now);
    older(&mut facts, MEDIA, 1, now + days(5));
    look(
        &mut facts,
        now,
        Some("sally"),
        OUTSIDE,
        Shown::Leaf(leaf(Some(1), now + days(5))),
    );
    let earlier = told(&facts, now);
    let alert = of(&earlier, Class::Expiry);
    assert_eq!(alert.severity, Severity::Page);
    // Another generation would change nothing of what only others see.
    assert_eq!(alert.command, "ssh sally certwell-agent inventory");
    served(&mut facts).at_ms = now.as_millisecond();
    let later: Vec<_> = told(&facts, now);
    assert!(
        later.iter().all(|alert| alert.key.class != Class::Expiry),
        "{later:#?}"
    );
}

#[test]
fn an_address_to_which_dns_still_leads_ages_though_its_host_is_retired() {
    let now = noon();
    let mut facts = fleet(now);
    look(
        &mut facts,
        now,
        None,
        "198.51.100.7:443",
        Shown::Leaf(leaf(Some(2), now + days(80))),
    );
    configure(&mut facts, |config| {
        config.hosts.remove(&host("sally"));
        let declared = config.certificates.values_mut().next().unwrap();
        declared.hosts.retain(|name| *name != host("sally"));
    });
    older(&mut facts, MEDIA, 1, now + days(5));
    look(
        &mut facts,
        now,
        None,
        "198.51.100.7:443",
        Shown::Leaf(leaf(Some(1), now + days(5))),
    );
    let told = told(&facts, now);
    let alert = of(&told, Class::Expiry);
    assert_eq!(
        alert.title,
        "media.hachyderm.io expires in 5 days on an address to which DNS leads"
    );
    assert!(
        alert
            .cause
            .starts_with("198.51.100.7:443 serves generation 1 of media.hachyderm.io, valid until"),
        "{}",
        alert.cause
    );
}

#[test]
fn another_address_to_which_dns_leads_is_news_though_the_first_was_acknowledged() {
    let now = noon();
    let mut facts = fleet(now);
    let stranger = || Shown::Leaf(leaf(None, now + days(80)));
    look(&mut facts, now, None, "198.51.100.7:443", stranger());
    let labels = |facts: &FleetFacts| -> Vec<String> {
        let alert = of(&told(facts, now), Class::SeenElsewhere).clone();
        alert.members.iter().map(|member| member.label()).collect()
    };
    let first = labels(&facts);
    assert_eq!(first, [format!("198.51.100.7:443 {MEDIA}")]);
    look(&mut facts, now, None, "203.0.113.9:443", stranger());
    let both = labels(&facts);
    assert!(both.len() == 2 && both.contains(&first[0]), "{both:?}");
    assert_ne!(both[0], both[1]);
}
