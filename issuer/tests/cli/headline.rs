//! The first line, and whether all is converged.

use certwell_issuer::plan::{facts::FleetFacts, headline::headline, status::status};
use certwell_proto::v1;
use jiff::Timestamp;

use crate::fleet::{
    MEDIA, configure, days, declare, empty, fleet, issue, media, minutes, noon, observe, older,
    sally, sally_host,
};

type Case = (fn(&mut FleetFacts, Timestamp), &'static str, bool);

const CASES: &[Case] = &[
    (
        |_, _| {},
        "all 4 hosts serve media.hachyderm.io generation 2, valid for 80 days",
        true,
    ),
    (
        |f, now| {
            declare(f, "pics.hachyderm.io", &["sally"]);
            issue(f, "pics.hachyderm.io", 1, now, now + days(12));
            observe(f, "pics.hachyderm.io", "sally", 1, now);
        },
        "all 4 hosts serve what they should of 2 certificates; the first to end is \
         pics.hachyderm.io, valid for 12 days",
        true,
    ),
    (
        |f, _| configure(f, |c| c.certificates.clear()),
        "no certificate is declared; add a",
        true,
    ),
    (
        |f, _| {
            configure(f, |c| {
                c.certificates
                    .values_mut()
                    .for_each(|c| c.hosts.truncate(1))
            })
        },
        "cdn-frankfurt-1 serves media.hachyderm.io generation 2, valid for 80 days",
        true,
    ),
    (
        |f, _| {
            configure(f, |c| {
                c.certificates.values_mut().for_each(|c| c.hosts.clear())
            })
        },
        "no host is to serve media.hachyderm.io generation 2",
        true,
    ),
    (
        |f, _| *media(f, MEDIA) = Default::default(),
        "media.hachyderm.io: nothing is issued yet",
        false,
    ),
    (
        |f, now| issue(f, MEDIA, 3, now, now + days(90)),
        "media.hachyderm.io: cdn-frankfurt-1 does not serve generation 3 yet (and 3 more problems)",
        false,
    ),
    // Served well now, yet something is in the way of what comes: said, but converged.
    (
        |f, _| media(f, MEDIA).order.problem = Some("letsencrypt can't be reached".into()),
        "media.hachyderm.io: letsencrypt can't be reached",
        true,
    ),
    (
        |f, _| f.config_problem = Some("issuer.toml:3:1: unknown key".into()),
        "a newer edit of the configuration is refused, the last good one is in force: \
         issuer.toml:3:1: unknown key",
        true,
    ),
    // The worst goes first: an expired certificate on one host, before another host that never joined.
    (
        |f, now| {
            issue(f, MEDIA, 3, now - minutes(1), now + days(90));
            older(f, MEDIA, 2, now + days(10));
            *f.hosts.get_mut(&crate::fleet::host("esme")).unwrap() = Default::default();
            observe(f, MEDIA, "sally", 1, now - days(100));
            older(f, MEDIA, 1, now - days(3));
        },
        "sally serves generation 1, which expired 3 days ago; sally: 127.0.0.1:443 for \
         media.hachyderm.io still serves an older generation, and so for 1 listener more \
         (and 3 more problems)",
        false,
    ),
    (
        |f, now| media(f, MEDIA).issued.as_mut().unwrap().not_after = now - days(3),
        "generation 2 of media.hachyderm.io expired 3 days ago, and no newer one is issued \
         (and 4 more problems)",
        false,
    ),
    (
        |f, _| {
            *sally_host(f) = Default::default();
            let esme = crate::fleet::host("esme");
            let esme = media(f, MEDIA).observations.get_mut(&esme).unwrap();
            esme.facts.served = None;
            esme.outcome = v1::Outcome::Rejected;
        },
        "media.hachyderm.io: esme could not install generation 2 and keeps what it had \
         (and 1 more problem)",
        false,
    ),
    (
        |f, _| {
            sally(f).facts.served = None;
            sally(f).outcome = v1::Outcome::Held;
        },
        "media.hachyderm.io: sally holds generation 2 back and tries again by itself",
        false,
    ),
];

#[test]
fn the_one_thing_that_matters_comes_first() {
    let now = noon();
    for (change, text, converged) in CASES {
        let mut facts = fleet(now);
        change(&mut facts, now);
        let head = headline(&status(&facts, now), now);
        assert!(
            head.text.starts_with(text),
            "{:?}\nis not {text:?}",
            head.text
        );
        assert_eq!(head.converged, *converged, "{}", head.text);
    }
}

#[test]
fn a_fleet_without_certificates_is_converged() {
    let now = noon();
    assert!(headline(&status(&empty(now), now), now).converged);
}
