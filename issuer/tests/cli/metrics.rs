//! What Prometheus is told of a canned fleet: each number from where it belongs.

use std::{collections::BTreeSet, time::Duration};

use certwell_issuer::{
    fleet::Measured,
    metrics::render,
    plan::{
        facts::{FleetFacts, HostFacts},
        inventory::HostInventory,
        recover::begin,
        seen::{Key, SeenLeaf, Shown, Spot, merge::merge, wire::Told},
    },
};
use certwell_proto::{Fingerprint, v1};

use crate::fleet::{
    HOSTS, MEDIA, certificate, configure, days, fleet, host, leaf, media, minutes, noon, older,
    sally_host,
};

/// Every line of one family, without its name.
fn family(facts: &FleetFacts, name: &str) -> BTreeSet<String> {
    let text = render(facts, &[], &Measured::default(), noon());
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines.map(|line| line.trim_start().to_owned()).collect()
}

fn is_told(facts: &FleetFacts, line: &str) {
    let text = render(facts, &[], &Measured::default(), noon());
    assert!(text.lines().any(|told| told == line), "no {line}:\n{text}");
}

/// With the labels of [`MEDIA`] on a host.
fn on(name: &str, host: &str, fact: &str, value: impl std::fmt::Display) -> String {
    format!("{name}{{certificate=\"{MEDIA}\",host=\"{host}\",fact=\"{fact}\"}} {value}")
}

const AFTER: &str = "certwell_certificate_not_after_timestamp_seconds";
const BEFORE: &str = "certwell_certificate_not_before_timestamp_seconds";
const GENERATION: &str = "certwell_certificate_generation";

fn looked(facts: &mut FleetFacts, leaves: &[(Key, Shown)]) {
    let told = leaves.iter().map(|(key, shown)| Told {
        spot: Spot {
            certificate: certificate(MEDIA),
            name: MEDIA.into(),
            host: Some(host("sally")),
            address: Some("192.0.2.13:443".parse().unwrap()),
            key: *key,
        },
        shown: shown.clone(),
        url: None,
        looked_at: noon(),
    });
    merge(facts, None, told.collect(), true, noon());
}

fn shown(der: &[u8], begins: i64, ends: i64) -> Shown {
    Shown::Leaf(SeenLeaf {
        fingerprint: Fingerprint::of(der),
        not_before: noon() - days(begins),
        not_after: noon() + days(ends),
        covers: vec![MEDIA.parse().unwrap()],
        tls_version: "TLSv1.3".into(),
        chain_problem: None,
    })
}

#[test]
fn lives_are_those_of_what_is_desired_served_and_seen_apart() {
    let mut facts = fleet(noon());
    let issued = media(&mut facts, MEDIA).issued.clone().unwrap();
    older(&mut facts, MEDIA, 1, noon() + days(20));
    crate::fleet::served(&mut facts).generation = Some(1);
    // Of two leaves the one that ends first.
    let (first, last) = (shown(&leaf(MEDIA, 1), 70, 20), shown(b"other", 30, 60));
    looked(&mut facts, &[(Key::Ecdsa, last), (Key::Rsa, first)]);
    let second = |at: jiff::Timestamp| at.as_second();
    is_told(
        &facts,
        &on(AFTER, "sally", "desired", second(issued.not_after)),
    );
    is_told(
        &facts,
        &on(BEFORE, "sally", "desired", second(issued.not_before)),
    );
    is_told(
        &facts,
        &on(AFTER, "sally", "served", second(noon() + days(20))),
    );
    is_told(
        &facts,
        &on(BEFORE, "sally", "served", second(noon() - days(70))),
    );
    is_told(
        &facts,
        &on(AFTER, "sally", "seen", second(noon() + days(20))),
    );
    is_told(
        &facts,
        &on(BEFORE, "sally", "seen", second(noon() - days(70))),
    );
    // Nobody looked at the others.
    let seen = family(&facts, AFTER);
    assert_eq!(
        seen.iter().filter(|line| line.contains("\"seen\"")).count(),
        1
    );
    assert_eq!(seen.len(), 2 * HOSTS.len() + 1);
}

