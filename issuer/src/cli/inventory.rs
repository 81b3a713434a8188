//! `certwell inventory`: every certificate of every host, managed or not.

use std::{collections::BTreeMap, time::Duration};

use certwell_proto::{Exit, HostName, v1};
use comfy_table::{Cell, Color, Row};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    args::InventoryOf,
    client::{Admin, CliError, ask},
    json::Document,
    screen::Screen,
};
use crate::{
    clock,
    plan::{
        inventory::{
            HostInventory, Managed,
            report::{headline, left, managed, place, served, served_word, shown, title},
            sprawl::{Certificate, Place, certificates, domains},
        },
        words,
    },
};

/// Columns for names in the table.
const SHORT: usize = 27;

/// Longer than any notifier takes.
const SENDING: Duration = Duration::from_secs(60);

/// What hosts told, and what is in the way of believing that it is all.
struct Told {
    inventories: BTreeMap<HostName, HostInventory>,
    /// Sentences, by host.
    gaps: Vec<String>,
}

/// Shows it.
pub(super) async fn inventory(
    mut admin: Admin,
    of: &InventoryOf,
    screen: &Screen,
) -> Result<Exit, CliError> {
    if let Some(notifier) = &of.send {
        return send(admin, notifier, of, screen).await;
    }
    // Always of all: a name that is alive on another host is none to destroy.
    let answer = ask(admin.inventory(v1::InventoryRequest::default())).await?;
    if let Some(unknown) = of
        .host
        .iter()
        .find(|host| !answer.hosts.iter().any(|told| told.host == host.as_str()))
    {
        return Err(CliError::new(
            Exit::NotFound,
            format!("no host {unknown} is declared; `certwell hosts list` shows those that are"),
        ));
    }
    let is_asked_for =
        |host: &HostName| of.host.is_empty() || of.host.iter().any(|asked| asked == host);
    let told = read(answer)?;
    let now = clock::now();
    let all = certificates(&told.inventories, now);
    let wanted =
        |place: &Place<'_>| is_asked_for(place.host) && (!of.unmanaged || place.is_unmanaged());
    let names = domains(&all, wanted);
    if of.domains && of.format.json {
        screen.json(&Document::new(Names {
            domains: names.leftover.iter().map(ToString::to_string).collect(),
            kept: names.kept.iter().map(ToString::to_string).collect(),
        }))?;
        return Ok(Exit::Done);
    }
    if of.domains {
        for gap in told.gaps {
            eprintln!("certwell: {gap}; names may be missing, or one may be used there after all");
        }
        if !names.kept.is_empty() {
            eprintln!(
                "certwell: left out, since a certificate that is managed and used covers them: {}",
                words::list(&names.kept)
            );
        }
        for name in &names.leftover {
            screen.line(&name.to_string())?;
        }
        return Ok(Exit::Done);
    }
    let shown: Vec<Certificate<'_>> = all
        .iter()
        .map(|one| Certificate {
            leaf: one.leaf,
            places: one.places.iter().copied().filter(wanted).collect(),
        })
        .filter(|one| !one.places.is_empty())
        .collect();
    if of.format.json {
        let hosts = told.inventories.iter();
        screen.json(&Document::new(Inventory {
            hosts: hosts
                .filter(|(host, _)| is_asked_for(host))
                .map(|(host, told)| Host {
                    host: host.to_string(),
                    at: told.at.to_string(),
                    left_out: told.left_out,
                    problem: told.problem.clone(),
                })
                .collect(),
            certificates: shown.iter().map(|one| detail(one, now)).collect(),
            domains: names.leftover.iter().map(ToString::to_string).collect(),
        }))?;
        return Ok(Exit::Done);
    }
    print(&shown, &told.gaps, now, screen)?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Answer {
    notifier: String,
    accepted: bool,
    text: String,
    took_ms: u32,
}

/// Has the issuer send the report.
async fn send(
    mut admin: Admin,
    notifier: &str,
    of: &InventoryOf,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let request = v1::SendInventoryRequest {
        hosts: of.host.iter().map(ToString::to_string).collect(),
        notifier: notifier.to_owned(),
    };
    // The notifier has its own limit, and the issuer waits for it.
    let sending = tokio::time::timeout(SENDING, admin.send_inventory(request));
    let answer = match sending.await {
        Ok(answer) => answer?.into_inner().answer.unwrap_or_default(),
        Err(_) => {
            let text = format!("the issuer took the call, but {notifier} did not answer");
            return Err(CliError::new(Exit::Unreachable, text));
        }
    };
    let (accepted, text) = (answer.accepted, answer.text.clone());
    if of.format.json {
        screen.json(&Document::new(Answer {
            notifier: answer.notifier,
            accepted,
            text: answer.text,
            took_ms: answer.took_ms,
        }))?;
    } else if accepted {
        screen.sentence(&format!("sent through {notifier}: {}", shown(&text)), 2)?;
    }
    match (accepted, of.format.json) {
        (true, _) => Ok(Exit::Done),
        (false, true) => Ok(Exit::Unreachable),
        (false, false) => Err(CliError::new(
            Exit::Unreachable,
            format!("{notifier} did not take it: {}", shown(&text)),
        )),
    }
}

fn read(answer: v1::InventoryResponse) -> Result<Told, CliError> {
    let mut told = Told {
        inventories: BTreeMap::new(),
        gaps: Vec::new(),
    };
    for of in answer.hosts {
        let unreadable = |what: String| {
            CliError::new(
                Exit::Internal,
                format!(
                    "the issuer's inventory of {} can't be read: {what}",
                    of.host
                ),
            )
        };
        let host: HostName = of.host.parse().map_err(|e| unreadable(format!("{e}")))?;
        let Some(inventory) = of.inventory else {
            told.gaps.push(format!("{host} has told no inventory yet"));
            continue;
        };
        let at = words::from_millis(of.at_ms);
        let inventory =
            HostInventory::told(&inventory, at).map_err(|e| unreadable(e.to_string()))?;
        if let Some(problem) = &inventory.problem {
            told.gaps.push(format!(
                "{host}: what its server uses isn't known: {}",
                shown(problem)
            ));
        }
        if inventory.left_out > 0 {
            told.gaps.push(format!(
                "{host}: {} more didn't fit into its report",
                words::count(inventory.left_out as usize, "certificate")
            ));
        }
        told.inventories.insert(host, inventory);
    }
    Ok(told)
}

fn print(
    all: &[Certificate<'_>],
    gaps: &[String],
    now: Timestamp,
    screen: &Screen,
) -> Result<(), CliError> {
    let (head, good) = headline(all, now);
    screen.headline(&head, good && gaps.is_empty())?;
    for gap in gaps {
        screen.sentence(&format!("! {gap}"), 2)?;
    }
    if all.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    let header = ["NAMES", "ENDS", "LEFT", "SERVED", "RENEWED BY", "HOSTS"];
    screen.table(&header, all.iter().map(|one| row(one, now)).collect())?;
    for one in all {
        let problems = one.places.iter().any(|at| !at.row.problems.is_empty());
        if !one.is_unmanaged() && !one.is_dead() && !problems {
            continue;
        }
        screen.line("")?;
        screen.sentence(&title(one), 2)?;
        for at in &one.places {
            screen.sentence(&format!("  {}", place(at)), 4)?;
            for problem in &at.row.problems {
                screen.sentence(&format!("  ! {}", shown(problem)), 4)?;
            }
        }
    }
    Ok(())
}

/// The first name and how many more there are, or the end of the file's path; what is longer is cut.
fn short(one: &Certificate<'_>) -> String {
    let (name, more) = match one.leaf.map(|leaf| leaf.covers.as_slice()) {
        Some([first, rest @ ..]) => (first.to_string(), rest.len()),
        _ => {
            let source = one.places.first().map(|place| shown(&place.row.source));
            (source.unwrap_or_default(), 0)
        }
    };
    let more = if more > 0 {
        format!(" +{more}")
    } else {
        String::new()
    };
    let (length, room) = (name.chars().count(), SHORT - more.len());
    if length <= room {
        return format!("{name}{more}");
    }
    let end: String = name.chars().skip(length + 1 - room).collect();
    format!("…{end}{more}")
}

fn row(one: &Certificate<'_>, now: Timestamp) -> Row {
    let colour = match one.leaf {
        Some(leaf) if leaf.not_after > now && !one.is_unmanaged() => Color::Green,
        Some(leaf) if leaf.not_after > now => Color::Yellow,
        _ => Color::Red,
    };
    let ends = one.leaf.map_or_else(
        || "-".to_owned(),
        |leaf| leaf.not_after.strftime("%Y-%m-%d").to_string(),
    );
    let mut hosts: Vec<&str> = one.places.iter().map(|at| at.host.as_str()).collect();
    hosts.dedup();
    Row::from(vec![
        Cell::new(short(one)),
        Cell::new(ends),
        Cell::new(left(one, now)).fg(colour),
        Cell::new(served(one)),
        Cell::new(managed(one)),
        Cell::new(match hosts.as_slice() {
            [one] => (*one).to_owned(),
            many => many.len().to_string(),
        }),
    ])
}

#[derive(Serialize)]
struct Names {
    domains: Vec<String>,
    kept: Vec<String>,
}

#[derive(Serialize)]
struct Inventory {
    hosts: Vec<Host>,
    certificates: Vec<Detail>,
    domains: Vec<String>,
}

#[derive(Serialize)]
struct Host {
    host: String,
    at: String,
    left_out: u32,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Detail {
    names: Vec<String>,
    issuer: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    life_left: Option<f64>,
    fingerprint: Option<String>,
    unmanaged: bool,
    dead: bool,
    places: Vec<At>,
}

#[derive(Serialize)]
struct At {
    host: String,
    source: String,
    managed_by: ManagedBy,
    served: &'static str,
    listeners: Vec<String>,
    server_names: Vec<String>,
    used_at: Vec<String>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct ManagedBy {
    kind: &'static str,
    name: Option<String>,
    renews: bool,
}

fn detail(one: &Certificate<'_>, now: Timestamp) -> Detail {
    let leaf = one.leaf;
    Detail {
        names: leaf
            .iter()
            .flat_map(|leaf| leaf.covers.iter().map(ToString::to_string))
            .collect(),
        issuer: leaf.map(|leaf| leaf.issuer.clone()),
        not_before: leaf.map(|leaf| leaf.not_before.to_string()),
        not_after: leaf.map(|leaf| leaf.not_after.to_string()),
        life_left: one
            .life_left(now)
            .map(|left| (left * 10_000.0).floor() / 10_000.0),
        fingerprint: leaf.map(|leaf| leaf.fingerprint.to_string()),
        unmanaged: one.is_unmanaged(),
        dead: one.is_dead(),
        places: one.places.iter().map(of_place).collect(),
    }
}

fn of_place(place: &Place<'_>) -> At {
    let row = place.row;
    let (kind, name, renews) = match &row.managed {
        Managed::Certwell(name) => ("certwell", Some(name.to_string()), true),
        Managed::Certbot { lineage, renews } => ("certbot", Some(lineage.clone()), *renews),
        Managed::Nobody => ("nobody", None, false),
    };
    At {
        host: place.host.to_string(),
        source: row.source.clone(),
        managed_by: ManagedBy { kind, name, renews },
        served: served_word(row.served),
        listeners: row.listeners.clone(),
        server_names: row.server_names.clone(),
        used_at: row.used_at.clone(),
        problems: row.problems.clone(),
    }
}
