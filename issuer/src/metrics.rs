//! What Prometheus is told at `/metrics`: put together from what is known at the moment that it asks, so that nothing
//! stale stays; how long the stages of issuances took comes from whoever measured them.

use std::collections::BTreeMap;

use certwell_metrics::{Page, process};
use certwell_proto::{CertificateName, Generation, HostName, v1};
use jiff::Timestamp;

use crate::{
    fleet::Measured,
    plan::{
        alert::{Class, Severity, alerts, is_of_looks},
        facts::{CertificateFacts, FleetFacts},
        inventory::{Managed, Served},
        presence,
        seen::{Kind, findings},
        status,
    },
};

/// The whole answer. `open` are the alerts that are open: of some causes facts know nothing, such as a notifier that
/// accepts no messages.
pub fn render(
    facts: &FleetFacts,
    open: &[v1::Alert],
    measured: &Measured,
    now: Timestamp,
) -> String {
    let mut page = Page::default();
    page.gauge(
        "certwell_build_info",
        "Which program answers, and its version; always 1.",
    )
    .sample(
        &[
            ("program", "certwell-issuer"),
            ("version", env!("CARGO_PKG_VERSION")),
        ],
        1.0,
    );
    issuer(&mut page, facts);
    let status = status::status(facts, now);
    lives(&mut page, facts, &status);
    generations(&mut page, &status);
    orders(&mut page, facts, &status, measured);
    hosts(&mut page, facts);
    told(&mut page, facts, open, now);
    inventories(&mut page, facts);
    let mut stages = page.histogram(
        "certwell_issuance_step_duration_seconds",
        "How long each stage of an issuance took, by stage and by how it ended.",
    );
    measured.stages.write(&mut stages);
    process::write(&mut page);
    page.finish()
}

fn issuer(page: &mut Page, facts: &FleetFacts) {
    page.gauge(
        "certwell_config_refused",
        "Whether a newer edit of the configuration is refused (1) or not (0).",
    )
    .sample(&[], flag(facts.config_problem.is_some()));
    page.gauge(
        "certwell_paused",
        "Whether orders and offers of the whole fleet are paused (1) or not (0).",
    )
    .sample(&[], flag(facts.paused));
    let recovering = facts
        .recovery
        .as_ref()
        .is_some_and(|recovery| !recovery.waiting.is_empty());
    page.gauge(
        "certwell_recovering",
        "Whether hosts are waited for after a restore from a backup (1) or not (0).",
    )
    .sample(&[], flag(recovering));
}

/// First and last instant of what each fact is about.
type Life = (Timestamp, Timestamp);

/// The lives of what is desired, served and seen, of each certificate on each host.
fn lives(page: &mut Page, facts: &FleetFacts, status: &v1::StatusResponse) {
    let mut found: Vec<([&str; 3], Life)> = Vec::new();
    for certificate in &status.certificates {
        let known = certificate
            .name
            .parse::<CertificateName>()
            .ok()
            .and_then(|name| facts.certificates.get(&name));
        let Some(known) = known else { continue };
        for host in &certificate.hosts {
            let labels = |fact| [certificate.name.as_str(), host.host.as_str(), fact];
            if let Some(issued) = &known.issued {
                found.push((labels("desired"), (issued.not_before, issued.not_after)));
            }
            let served = host.served.as_ref().and_then(|served| served.generation);
            if let Some(life) = served.and_then(|generation| life_of(known, generation)) {
                found.push((labels("served"), life));
            }
            // Of all looks at it the one that ends first.
            let seen = host
                .sightings
                .iter()
                .filter(|sighting| sighting.not_after > 0);
            let seen = seen.min_by_key(|sighting| sighting.not_after);
            if let Some(life) = seen.and_then(|seen| {
                let second = |at| Timestamp::from_second(at).ok();
                second(seen.not_before).zip(second(seen.not_after))
            }) {
                found.push((labels("seen"), life));
            }
        }
    }
    let mut write = |name, help, of: fn(&Life) -> Timestamp| {
        let mut family = page.gauge(name, help);
        for ([certificate, host, fact], life) in &found {
            let labels = [
                ("certificate", *certificate),
                ("host", *host),
                ("fact", *fact),
            ];
            family.sample(&labels, seconds(of(life)));
        }
    };
    write(
        "certwell_certificate_not_after_timestamp_seconds",
        "When what is desired of a host, served by it, or seen from outside ends, in seconds since the Unix epoch.",
        |life| life.1,
    );
    write(
        "certwell_certificate_not_before_timestamp_seconds",
        "When what is desired of a host, served by it, or seen from outside begins, in seconds since the Unix epoch.",
        |life| life.0,
    );
}