#[test]
fn each_fact_has_its_own_generation_and_only_hosts_that_have_converged_say_so() {
    let mut facts = fleet(noon());
    let sally = crate::fleet::sally(&mut facts);
    let fact = |generation| {
        Some(v1::StatusFact {
            generation,
            at_ms: noon().as_millisecond(),
            agent_at_ms: noon().as_millisecond(),
        })
    };
    sally.facts.fetched = fact(16);
    sally.facts.installed = fact(15);
    sally.facts.tested = fact(14);
    sally.facts.reloaded = fact(13);
    sally.facts.served.as_mut().unwrap().generation = Some(1);
    older(&mut facts, MEDIA, 1, noon() + days(20));
    looked(&mut facts, &[(Key::Ecdsa, shown(&leaf(MEDIA, 2), 10, 80))]);
    for (word, generation) in [
        ("desired", 2),
        ("fetched", 16),
        ("installed", 15),
        ("tested", 14),
        ("reloaded", 13),
        ("served", 1),
        ("seen", 2),
    ] {
        is_told(&facts, &on(GENERATION, "sally", word, generation));
    }
    let converged = |host: &str, value: u8| {
        format!("certwell_certificate_converged{{certificate=\"{MEDIA}\",host=\"{host}\"}} {value}")
    };
    is_told(&facts, &converged("sally", 0));
    is_told(&facts, &converged("esme", 1));
}

#[test]
fn orders_and_their_failures_are_counted_and_a_renewal_has_its_second() {
    let mut facts = fleet(noon());
    let of_media = |name: &str, value: String| format!("{name}{{certificate=\"{MEDIA}\"}} {value}");
    is_told(
        &facts,
        &of_media("certwell_order_failures_total", "0".into()),
    );
    is_told(&facts, &of_media("certwell_certificate_paused", "0".into()));
    let renewal = noon() + days(7);
    media(&mut facts, MEDIA).order.next_at = Some(renewal);
    let planned = "certwell_renewal_planned_timestamp_seconds";
    is_told(&facts, &of_media(planned, renewal.as_second().to_string()));
    let known = media(&mut facts, MEDIA);
    known.order.failures = 3;
    known.paused = true;
    is_told(
        &facts,
        &of_media("certwell_order_failures_in_a_row", "3".into()),
    );
    is_told(&facts, &of_media("certwell_certificate_paused", "1".into()));
    assert_eq!(family(&facts, &format!("{planned}{{")), BTreeSet::new());
    let measured = Measured::default();
    measured
        .stages
        .observe("preflight", "passed", Duration::from_secs(3));
    let text = render(&facts, &[], &measured, noon());
    let stage =
        "certwell_issuance_step_duration_seconds_count{step=\"preflight\",result=\"passed\"} 1";
    assert!(text.lines().any(|line| line == stage), "{text}");
}

#[test]
fn what_ails_the_issuer_and_its_hosts_is_a_one() {
    let mut facts = fleet(noon());
    let flags = [
        "certwell_config_refused",
        "certwell_paused",
        "certwell_recovering",
    ];
    for name in flags {
        is_told(&facts, &format!("{name} 0"));
    }
    facts.config_problem = Some("a mistake".into());
    facts.paused = true;
    is_told(&facts, "certwell_config_refused 1");
    is_told(&facts, "certwell_paused 1");
    let mut recovery = begin(noon(), noon(), Default::default());
    facts.recovery = Some(recovery.clone());
    is_told(&facts, "certwell_recovering 0");
    recovery.waiting.insert(certificate(MEDIA));
    facts.recovery = Some(recovery);
    is_told(&facts, "certwell_recovering 1");

    let known = sally_host(&mut facts);
    known.connected = false;
    known.last_seen = Some(noon() - minutes(3));
    known.record.as_mut().unwrap().last_seen = None;
    is_told(&facts, "certwell_host_connected{host=\"sally\"} 0");
    is_told(&facts, "certwell_host_connected{host=\"esme\"} 1");
    let seen = (noon() - minutes(3)).as_second();
    is_told(
        &facts,
        &format!("certwell_host_last_seen_timestamp_seconds{{host=\"sally\"}} {seen}"),
    );
    // Who never joined, or was sent away, isn't waited for.
    let sent_away: [fn(&mut HostFacts); 3] = [
        |known| known.record.as_mut().unwrap().retired = true,
        |known| known.record.as_mut().unwrap().revoked = Some(noon()),
        |known| known.record = None,
    ];
    for change in sent_away {
        let mut facts = facts.clone();
        change(sally_host(&mut facts));
        let hosts = family(&facts, "certwell_host_connected");
        assert!(
            !hosts.iter().any(|line| line.contains("sally")),
            "{hosts:?}"
        );
    }
}

