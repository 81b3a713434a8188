//! Certificates on hosts that certwell doesn't renew, and that are about to end.
//!
//! The same fractions as for its own; certbot's, which renew by themselves when a third is left, are told when only an
//! eighth is: by then that has failed. What nginx doesn't serve is no user's trouble.

use std::collections::BTreeMap;

use certwell_proto::HostName;
use jiff::Timestamp;

use super::{
    Alert, Class, Key, Member, Severity,
    age::{self, Age},
    scene::Scene,
    text,
};
use crate::plan::{
    inventory::{Leaf, Managed, Row, Served},
    words,
};

/// A certificate that nobody renews here, on a host where it is served.
struct Ending<'a> {
    host: &'a HostName,
    row: &'a Row,
    leaf: &'a Leaf,
    age: Age,
}

pub(super) fn alerts(scene: &Scene<'_>) -> Vec<Alert> {
    let mut by_name: BTreeMap<String, Vec<Ending<'_>>> = BTreeMap::new();
    for (host, inventory) in &scene.facts.inventories {
        // What a host has that is none any more, nobody here is to see to.
        if !scene.facts.config.hosts.contains_key(host) {
            continue;
        }
        for ending in inventory
            .rows
            .iter()
            .filter_map(|row| ending(scene, host, row))
        {
            let name = ending.leaf.covers.first();
            let name = name.map_or_else(|| ending.row.source.clone(), ToString::to_string);
            by_name.entry(name).or_default().push(ending);
        }
    }
    by_name
        .into_iter()
        .filter_map(|(name, ending)| alert(scene, name, ending))
        .collect()
}

fn ending<'a>(scene: &Scene<'_>, host: &'a HostName, row: &'a Row) -> Option<Ending<'a>> {
    let leaf = row.leaf.as_ref()?;
    let is_used = match row.served {
        Served::Yes | Served::Unprobed | Served::Upstream => true,
        Served::No | Served::Unused => false,
    };
    let age = age::age(leaf.not_before, leaf.not_after, scene.now);
    let told_from = match &row.managed {
        // Its own classes tell of it, as long as it is meant to be there.
        Managed::Certwell(name) => {
            let declared = scene.facts.config.certificates.get(name);
            if declared.is_some_and(|declared| declared.hosts.contains(host)) {
                return None;
            }
            Age::Quarter
        }
        Managed::Certbot { renews: true, .. } => Age::Eighth,
        Managed::Certbot { renews: false, .. } | Managed::Nobody => Age::Quarter,
    };
    (is_used && age >= told_from).then_some(Ending {
        host,
        row,
        leaf,
        age,
    })
}

fn alert(scene: &Scene<'_>, name: String, mut all: Vec<Ending<'_>>) -> Option<Alert> {
    let now = scene.now;
    all.sort_by_key(|ending| (is_long_over(ending, now), ending.leaf.not_after));
    let first = all.first()?;
    let severity = match first.age {
        // Nobody has missed it for longer than it would have taken to renew it.
        Age::Over if is_long_over(first, now) => Severity::Warning,
        Age::Over | Age::Eighth => Severity::Page,
        Age::Quarter | Age::Young => Severity::Warning,
    };
    let members: Vec<Member> = all.iter().map(member).collect();
    let verb = match first.age {
        Age::Over => "expired",
        _ => "expires",
    };
    let end = first.leaf.not_after;
    let title = format!(
        "a certificate of {name}, which certwell doesn't renew, {verb} {} on {}",
        words::relative(end, now),
        text::hosts(&members)
    );
    let cause = format!(
        "{} It was issued by {}, and {verb} on {}. {}",
        text::sentence(&text::cut(&whose(first), text::MEMBER)),
        text::cut(&first.leaf.issuer, 80),
        text::at(end, now),
        used(first)
    );
    let next = format!(
        "Nothing: certwell doesn't renew it, and tells it again as it gets older, {}",
        match first.age {
            Age::Quarter | Age::Young => {
                let life = first.leaf.not_before.duration_until(end);
                format!("as a page from {} on", text::at(end - life / 8, now))
            }
            _ => format!(
                "until it is renewed or nothing serves it; it {verb} on {}",
                text::at(end, now)
            ),
        }
    );
    Some(Alert {
        key: Key {
            class: Class::UnmanagedExpiring,
            subject: name,
        },
        severity,
        title: text::cut(&title, text::TITLE),
        cause: text::cut(&cause, text::CAUSE),
        next: text::full_stop(text::cut(&next, text::NEXT)),
        command: format!("ssh {} certwell-agent inventory", first.host),
        since: all.iter().map(since).min(),
        ends: Some(end),
        members,
    })
}

fn since(ending: &Ending<'_>) -> Timestamp {
    let life = ending.leaf.not_before.duration_until(ending.leaf.not_after);
    let part = match ending.row.managed {
        Managed::Certbot { renews: true, .. } => 8,
        _ => 4,
    };
    ending.leaf.not_after - life / part
}

/// Over for longer than an eighth of its life: it was so before anybody looked.
fn is_long_over(ending: &Ending<'_>, now: Timestamp) -> bool {
    let life = ending.leaf.not_before.duration_until(ending.leaf.not_after);
    now.duration_since(ending.leaf.not_after) > life / 8
}

fn member(ending: &Ending<'_>) -> Member {
    Member {
        host: Some(ending.host.clone()),
        address: None,
        certificate: None,
        text: text::cut(&whose(ending), text::MEMBER),
        served: format!("a certificate of {}", text::cut(&ending.leaf.issuer, 80)),
        served_not_after: Some(ending.leaf.not_after),
    }
}

fn whose(ending: &Ending<'_>) -> String {
    let (host, source) = (ending.host, &ending.row.source);
    match &ending.row.managed {
        Managed::Certwell(name) => format!(
            "{host} still serves {name}, for which it is declared no more: nothing renews it there"
        ),
        Managed::Certbot {
            lineage,
            renews: true,
        } => format!("certbot on {host} was to renew its lineage {lineage} by itself, and has not"),
        Managed::Certbot { lineage, .. } => {
            format!("certbot on {host} has the lineage {lineage}, and does not renew it by itself")
        }
        Managed::Nobody => format!("nobody renews {source} on {host}, as far as is known"),
    }
}

fn used(ending: &Ending<'_>) -> String {
    let row = ending.row;
    match (row.used_at.first(), row.listeners.first()) {
        (Some(at), _) => text::full_stop(format!("nginx names it in {}", text::cut(at, 120))),
        (None, Some(at)) => text::full_stop(format!("It is used at {}", text::cut(at, 120))),
        (None, None) => String::new(),
    }
}
