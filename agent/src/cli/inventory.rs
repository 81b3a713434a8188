//! `certwell-agent inventory`: every certificate of this host in rows, or as JSON.

use certwell_proto::{Exit, Generation};
use serde::Serialize;

use super::{Failure, exit_of_io, say_json, tell};
use crate::{
    clock,
    config::Config,
    inventory::{Host, gather},
    nginx::CertificateSource,
    plan::inventory::{self, Managed, Role, Row, Seen, Served, Shown, Use},
};

const VERSION: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    nginx: HostDocument,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Serialize)]
struct HostDocument {
    state: &'static str,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    source: String,
    names: Vec<String>,
    issuer: Option<String>,
    not_before: Option<jiff::Timestamp>,
    not_after: Option<jiff::Timestamp>,
    fingerprint: Option<String>,
    managed_by: ManagedBy,
    served: &'static str,
    used_by: Vec<UsedBy>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ManagedBy {
    kind: &'static str,
    name: Option<String>,
    generation: Option<u64>,
    adopted: Vec<String>,
    renews: Option<bool>,
}

#[derive(Debug, Serialize)]
struct UsedBy {
    role: &'static str,
    at: String,
    file: Option<String>,
    listeners: Vec<String>,
    names: Vec<String>,
    handshakes: Vec<Handshake>,
}

#[derive(Debug, Serialize)]
struct Handshake {
    address: String,
    name: String,
    served: &'static str,
    fingerprint: Option<String>,
    detail: Option<String>,
}

pub(super) async fn perform(config: &Config, json: bool) -> Result<Exit, Failure> {
    let (host, facts) = gather(config)
        .await
        .map_err(|error| Failure::new(exit_of_io(&error.source), error))?;
    let rows = inventory::rows(&facts, clock::now());
    if json {
        let document = Document {
            version: VERSION,
            nginx: of_host(&host),
            certificates: rows.iter().map(of_row).collect(),
        };
        say_json(&document)?;
    } else {
        print(&host, &rows);
    }
    Ok(match host {
        Host::Running | Host::Stopped | Host::Unknown(_) => Exit::Done,
        Host::Refused(_) => Exit::NginxRefused,
    })
}

fn of_host(host: &Host) -> HostDocument {
    let (state, problem) = match host {
        Host::Running => ("running", None),
        Host::Stopped => ("stopped", None),
        Host::Refused(words) => ("refused", Some(words.clone())),
        Host::Unknown(why) => ("unknown", Some(why.clone())),
    };
    HostDocument { state, problem }
}

fn of_row(row: &Row) -> Certificate {
    let leaf = row.leaf.as_ref();
    Certificate {
        source: row.source.clone(),
        names: names(row),
        issuer: leaf.map(|leaf| leaf.issuer.clone()),
        not_before: leaf.map(|leaf| leaf.not_before),
        not_after: leaf.map(|leaf| leaf.not_after),
        fingerprint: leaf.map(|leaf| leaf.fingerprint.to_string()),
        managed_by: of_managed(&row.managed),
        served: word(row.served()),
        used_by: row.used_by.iter().map(|used| of_use(row, used)).collect(),
        problems: row.problems.clone(),
    }
}

fn of_managed(managed: &Managed) -> ManagedBy {
    match managed {
        Managed::Certwell {
            name,
            generation,
            adopted,
        } => ManagedBy {
            kind: "certwell",
            name: Some(name.clone()),
            generation: Some(generation.0),
            adopted: adopted.clone(),
            renews: Some(true),
        },
        Managed::Certbot { lineage, renews } => ManagedBy {
            kind: "certbot",
            name: Some(lineage.clone()),
            generation: None,
            adopted: Vec::new(),
            renews: Some(*renews),
        },
        Managed::Nobody => ManagedBy {
            kind: "nobody",
            name: None,
            generation: None,
            adopted: Vec::new(),
            renews: None,
        },
    }
}

fn of_use(row: &Row, used: &Use) -> UsedBy {
    let handshake = |seen: &Seen| {
        let (fingerprint, detail) = match &seen.shown {
            Shown::Leaf(leaf) => (Some(leaf.to_string()), None),
            Shown::Down(why) | Shown::Unprobed(why) => (None, Some(why.clone())),
        };
        Handshake {
            address: seen.address.clone(),
            name: seen.name.clone(),
            served: match row.shows(seen) {
                Some(true) => word(Served::Yes),
                Some(false) => word(Served::No),
                None => word(Served::Unprobed),
            },
            fingerprint,
            detail,
        }
    };
    UsedBy {
        role: match used.role {
            Role::Listener => "listener",
            Role::Upstream => "upstream",
        },
        at: used.at.to_string(),
        file: match &used.source {
            CertificateSource::File(path) => Some(path.display().to_string()),
            _ => None,
        },
        listeners: used.listeners.clone(),
        names: used.names.clone(),
        handshakes: used.seen.iter().map(handshake).collect(),
    }
}

fn word(served: Served) -> &'static str {
    match served {
        Served::Yes => "yes",
        Served::No => "no",
        Served::Unprobed => "unprobed",
        Served::Upstream => "upstream",
        Served::Unused => "unused",
    }
}

