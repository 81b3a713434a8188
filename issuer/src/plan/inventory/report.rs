//! The sprawl in words: what a person reads on the screen, and what a notifier sends.

use std::collections::BTreeSet;

use certwell_proto::HostName;
use jiff::Timestamp;

use super::{
    Managed, Served,
    sprawl::{Certificate, Place},
};
use crate::plan::words;

/// Names that are told of one certificate where there is little room.
const NAMES: usize = 3;

/// The one thing that matters, and whether it is well.
pub fn headline(all: &[Certificate<'_>], now: Timestamp) -> (String, bool) {
    let hosts: BTreeSet<&HostName> = all
        .iter()
        .flat_map(|one| one.places.iter().map(|place| place.host))
        .collect();
    let unmanaged = all.iter().filter(|one| one.is_unmanaged()).count();
    let dead = all.iter().filter(|one| one.is_dead()).count();
    let whole = format!(
        "{} on {}",
        words::count(all.len(), "certificate"),
        words::count(hosts.len(), "host")
    );
    if all.is_empty() {
        return ("no host has told of any certificate".into(), false);
    }
    if unmanaged == 0 && dead == 0 {
        return (
            format!("{whole}: each is used, and renewed by itself"),
            true,
        );
    }
    let first = all
        .iter()
        .filter(|one| one.is_unmanaged() && !one.is_dead())
        .find_map(|one| Some((one, one.leaf?)));
    let first = first.map_or_else(String::new, |(one, leaf)| {
        format!(
            "; of those that nobody renews and that are used {} ends first, {}",
            title(one),
            words::relative(leaf.not_after, now)
        )
    });
    let dead = match dead {
        1 => "1 is dead".to_owned(),
        dead => format!("{dead} are dead"),
    };
    let renewed = match unmanaged {
        1 => "1 isn't renewed by itself".to_owned(),
        many => format!("{many} aren't renewed by themselves"),
    };
    (format!("{whole}: {renewed}, {dead}{first}"), false)
}

/// The names of a certificate, shortly; of what can't be read, its place.
pub fn title(one: &Certificate<'_>) -> String {
    let names: Vec<String> = one
        .leaf
        .iter()
        .flat_map(|leaf| leaf.covers.iter().map(ToString::to_string))
        .collect();
    let source = one.places.first().map(|place| shown(&place.row.source));
    match names.len() {
        0 => source.unwrap_or_default(),
        all if all > NAMES => format!("{} and {} more", names[..NAMES].join(", "), all - NAMES),
        _ => words::list(names),
    }
}

/// "12%", "expired", "?".
pub fn left(one: &Certificate<'_>, now: Timestamp) -> String {
    match (one.leaf, one.life_left(now)) {
        (Some(leaf), _) if leaf.not_after <= now => "expired".into(),
        // Rounded down: it never promises too much.
        (Some(_), Some(left)) => format!("{}%", (left * 100.0).floor()),
        _ => "?".into(),
    }
}

/// The word for it on the screen and in JSON.
pub fn served_word(served: Served) -> &'static str {
    match served {
        Served::Yes => "yes",
        Served::No => "no",
        Served::Unprobed => "unprobed",
        Served::Upstream => "upstream",
        Served::Unused => "unused",
    }
}

/// Over all of its places: the worst that isn't dead; "dead" where all are.
pub fn served(one: &Certificate<'_>) -> &'static str {
    let alive = [Served::No, Served::Yes, Served::Upstream, Served::Unprobed];
    let is = |served: &Served| one.places.iter().any(|place| place.row.served == *served);
    alive
        .into_iter()
        .find(|served| is(served))
        .map_or("dead", served_word)
}

/// Who sees to it, each once.
pub fn managed(one: &Certificate<'_>) -> String {
    let each: BTreeSet<&str> = one
        .places
        .iter()
        .map(|place| match &place.row.managed {
            Managed::Certwell(_) => "certwell",
            Managed::Certbot { renews: true, .. } => "certbot",
            Managed::Certbot { renews: false, .. } => "certbot, not by itself",
            Managed::Nobody => "nobody",
        })
        .collect();
    words::list(each)
}

/// One place, in a sentence.
pub fn place(place: &Place<'_>) -> String {
    let row = place.row;
    let who = match &row.managed {
        Managed::Certwell(name) => format!("certwell's {name}"),
        Managed::Certbot { lineage, renews } => {
            let renews = if *renews {
                ""
            } else {
                ", which isn't renewed by itself"
            };
            format!("certbot's lineage {}{renews}", shown(lineage))
        }
        Managed::Nobody => "nobody renews it".to_owned(),
    };
    let at = || {
        let at = if row.listeners.is_empty() {
            &row.used_at
        } else {
            &row.listeners
        };
        words::list(at.iter().map(|at| shown(at)))
    };
    let used = match row.served {
        Served::Unused => "dead: no server block uses it".to_owned(),
        Served::Upstream => format!("presented to upstreams ({})", at()),
        Served::Yes => format!("served at {}", at()),
        Served::No => format!("not what is served at {}", at()),
        Served::Unprobed if row.listeners.is_empty() => "whether it is used isn't known".into(),
        Served::Unprobed => format!("named for {}, which couldn't be asked", at()),
    };
    format!("{}: {}; {who}; {used}", place.host, shown(&row.source))
}

/// As a whole text without colours or tables: for a notifier.
pub fn text(all: &[Certificate<'_>], now: Timestamp) -> String {
    let mut lines = Vec::new();
    for one in all {
        let ends = one.leaf.map_or_else(
            || "can't be read".to_owned(),
            |leaf| format!("ends {}", words::dated(leaf.not_after, now)),
        );
        lines.push(format!("{}: {ends}", title(one)));
        for at in &one.places {
            lines.push(format!("  {}", place(at)));
            let problems = at.row.problems.iter();
            lines.extend(problems.map(|problem| format!("  ! {}", shown(problem))));
        }
    }
    lines.join("\n")
}

/// A host's word, with what a terminal would obey made visible.
pub fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped: Vec<char> = if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            };
            escaped
        })
        .collect()
}