fn life_of(known: &CertificateFacts, generation: u64) -> Option<Life> {
    let newest = known.issued.as_ref();
    let newest = newest.filter(|issued| issued.generation == Generation(generation));
    let leaf = newest
        .map(|issued| issued.leaf())
        .or_else(|| known.older.get(&Generation(generation)).copied())?;
    Some((leaf.not_before, leaf.not_after))
}

fn generations(page: &mut Page, status: &v1::StatusResponse) {
    let hosts = || {
        let all = status.certificates.iter();
        all.flat_map(|one| one.hosts.iter().map(|host| (one.name.as_str(), host)))
    };
    let mut family = page.gauge(
        "certwell_certificate_generation",
        "The generation that each fact of a certificate on a host is about; absent until it has happened.",
    );
    for (certificate, host) in hosts() {
        let fact = |fact: &Option<v1::StatusFact>| fact.as_ref().map(|fact| fact.generation);
        let listened =
            |fact: &Option<v1::StatusServed>| fact.as_ref().and_then(|fact| fact.generation);
        for (word, generation) in [
            ("desired", fact(&host.desired)),
            ("fetched", fact(&host.fetched)),
            ("installed", fact(&host.installed)),
            ("tested", fact(&host.tested)),
            ("reloaded", fact(&host.reloaded)),
            ("served", listened(&host.served)),
            ("seen", listened(&host.seen)),
        ] {
            if let Some(generation) = generation {
                let labels = [
                    ("certificate", certificate),
                    ("host", host.host.as_str()),
                    ("fact", word),
                ];
                family.sample(&labels, generation as f64);
            }
        }
    }
    let mut family = page.gauge(
        "certwell_certificate_converged",
        "Whether every listener of a host serves the newest issued leaf of a certificate (1) or not (0).",
    );
    for (certificate, host) in hosts() {
        let labels = [("certificate", certificate), ("host", host.host.as_str())];
        family.sample(&labels, flag(host.state() == v1::HostState::Converged));
    }
}

fn orders(page: &mut Page, facts: &FleetFacts, status: &v1::StatusResponse, measured: &Measured) {
    let declared: Vec<(&CertificateName, &CertificateFacts)> = facts
        .config
        .certificates
        .keys()
        .filter_map(|name| facts.certificates.get_key_value(name))
        .collect();
    let mut family = page.counter(
        "certwell_order_failures_total",
        "Failed attempts to have a certificate issued, since the issuer started.",
    );
    for (name, _) in &declared {
        let labels = [("certificate", name.as_str())];
        family.sample(&labels, measured.failures(name) as f64);
    }
    let mut family = page.gauge(
        "certwell_order_failures_in_a_row",
        "Failed attempts to have a certificate issued since the last that succeeded.",
    );
    for (name, known) in &declared {
        let labels = [("certificate", name.as_str())];
        family.sample(&labels, f64::from(known.order.failures));
    }
    let mut family = page.gauge(
        "certwell_renewal_planned_timestamp_seconds",
        "When the next renewal of a certificate is planned, in seconds since the Unix epoch; absent when none is.",
    );
    for one in &status.certificates {
        if let Some(at) = one.renew_at_ms {
            family.sample(&[("certificate", &one.name)], at as f64 / 1000.0);
        }
    }
    let mut family = page.gauge(
        "certwell_certificate_paused",
        "Whether orders and offers of a certificate are paused by its name (1) or not (0).",
    );
    for (name, known) in &declared {
        family.sample(&[("certificate", name.as_str())], flag(known.paused));
    }
}

fn hosts(page: &mut Page, facts: &FleetFacts) {
    let declared = || {
        let all = facts.config.hosts.keys();
        all.map(|name| (name, facts.hosts.get(name)))
            .filter(|(_, known)| presence::life(*known) != v1::HostLife::Retired)
    };
    // Of one that never joined, or was sent away, no stream is waited for: who watches for 0 would hear of it for ever.
    let enrolled = declared().filter(|(_, known)| presence::life(*known) == v1::HostLife::Enrolled);
    let mut family = page.gauge(
        "certwell_host_connected",
        "Whether the stream of a host that joined is open (1) or not (0).",
    );
    for (name, known) in enrolled {
        let connected = known.is_some_and(|known| known.connected);
        family.sample(&[("host", name.as_str())], flag(connected));
    }
    let mut family = page.gauge(
        "certwell_host_last_seen_timestamp_seconds",
        "When a host last spoke to the issuer, in seconds since the Unix epoch; absent before it did.",
    );
    for (name, known) in declared() {
        if let Some(at) = presence::last_seen(known) {
            family.sample(&[("host", name.as_str())], seconds(at));
        }
    }
}