#[test]
fn alerts_and_findings_are_counted_by_what_they_are() {
    let mut facts = fleet(noon());
    let chain = |shown: Shown| match shown {
        Shown::Leaf(leaf) => Shown::Leaf(SeenLeaf {
            chain_problem: Some("it leads to no known root".into()),
            ..leaf
        }),
        other => other,
    };
    looked(
        &mut facts,
        &[(Key::Ecdsa, chain(shown(&leaf(MEDIA, 2), 10, 80)))],
    );
    let found = family(&facts, "certwell_findings");
    assert_eq!(
        found,
        [format!("{{certificate=\"{MEDIA}\",kind=\"chain\"}} 1")].into()
    );
    // Its last eighth, and over the planned renewal: it pages.
    let known = media(&mut facts, MEDIA).issued.as_mut().unwrap();
    known.not_after = noon() + days(1);
    known.not_before = noon() - days(89);
    let of = |severity: &str, count: u8| {
        format!("certwell_alerts{{class=\"expiry\",severity=\"{severity}\"}} {count}")
    };
    is_told(&facts, &of("page", 1));
    is_told(&facts, &of("warning", 0));
}

#[test]
fn a_notifier_that_accepts_nothing_and_a_drill_are_counted_though_facts_know_nothing_of_them() {
    let open = |class: &str, severity: v1::AlertSeverity| v1::Alert {
        class: class.into(),
        severity: severity.into(),
        ..v1::Alert::default()
    };
    let open = [
        open("notifier-failing", v1::AlertSeverity::Warning),
        open("notifier-failing", v1::AlertSeverity::Warning),
        open("drill", v1::AlertSeverity::Page),
        // Counted by its cause.
        open("expiry", v1::AlertSeverity::Page),
    ];
    let text = render(&fleet(noon()), &open, &Measured::default(), noon());
    for line in [
        "certwell_alerts{class=\"notifier-failing\",severity=\"warning\"} 2",
        "certwell_alerts{class=\"drill\",severity=\"page\"} 1",
        "certwell_alerts{class=\"expiry\",severity=\"page\"} 0",
    ] {
        assert!(text.lines().any(|told| told == line), "no {line}:\n{text}");
    }
}

#[test]
fn inventories_are_counted_by_who_renews_and_by_use_and_the_first_end_is_told() {
    let mut facts = fleet(noon());
    let row = |managed: v1::ManagedBy, served: v1::ServedState, ends: i64| v1::InventoryRow {
        source: format!("/etc/ssl/{ends}.pem"),
        fingerprint: vec![u8::try_from(ends).unwrap(); 32],
        not_before: (noon() - days(10)).as_second(),
        not_after: (noon() + days(ends)).as_second(),
        managed: managed.into(),
        managed_name: MEDIA.into(),
        served: served.into(),
        ..v1::InventoryRow::default()
    };
    use v1::{
        ManagedBy::{Certbot, Certwell, Nobody},
        ServedState::{No, Unused, Upstream, Yes},
    };
    let told = v1::Inventory {
        rows: vec![
            row(Certwell, Yes, 80),
            row(Certbot, Unused, 1),
            row(Certbot, Upstream, 9),
            row(Nobody, Yes, 7),
            row(Nobody, No, 5),
            row(Nobody, Unused, 2),
        ],
        ..v1::Inventory::default()
    };
    let inventory = HostInventory::told(&told, noon()).unwrap();
    facts.inventories.insert(host("sally"), inventory);
    let mut expected = BTreeSet::new();
    for (managed, used, dead) in [("certwell", 1, 0), ("certbot", 1, 1), ("nobody", 2, 1)] {
        for (usage, count) in [("used", used), ("dead", dead)] {
            expected.insert(format!(
                "{{host=\"sally\",managed_by=\"{managed}\",use=\"{usage}\"}} {count}"
            ));
        }
    }
    assert_eq!(family(&facts, "certwell_inventory_certificates"), expected);
    for (managed, ends) in [("certwell", 80), ("certbot", 9), ("nobody", 5)] {
        let end = (noon() + days(ends)).as_second();
        is_told(
            &facts,
            &format!(
                "certwell_inventory_first_not_after_timestamp_seconds{{host=\"sally\",managed_by=\"{managed}\"}} {end}"
            ),
        );
    }
}

/// What can't be told isn't, rather than told wrong.
#[test]
fn what_is_not_known_has_no_number() {
    let mut facts = fleet(noon());
    media(&mut facts, MEDIA).issued = None;
    media(&mut facts, MEDIA).observations.clear();
    sally_host(&mut facts).last_seen = None;
    if let Some(record) = sally_host(&mut facts).record.as_mut() {
        record.last_seen = None;
    }
    configure(&mut facts, |config| config.probe.enabled = false);
    assert_eq!(family(&facts, AFTER), BTreeSet::new());
    assert_eq!(family(&facts, GENERATION), BTreeSet::new());
    let seen = family(&facts, "certwell_host_last_seen_timestamp_seconds");
    assert!(!seen.iter().any(|line| line.contains("sally")), "{seen:?}");
}
