//! What somebody should know, class by class; each alert is enough by itself.

mod behind;
mod dns;
mod expiry;
mod hosts;
mod install;
mod issuer;
mod orders;
mod page;
mod seen;
mod unmanaged;

use certwell_issuer::{
    cli::args::Cli,
    plan::{
        alert::{Alert, Class, Severity, alerts},
        facts::{FleetFacts, Intruder},
        inventory::{Managed, Served},
        recover,
        seen::{Shown, UrlAnswer},
        words,
    },
};
use certwell_proto::{Fingerprint, v1::Outcome};
use clap::Parser as _;
use jiff::Timestamp;

use crate::fleet::{
    MEDIA, certificate, days, declare, fingerprint, fleet, host, issue, media, noon, observe, older,
};

/// A change of a fleet on which all is well.
pub(crate) type Change = fn(&mut FleetFacts, Timestamp);

/// Verbs of `certwell-agent` that an alert may ask for on a host; that they exist is tested with that program.
const ON_HOSTS: &[&str] = &["doctor", "status", "inventory"];

/// All alerts, each of them looked at for being whole.
pub(crate) fn told(facts: &FleetFacts, now: Timestamp) -> Vec<Alert> {
    let told = alerts(facts, now);
    for alert in &told {
        is_whole(alert, now);
    }
    let mut keys: Vec<_> = told.iter().map(|alert| &alert.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), told.len(), "a cause is told twice: {told:#?}");
    told
}

/// Class, subject and severity of each.
pub(crate) fn keys(told: &[Alert]) -> Vec<(Class, &str, Severity)> {
    told.iter()
        .map(|alert| (alert.key.class, alert.key.subject.as_str(), alert.severity))
        .collect()
}

pub(crate) fn of(told: &[Alert], class: Class) -> &Alert {
    let found: Vec<&Alert> = told
        .iter()
        .filter(|alert| alert.key.class == class)
        .collect();
    assert_eq!(found.len(), 1, "{class}: {told:#?}");
    found[0]
}

/// The hosts that it is on.
pub(crate) fn on(alert: &Alert) -> Vec<&str> {
    let hosts = alert
        .members
        .iter()
        .filter_map(|member| member.host.as_ref());
    hosts.map(|host| host.as_str()).collect()
}

/// As a person reads it, with nothing else at hand.
fn text(alert: &Alert, now: Timestamp) -> String {
    let mut lines = vec![alert.title.clone(), alert.cause.clone()];
    if let Some(since) = alert.since {
        lines.push(format!("since {}", words::dated(since, now)));
    }
    lines.extend(alert.members.iter().take(1).map(|member| {
        let until = member.served_not_after;
        let until = until.map_or(String::new(), |at| {
            format!(" until {}", words::dated(at, now))
        });
        format!("{}: serves {}{until}", member.text, member.served)
    }));
    lines.extend([alert.next.clone(), alert.command.clone()]);
    lines.join("\n")
}

fn is_whole(alert: &Alert, now: Timestamp) {
    let text = text(alert, now);
    for (what, field) in [
        ("title", &alert.title),
        ("cause", &alert.cause),
        ("next", &alert.next),
        ("command", &alert.command),
    ] {
        assert!(!field.trim().is_empty(), "{what}: {text}");
        assert!(!field.contains('\n'), "{what}: {text}");
    }
    assert!(alert.cause.ends_with(['.', '?', '…']), "{text}");
    assert!(alert.next.ends_with(['.', '?', '…']), "{text}");
    assert!(!text.contains(".."), "{text}");
    assert!(!text.contains("  "), "{text}");
    assert!(
        text.chars().count() <= 1_500,
        "{} characters: {text}",
        text.chars().count()
    );
    for member in &alert.members {
        assert!(!member.text.is_empty(), "{text}");
        assert!(
            member.host.is_some() || member.certificate.is_some(),
            "{text}"
        );
    }
    assert!(alert.since.is_none_or(|since| since <= now), "{text}");
    types(&alert.command);
}

