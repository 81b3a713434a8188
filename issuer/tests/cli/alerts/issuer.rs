//! The issuer's own machine, its configuration, and who comes to it.

use certwell_issuer::plan::{
    alert::{Class, Severity},
    facts::{FleetFacts, Intruder},
    health::{Backups, Disk, Room},
    recover, status,
};
use certwell_proto::Generation;
use jiff::{SignedDuration, Timestamp};

use super::{Change, keys, of, on, told};
use crate::fleet::{
    HOSTS, MEDIA, certificate, days, fleet, host, issue, media, minutes, noon, observe, sally_host,
};

const MIB: u64 = 1 << 20;

pub(super) fn disk(facts: &mut FleetFacts, free: u64, total: u64, inodes: (u64, u64)) {
    facts.issuer.disk = Some(Disk {
        path: "/var/lib/certwell-issuer".into(),
        bytes: Room {
            total: total * MIB,
            free: free * MIB,
        },
        inodes: Room {
            total: inodes.1,
            free: inodes.0,
        },
    });
}

pub(super) fn backups(facts: &mut FleetFacts, newest: Option<Timestamp>, problem: Option<&str>) {
    facts.issuer.backups = Some(Backups {
        directory: "/var/backups/certwell-issuer".into(),
        newest,
        problem: problem.map(str::to_owned),
    });
}

/// What every host said of the time, so many seconds off.
fn hosts_say(facts: &mut FleetFacts, hosts: &[&str], off: i64, at: Timestamp) {
    for name in hosts {
        let seen = media(facts, MEDIA)
            .observations
            .get_mut(&host(name))
            .unwrap();
        let served = seen.facts.served.as_mut().unwrap();
        served.at_ms = at.as_millisecond();
        served.agent_at_ms = (at + SignedDuration::from_secs(off)).as_millisecond();
    }
}

type Case = (
    &'static str,
    Change,
    Option<(Class, Severity)>,
    &'static str,
);

#[test]
fn what_ails_the_issuer_is_told_and_stands_in_its_status() {
    use {
        Class::*,
        Severity::{Page, Warning},
    };
    let now = noon();
    let cases: &[Case] = &[
        (
            "room",
            |f, _| disk(f, 9_000, 20_000, (90_000, 100_000)),
            None,
            "",
        ),
        (
            "a tenth of much is much",
            |f, _| disk(f, 2_000, 40_000, (90_000, 100_000)),
            None,
            "",
        ),
        (
            "nearly full",
            |f, _| disk(f, 900, 20_000, (90_000, 100_000)),
            Some((IssuerDisk, Warning)),
            "900 of 20000 MiB are free where /var/lib/certwell-issuer lies",
        ),
        (
            "full",
            |f, _| disk(f, 100, 20_000, (90_000, 100_000)),
            Some((IssuerDisk, Page)),
            "100 of 20000 MiB are free",
        ),
        (
            "a small one that is nearly full",
            |f, _| disk(f, 1, 16, (900, 1_000)),
            Some((IssuerDisk, Warning)),
            "1 of 16 MiB are free",
        ),
        (
            "no inodes",
            |f, _| disk(f, 9_000, 20_000, (50, 100_000)),
            Some((IssuerDisk, Page)),
            "50 of 100000 inodes are free",
        ),
        (
            "a file system without a number of inodes",
            |f, _| disk(f, 9_000, 20_000, (0, 0)),
            None,
            "",
        ),
        (
            "not synchronised",
            |f, _| f.issuer.clock.synchronised = Some(false),
            Some((IssuerClock, Warning)),
            "has not been able to set it",
        ),
        (
            "nobody says whether it is",
            |f, _| f.issuer.clock.synchronised = None,
            None,
            "",
        ),
        (
            "set back by an hour",
            |f, now| {
                f.issuer.clock.set_back = Some((now - minutes(5), SignedDuration::from_hours(3)))
            },
            Some((IssuerClock, Warning)),
            "it was set back by 3 hours 5 minutes ago",
        ),
        (
            "set back by a second",
            |f, now| {
                f.issuer.clock.set_back = Some((now - minutes(5), SignedDuration::from_secs(2)))
            },
            None,
            "",
        ),
        (
            "set back by the time service",
            |f, now| {
                f.issuer.clock.set_back = Some((now - minutes(5), SignedDuration::from_hours(3)));
                f.issuer.clock.synchronised = Some(true);
            },
            None,
            "",
        ),
        (
            "before what is stored",
            |f, now| sally_host(f).last_seen = Some(now + days(3)),
            Some((IssuerClock, Page)),
            "what happened on 2026-11-27 12:00:00 UTC is stored, which by this clock is yet to come",
        ),
        (
            "behind by what three hosts say",
            |f, now| hosts_say(f, &HOSTS[..3], 600, now),
            Some((IssuerClock, Page)),
            "by the clocks of 3 of 3 hosts it is 10 minutes behind",
        ),
        (
            "ahead by what all say",
            |f, now| hosts_say(f, &HOSTS, -7_300, now),
            Some((IssuerClock, Page)),
            "by the clocks of 4 of 4 hosts it is 2 hours ahead",
        ),
        (
            "one host alone is wrong itself",
            |f, now| {
                hosts_say(f, &HOSTS[..3], 0, now);
                hosts_say(f, &HOSTS[3..], 600, now);
            },
            None,
            "",
        ),
        (
            "what they said long ago",
            |f, now| hosts_say(f, &HOSTS, 600, now - days(1)),
            None,
            "",
        ),
        (
            "off by half a minute, where certificates live for three",
            |f, now| {
                issue(f, MEDIA, 2, now - minutes(1), now + minutes(2));
                for name in HOSTS {
                    observe(f, MEDIA, name, 2, now - minutes(1));
                }
                hosts_say(f, &HOSTS, 30, now);
                for name in HOSTS {
                    let facts = &mut media(f, MEDIA)
                        .observations
                        .get_mut(&host(name))
                        .unwrap()
                        .facts;
                    (facts.fetched, facts.installed, facts.tested, facts.reloaded) =
                        (None, None, None, None);
                }
            },
            Some((IssuerClock, Page)),
            "30 seconds behind",
        ),
        (
            "a backup of yesterday",
            |f, now| backups(f, Some(now - days(1)), None),
            None,
            "",
        ),
        (
            "a backup of last week",
            |f, now| backups(f, Some(now - days(7)), None),
            Some((BackupOld, Warning)),
            "was made on 2026-11-17 12:00:00 UTC (7 days ago)",
        ),
        (
            "never one",
            |f, _| backups(f, None, None),
            Some((BackupOld, Warning)),
            "there is none in /var/backups/certwell-issuer",
        ),
        (
            "none yet, on the first day",
            |f, now| {
                f.lineage.started_ms = (now - days(1)).as_millisecond();
                backups(f, None, None);
            },
            None,
            "",
        ),
        (
            "nobody may look",
            |f, _| backups(f, None, Some("Permission denied")),
            Some((BackupOld, Warning)),
            "isn't known: Permission denied",
        ),
    ];
    for (case, change, expected, words) in cases {
        let mut facts = fleet(now);
        change(&mut facts, now);
        let told = told(&facts, now);
        let expected: Vec<_> = expected
            .iter()
            .map(|(class, severity)| (*class, "", *severity))
            .collect();
        let found: Vec<_> = keys(&told)
            .into_iter()
            .filter(|(class, ..)| *class != Expiry)
            .collect();
        assert_eq!(found, expected, "{case}: {told:#?}");
        let problems = status::status(&facts, now).problems;
        assert_eq!(problems.len(), expected.len(), "{case}: {problems:?}");
        if let Some((class, ..)) = expected.first() {
            let alert = of(&told, *class);
            assert!(alert.cause.contains(words), "{case}: {}", alert.cause);
            assert!(problems[0].contains(words), "{case}: {problems:?}");
        }
    }
}

