//! What `explain` says, shape by shape.

use certwell_issuer::plan::{
    explain::explain,
    facts::{FleetFacts, OrderStage},
};
use certwell_proto::{Generation, v1};
use jiff::Timestamp;

use crate::fleet::{
    MEDIA, certificate, configure, days, declare, fleet, issue, media, minutes, noon, observe,
    sally, sally_host, served,
};

fn told(facts: &FleetFacts) -> Vec<String> {
    explain(facts, &certificate(MEDIA), noon()).unwrap()
}

#[test]
fn a_certificate_that_all_hosts_serve() {
    assert_eq!(
        told(&fleet(noon())),
        [
            "media.hachyderm.io is wanted on 4 hosts: cdn-frankfurt-1, cdn-fremont-1, esme and sally.",
            "Generation 2 was issued by letsencrypt on 2026-11-14 12:00:00 UTC (10 days ago) and is valid until \
             2027-02-12 12:05:00 UTC, for another 80 days.",
            "All 4 hosts serve generation 2.",
            "cdn-frankfurt-1 is converged: it serves generation 2 on all 2 listeners (first proven 9 days ago).",
            "cdn-fremont-1 is converged: it serves generation 2 on all 2 listeners (first proven 9 days ago).",
            "esme is converged: it serves generation 2 on all 2 listeners (first proven 9 days ago).",
            "sally is converged: it serves generation 2 on all 2 listeners (first proven 9 days ago).",
            "Next: it is renewed on 2027-01-13 12:03:20 UTC (in 50 days).",
        ]
    );
}

type Case = (
    &'static str,
    fn(&mut FleetFacts, Timestamp),
    &'static [&'static str],
);