/// The command exists, with these arguments.
pub(crate) fn types(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words.as_slice() {
        ["certwell", ..] => {
            let parsed = Cli::try_parse_from(&words);
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
        // Tried as well, with that program.
        ["certwell-issuer", "check" | "backup"] => {}
        ["ssh", host, "certwell-agent", verb] => {
            assert!(
                host.parse::<certwell_proto::HostName>().is_ok(),
                "{command}"
            );
            assert!(ON_HOSTS.contains(verb), "{command}");
        }
        _ => panic!("{command:?} is of no program that is known"),
    }
}

#[test]
fn nothing_is_told_of_a_fleet_that_is_well() {
    let now = noon();
    assert_eq!(told(&fleet(now), now), []);
}

/// A change for each class that facts can lead to.
const CLASSES: &[(Class, Change)] = &[
    (Class::Expiry, |f, now| {
        older(f, MEDIA, 1, now + days(3));
        observe(f, MEDIA, "sally", 1, now - days(87));
    }),
    (Class::RenewalOverdue, |f, now| {
        issue(f, MEDIA, 2, now - days(64), now + days(26));
    }),
    (Class::NotServed, |f, now| *f = install::lagging(now, 30)),
    (Class::InstallFailing, |f, now| {
        *f = install::lagging(now, 30);
        install::ended(f, Outcome::Held, &LONG.repeat(20));
    }),
    (Class::OrderFailing, |f, now| {
        orders::failed(f, MEDIA, 7, 30, now);
        let failing = media(f, MEDIA).order.failing.as_mut();
        failing.unwrap().problem = LONG.repeat(20);
    }),
    (Class::PreflightFailing, |f, _| {
        orders::preflight(f, &format!("preflight: sally: {}", LONG.repeat(20)));
    }),
    (Class::HostSilent, |f, now| {
        crate::judge::away(f, Some(now - days(2)))
    }),
    (Class::RevokedIdentity, |f, now| {
        let intruder = Intruder {
            why: "the identity of sally was revoked".into(),
            first: now,
            last: now,
            calls: 1,
        };
        f.intruders.insert(host("sally"), intruder);
    }),
    (Class::ConfigRefused, |f, _| {
        f.config_problem = Some(LONG.repeat(20))
    }),
    (Class::UrlBroken, |f, now| {
        seen::look(
            f,
            now,
            Some("sally"),
            SALLY,
            Shown::Leaf(seen::leaf(Some(2), now + days(80))),
        );
        let probe = f.sightings.probes.get_mut(&None).unwrap();
        probe.seen.values_mut().next().unwrap().url = Some(UrlAnswer {
            url: "https://media.hachyderm.io/health.png".into(),
            status: Some(404),
            content_type: "text/html".into(),
            problem: Some(LONG.repeat(20)),
        });
    }),
    (Class::SeenStranger, |f, now| {
        seen::look(
            f,
            now,
            Some("sally"),
            SALLY,
            Shown::Leaf(seen::leaf(None, now + days(80))),
        );
    }),
    (Class::SeenElsewhere, |f, now| {
        seen::look(
            f,
            now,
            None,
            "198.51.100.7:443",
            Shown::Leaf(seen::leaf(None, now + days(80))),
        );
    }),
    (Class::SeenOtherVhost, |f, now| {
        declare(f, "other.example.org", &["sally"]);
        issue(f, "other.example.org", 2, now - days(9), now + days(81));
        observe(f, "other.example.org", "sally", 2, now - days(9));
        let mut leaf = seen::leaf(None, now + days(81));
        leaf.fingerprint = Fingerprint(fingerprint("other.example.org", 2).try_into().unwrap());
        leaf.covers = vec!["other.example.org".parse().unwrap()];
        seen::look(f, now, Some("sally"), SALLY, Shown::Leaf(leaf));
    }),
    (Class::SeenChain, |f, now| {
        let mut leaf = seen::leaf(Some(2), now + days(80));
        leaf.chain_problem = Some(LONG.repeat(20));
        seen::look(f, now, Some("sally"), SALLY, Shown::Leaf(leaf));
    }),
    (Class::SeenDown, |f, now| {
        seen::look(f, now, Some("sally"), SALLY, Shown::Down(LONG.repeat(20)));
    }),
    (Class::IssuerDisk, |f, _| {
        issuer::disk(f, 3, 20_000, (9, 10))
    }),
    (Class::IssuerClock, |f, _| {
        f.issuer.clock.synchronised = Some(false)
    }),
    (Class::BackupOld, |f, _| issuer::backups(f, None, None)),
    (Class::UnmanagedExpiring, |f, now| {
        let row = unmanaged::row(Managed::Nobody, Served::Yes, now - days(89), now + days(1));
        unmanaged::has(f, "sally", vec![row], now);
    }),
    (Class::TooFarAhead, |f, now| {
        let mut recovery = recover::begin(now - days(1), now, Default::default());
        recovery
            .too_far
            .insert((certificate(MEDIA), host("sally")), 7_000.into());
        f.recovery = Some(recovery);
    }),
];

const SALLY: &str = "192.0.2.13:443";
const LONG: &str =
    "unknown directive \"sssl\" in /etc/nginx/sites-enabled/media.conf:12\n  of many words ";

#[test]
fn every_class_is_told_and_each_alert_is_enough_by_itself() {
    let now = noon();
    for (class, change) in CLASSES {
        let mut facts = fleet(now);
        change(&mut facts, now);
        // Looked at by `told`: all fields, their length, the command.
        let told = told(&facts, now);
        let alert = of(&told, *class);
        let text = text(alert, now);
        assert!(
            !text.contains("PRIVATE KEY") && !text.contains("certwell1."),
            "{text}"
        );
        // When: an instant that is absolute, and how far it is.
        let dates = text.matches(" UTC (").count();
        assert!(dates > 0, "{class}: {text}");
        let is_dated = [" UTC (", "at once", "…"]
            .iter()
            .any(|when| alert.next.contains(when));
        assert!(is_dated, "{class}: {}", alert.next);
    }
    let mut covered: Vec<Class> = CLASSES.iter().map(|(class, _)| *class).collect();
    // Made where messages are sent.
    covered.extend([Class::NotifierFailing, Class::Drill]);
    assert_eq!(covered, Class::ALL);
}