#[test]
fn a_refused_configuration_is_told_with_file_line_and_what_goes_on() {
    let now = noon();
    let mut facts = fleet(now);
    facts.config_problem = Some("conf.d/media.toml:3:1: unknown key \"hots\"".into());
    let told = told(&facts, now);
    assert_eq!(keys(&told), [(Class::ConfigRefused, "", Severity::Warning)]);
    assert!(
        told[0]
            .cause
            .contains("conf.d/media.toml:3:1: unknown key \"hots\"."),
        "{}",
        told[0].cause
    );
    assert!(
        told[0]
            .next
            .contains("the next renewal is that of media.hachyderm.io, on 2027-01-"),
        "{}",
        told[0].next
    );
    assert_eq!(told[0].command, "certwell-issuer check");
}

#[test]
fn who_comes_with_what_was_revoked_is_told_until_he_stays_away() {
    let now = noon();
    let mut facts = fleet(now);
    sally_host(&mut facts).record.as_mut().unwrap().revoked = Some(now);
    let intruder = Intruder {
        why: "the identity of sally was revoked at 2026-11-24T12:00:00Z; enroll it again with a new token".into(),
        first: now - minutes(20),
        last: now - minutes(2),
        calls: 12,
    };
    facts.intruders.insert(host("sally"), intruder);
    let here = told(&facts, now);
    assert_eq!(
        keys(&here),
        [(Class::RevokedIdentity, "", Severity::Warning)]
    );
    assert_eq!(on(&here[0]), ["sally"]);
    assert!(
        here[0].cause.contains(
            "It was refused 12 times since 2026-11-24 11:40:00 UTC (20 minutes ago), last on"
        ),
        "{}",
        here[0].cause
    );
    assert!(
        here[0].next.contains("by 2026-11-24 12:58:00 UTC"),
        "{}",
        here[0].next
    );
    assert_eq!(here[0].command, "certwell hosts show sally");
    assert_eq!(told(&facts, now + minutes(59)), []);
}

#[test]
fn a_generation_that_can_t_be_is_told_with_what_is_served() {
    let now = noon();
    let mut facts = fleet(now);
    let mut recovery = recover::begin(now - days(1), now, Default::default());
    recovery
        .too_far
        .insert((certificate(MEDIA), host("sally")), Generation(7_000));
    facts.recovery = Some(recovery);
    let told_of = told(&facts, now);
    assert_eq!(
        keys(&told_of),
        [(Class::TooFarAhead, "", Severity::Warning)]
    );
    assert!(
        told_of[0]
            .cause
            .contains("sally claims generation 7000 of media.hachyderm.io"),
        "{}",
        told_of[0].cause
    );
    assert_eq!(told_of[0].command, "ssh sally certwell-agent status");
    sally_host(&mut facts).record.as_mut().unwrap().revoked = Some(now);
    assert_eq!(told(&facts, now), []);
}