const CASES: &[Case] = &[
    (
        "nothing issued, due now",
        |f, now| {
            *media(f, MEDIA) = Default::default();
            media(f, MEDIA).order.next_at = Some(now);
        },
        &[
            "Nothing is issued yet; letsencrypt is asked for it.",
            "sally is pending: what it serves is not known.",
            "Next: it is due, and is ordered at once.",
        ],
    ),
    (
        "several names on one host",
        |f, _| {
            configure(f, |c| {
                let media = c.certificates.values_mut().next().unwrap();
                media.identifiers.push("www.example.org".parse().unwrap());
                media.hosts.truncate(1);
                media.authorities.push("zerossl".into());
            });
        },
        &[
            "media.hachyderm.io covers media.hachyderm.io and www.example.org; it is wanted on cdn-frankfurt-1.",
            "it covers media.hachyderm.io, so the next generation of media.hachyderm.io will differ.",
        ],
    ),
    (
        "another authority from now on",
        |f, _| {
            configure(f, |c| {
                let media = c.certificates.values_mut().next().unwrap();
                media.authorities = vec!["zerossl".into()];
            });
        },
        &["Next: it is renewed on 2027-01-13 12:03:20 UTC (in 50 days), by zerossl."],
    ),
    (
        "no host",
        |f, _| {
            configure(f, |c| {
                c.certificates.values_mut().for_each(|c| c.hosts.clear())
            })
        },
        &["media.hachyderm.io is wanted on no host."],
    ),
    (
        "on its way to sally",
        |f, now| {
            issue(f, MEDIA, 3, now - minutes(1), now + days(90));
            for name in ["cdn-frankfurt-1", "cdn-fremont-1", "esme"] {
                observe(f, MEDIA, name, 3, now - minutes(1));
            }
            sally(f).facts.fetched.as_mut().unwrap().generation = 3;
            sally(f).facts.installed.as_mut().unwrap().generation = 3;
        },
        &[
            "3 of 4 hosts serve generation 3 on all their listeners.",
            "sally is pending: it serves generation 2, 0 of its 2 listeners up to date (first proven 9 days ago); \
             it has installed generation 3.",
        ],
    ),
    (
        "held on sally",
        |f, now| {
            issue(f, MEDIA, 3, now - minutes(1), now + days(90));
            sally(f).outcome = v1::Outcome::Held;
            sally(f).outcome_generation = Generation(3);
            sally(f).facts.problem = "nginx -t failed on the host's own config.".into();
        },
        &[
            "sally is held: ",
            "; sally: nginx -t failed on the host's own config.",
        ],
    ),
    (
        "sally never joined",
        |f, _| {
            *sally_host(f) = Default::default();
            media(f, MEDIA)
                .observations
                .remove(&crate::fleet::host("sally"));
        },
        &["sally is silent: what it serves is not known; sally has never joined;"],
    ),
    (
        "sally was last heard from, a question at the end",
        |f, now| {
            sally_host(f).connected = false;
            sally_host(f).last_seen = Some(now - minutes(10));
            sally_host(f).record.as_mut().unwrap().last_seen = None;
        },
        &["sally was last heard from 10 minutes ago; is certwell-agent running there?"],
    ),
    (
        "a stranger",
        |f, _| {
            served(f).generation = None;
            served(f).listeners[0].state = v1::ListenerState::Stranger.into();
            served(f).listeners[0].fingerprint = vec![1; 32];
        },
        &[
            "sally is pending: it serves no generation on all of its 2 listeners (first seen 9 days ago);",
        ],
    ),
    (
        "preflight, with a silent challenge host",
        |f, _| {
            media(f, MEDIA).order.stage = OrderStage::Preflight;
            sally_host(f).connected = false;
        },
        &[
            "Now, before an order: cdn-frankfurt-1, cdn-fremont-1, esme and sally must show that their nginx \
             would answer the CA; not connected, so not heard: sally.",
        ],
    ),
    (
        "ordered",
        |f, _| media(f, MEDIA).order.stage = OrderStage::Ordered(Generation(3)),
        &["Now: generation 3 is ordered from letsencrypt."],
    ),
    (
        "validated by the CA",
        |f, _| media(f, MEDIA).order.stage = OrderStage::Challenge(Generation(3)),
        &["Now: letsencrypt validates generation 3, asking media.hachyderm.io for the challenge."],
    ),
    (
        "being signed",
        |f, _| media(f, MEDIA).order.stage = OrderStage::Finalizing(Generation(3)),
        &["Now: letsencrypt has validated, and signs generation 3."],
    ),
    (
        "waiting after failures",
        |f, now| {
            let order = &mut media(f, MEDIA).order;
            order.stage = OrderStage::Waiting;
            order.failures = 3;
            order.next_at = Some(now + minutes(4));
            order.problem = Some("sally: port 80 answers 301 instead of the token".into());
        },
        &[
            "In the way of the next issuance: sally: port 80 answers 301 instead of the token.",
            "Next: it is tried again on 2026-11-24 12:04:00 UTC (in 4 minutes), after 3 failures in a row.",
        ],
    ),
    (
        "waiting for a change",
        |f, _| {
            media(f, MEDIA).order.stage = OrderStage::Waiting;
            media(f, MEDIA).order.next_at = None;
        },
        &["Next: it is tried again when what is in the way changes."],
    ),
    (
        "paused by name",
        |f, _| media(f, MEDIA).paused = true,
        &["Next: nothing by itself, it is paused until `certwell resume media.hachyderm.io`."],
    ),
    (
        "paused as a whole",
        |f, _| f.paused = true,
        &["Next: nothing by itself, the whole fleet is paused until `certwell resume`."],
    ),
    (
        "a refused edit",
        |f, _| f.config_problem = Some("issuer.toml:3:1: unknown key".into()),
        &["all this is by the last good one: issuer.toml:3:1: unknown key."],
    ),
    (
        "something else stands where DNS leads",
        |f, _| {
            configure(f, |c| {
                c.certificates.values_mut().next().unwrap().probe_dns = false;
            })
        },
        &["Where public DNS leads isn't looked at: probe-dns = false in its table."],
    ),
    (
        "expired",
        |f, now| media(f, MEDIA).issued.as_mut().unwrap().not_after = now - days(2),
        &[
            "and expired 2026-11-22 12:00:00 UTC (2 days ago).",
            "sally is converged: it serves generation 2 on all 2 listeners (first proven 9 days ago); \
             sally serves generation 2, which expired 2 days ago.",
        ],
    ),
];

#[test]
fn every_shape_is_told_in_whole_sentences() {
    for (name, change, expected) in CASES {
        let mut facts = fleet(noon());
        change(&mut facts, noon());
        let told = told(&facts);
        let all = told.join("\n");
        for part in *expected {
            assert!(all.contains(part), "{name}: not said: {part}\n{all}");
        }
        for sentence in &told {
            assert!(
                sentence.ends_with(['.', '?']) && !sentence.ends_with(".."),
                "{name}: {sentence}"
            );
        }
    }
}

#[test]
fn what_no_file_declares_is_not_explained() {
    let mut facts = fleet(noon());
    assert_eq!(explain(&facts, &certificate("other.example"), noon()), None);
    declare(&mut facts, "other.example", &[]);
    assert!(explain(&facts, &certificate("other.example"), noon()).is_some());
}