/// What somebody should know.
fn told(page: &mut Page, facts: &FleetFacts, open: &[v1::Alert], now: Timestamp) {
    let mut causes: BTreeMap<(Class, Severity), usize> = BTreeMap::new();
    let found = alerts(facts, now);
    for alert in &found {
        *causes.entry((alert.key.class, alert.severity)).or_default() += 1;
    }
    // Of notifiers and drills facts know nothing, and what is seen from outside stays open until somebody looks again.
    for alert in open {
        let Ok(class) = alert.class.parse::<Class>() else {
            continue;
        };
        let is_known = found
            .iter()
            .any(|found| found.key.class == class && found.key.subject == alert.subject);
        if !is_known
            && (matches!(class, Class::NotifierFailing | Class::Drill) || is_of_looks(class))
        {
            let severity = match alert.severity() {
                v1::AlertSeverity::Page => Severity::Page,
                _ => Severity::Warning,
            };
            *causes.entry((class, severity)).or_default() += 1;
        }
    }
    let mut family = page.gauge(
        "certwell_alerts",
        "Causes that somebody should know of, by class and severity; acknowledged ones too.",
    );
    for class in Class::ALL {
        for severity in [Severity::Warning, Severity::Page] {
            let count = causes.get(&(*class, severity)).copied().unwrap_or_default();
            let labels = [("class", class.slug()), ("severity", severity.word())];
            family.sample(&labels, count as f64);
        }
    }
    let mut seen: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for finding in findings(facts, now) {
        let key = (finding.certificate.to_string(), word(finding.kind));
        *seen.entry(key).or_default() += 1;
    }
    let mut family = page.gauge(
        "certwell_findings",
        "What is wrong when looked at from outside, by certificate and kind.",
    );
    for ((certificate, kind), count) in seen {
        family.sample(
            &[("certificate", &certificate), ("kind", kind)],
            count as f64,
        );
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Down => "down",
        Kind::Stranger => "stranger",
        Kind::Chain => "chain",
        Kind::OtherVhost => "other-vhost",
        Kind::Url => "url",
        Kind::OtherGeneration => "other-generation",
        Kind::LeadsElsewhere => "leads-elsewhere",
        Kind::Unresolved => "unresolved",
    }
}

fn inventories(page: &mut Page, facts: &FleetFacts) {
    let mut family = page.gauge(
        "certwell_inventory_certificates",
        "Certificates of a host, by who sees to them and by whether nginx uses them.",
    );
    let mut first: BTreeMap<(&HostName, &str), Timestamp> = BTreeMap::new();
    for (host, inventory) in &facts.inventories {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for row in inventory.rows.iter() {
            let managed = match row.managed {
                Managed::Certwell(_) => "certwell",
                Managed::Certbot { .. } => "certbot",
                Managed::Nobody => "nobody",
            };
            let used = match row.served {
                Served::Unused => "dead",
                _ => "used",
            };
            *counts.entry((managed, used)).or_default() += 1;
            if let (Some(leaf), "used") = (&row.leaf, used) {
                let end = first.entry((host, managed)).or_insert(leaf.not_after);
                *end = (*end).min(leaf.not_after);
            }
        }
        for managed in ["certwell", "certbot", "nobody"] {
            for used in ["used", "dead"] {
                let count = counts.get(&(managed, used)).copied().unwrap_or_default();
                let labels = [
                    ("host", host.as_str()),
                    ("managed_by", managed),
                    ("use", used),
                ];
                family.sample(&labels, count as f64);
            }
        }
    }
    let mut family = page.gauge(
        "certwell_inventory_first_not_after_timestamp_seconds",
        "When the first of a host's certificates that nginx uses ends, by who sees to them, in seconds since the Unix epoch.",
    );
    for ((host, managed), end) in first {
        let labels = [("host", host.as_str()), ("managed_by", managed)];
        family.sample(&labels, seconds(end));
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