fn names(row: &Row) -> Vec<String> {
    let identifiers = row.leaf.iter().flat_map(|leaf| &leaf.identifiers);
    identifiers.map(ToString::to_string).collect()
}

/// Widths of the table: with two blanks between them they make 80 columns.
const NAMES: usize = 32;
const UNTIL: usize = 10;
const SERVED: usize = 8;
const MANAGED: usize = 24;

fn print(host: &Host, rows: &[Row]) {
    match host {
        Host::Running => {}
        Host::Stopped => tell("nginx is not running: what it serves could not be asked"),
        Host::Refused(words) => tell(format_args!(
            "nginx refuses its configuration, so what it uses is not known: {words}"
        )),
        Host::Unknown(why) => tell(format_args!("what nginx uses is not known: {why}")),
    }
    if rows.is_empty() {
        tell("no certificate is known on this host");
        return;
    }
    tell(format_args!(
        "{:NAMES$}  {:UNTIL$}  {:SERVED$}  MANAGED BY",
        "NAMES", "UNTIL", "SERVED"
    ));
    for row in rows {
        print_row(row);
    }
}

fn print_row(row: &Row) {
    let until = row.leaf.as_ref().map_or_else(
        || "-".to_owned(),
        |leaf| leaf.not_after.strftime("%Y-%m-%d").to_string(),
    );
    tell(format_args!(
        "{:NAMES$}  {until:UNTIL$}  {:SERVED$}  {}",
        short(&names(row)),
        word(row.served()),
        cut(&managed(&row.managed), MANAGED),
    ));
    tell(format_args!("    {}", row.source));
    if let Some(leaf) = &row.leaf {
        tell(format_args!("    issued by {}", leaf.issuer));
    }
    if let Managed::Certwell { adopted, .. } = &row.managed
        && !adopted.is_empty()
    {
        tell(format_args!(
            "    adopted from certbot: {}",
            adopted.join(", ")
        ));
    }
    for used in &row.used_by {
        if used.role == Role::Upstream {
            tell(format_args!("    presented to upstreams ({})", used.at));
            continue;
        }
        let names = if used.names.is_empty() {
            String::new()
        } else {
            format!(" {}", used.names.join(" "))
        };
        if used.listeners.is_empty() {
            tell(format_args!(
                "    named by{names} ({}), which has no TLS listener",
                used.at
            ));
            continue;
        }
        tell(format_args!(
            "    used by {}{names} ({})",
            used.listeners.join(", "),
            used.at
        ));
    }
    for problem in &row.problems {
        tell(format_args!("    ! {problem}"));
    }
}

fn managed(managed: &Managed) -> String {
    match managed {
        Managed::Certwell {
            generation: Generation::NONE,
            ..
        } => "certwell (placeholder)".to_owned(),
        Managed::Certwell { generation, .. } => format!("certwell, generation {generation}"),
        Managed::Certbot { renews: true, .. } => "certbot".to_owned(),
        Managed::Certbot { renews: false, .. } => "certbot, not by itself".to_owned(),
        Managed::Nobody => "nobody known".to_owned(),
    }
}

/// The first name, and how many more there are.
fn short(names: &[String]) -> String {
    match names {
        [] => "-".to_owned(),
        [one] => cut(one, NAMES),
        [first, rest @ ..] => {
            let more = format!(" +{}", rest.len());
            format!("{}{more}", cut(first, NAMES - more.len()))
        }
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests;
