//! `certwell hosts list|show|revoke|retire`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use certwell_proto::{Exit, HostName, v1};
use comfy_table::{Cell, Color, Row};
use jiff::Timestamp;
use tonic::{Response, Status};

use super::{
    args::{EndHost, Format},
    client::{Admin, CliError, ask},
    json,
    screen::{Screen, state_word},
};
use crate::{clock, plan::words};

#[derive(serde::Serialize)]
struct List {
    hosts: Vec<json::HostDetail>,
}

/// A line for each host.
pub(super) async fn list(
    mut admin: Admin,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let hosts = ask(admin.list_hosts(v1::ListHostsRequest {})).await?.hosts;
    if format.json {
        let hosts = hosts.into_iter().map(json::HostDetail::from).collect();
        screen.json(&json::Document::new(List { hosts }))?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let connected = hosts.iter().filter(|host| host.connected).count();
    let problems: Vec<&str> = hosts
        .iter()
        .map(|h| h.problem.as_str())
        .filter(|p| !p.is_empty())
        .collect();
    match (hosts.len(), problems.first()) {
        (0, _) => screen.headline(
            "no host is declared; add a [host.NAME] table to the configuration",
            false,
        )?,
        (_, Some(worst)) => screen.headline(worst, false)?,
        (1, None) => screen.headline("the only host is connected", true)?,
        (n, None) => screen.headline(
            &format!("{connected} of {n} hosts are connected"),
            connected == n,
        )?,
    }
    if !hosts.is_empty() {
        screen.line("")?;
        let header = [
            "HOST",
            "LIFE",
            "CONNECTED",
            "LAST HEARD",
            "CERTIFICATES",
            "LABELS",
        ];
        screen.table(&header, hosts.iter().map(|host| row(host, now)).collect())?;
    }
    for problem in problems {
        screen.sentence(&format!("! {problem}"), 2)?;
    }
    Ok(Exit::Done)
}

fn row(host: &v1::HostStatus, now: Timestamp) -> Row {
    let colour = match host.life() {
        v1::HostLife::Enrolled if host.connected => Color::Green,
        v1::HostLife::Declared => Color::Yellow,
        _ => Color::Red,
    };
    Row::from(vec![
        Cell::new(&host.name),
        Cell::new(json::life_word(host.life())).fg(colour),
        Cell::new(if host.connected { "yes" } else { "no" }),
        Cell::new(heard(host, now)),
        Cell::new(host.certificates.len()),
        Cell::new(host.labels.join(" ")),
    ])
}

fn heard(host: &v1::HostStatus, now: Timestamp) -> String {
    host.last_seen_ms.map_or_else(
        || "never".to_owned(),
        |at| words::relative(words::from_millis(at), now),
    )
}

/// One host with its certificates.
pub(super) async fn show(
    mut admin: Admin,
    name: &HostName,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let hosts = ask(admin.list_hosts(v1::ListHostsRequest {})).await?.hosts;
    let host = hosts
        .into_iter()
        .find(|host| host.name == name.as_str())
        .ok_or_else(|| {
            CliError::new(
                Exit::NotFound,
                format!("no host {name} is declared; `certwell hosts list` shows those that are"),
            )
        })?;
    if format.json {
        screen.json(&json::Document::new(json::HostDetail::from(host)))?;
        return Ok(Exit::Done);
    }
    let status = ask(admin.status(v1::StatusRequest {})).await?;
    let now = clock::now();
    let head = if host.problem.is_empty() {
        let (connected, heard) = (host.connected, heard(&host, now));
        let link = if connected {
            "connected"
        } else {
            "not connected"
        };
        format!(
            "{name} is {} and {link}, last heard {heard}",
            json::life_word(host.life())
        )
    } else {
        host.problem.clone()
    };
    screen.headline(&head, host.problem.is_empty() && host.connected)?;
    screen.line("")?;
    let particulars = particulars(&host, now);
    screen.table(
        &[],
        particulars
            .into_iter()
            .map(|(what, value)| Row::from([what, value.as_str()]))
            .collect(),
    )?;
    let rows: Vec<Row> = status
        .certificates
        .iter()
        .flat_map(|c| {
            c.hosts
                .iter()
                .filter(|h| h.host == name.as_str())
                .map(move |h| (c, h))
        })
        .map(|(certificate, on_host)| {
            let number = |fact: &Option<v1::StatusServed>| {
                let generation = fact.as_ref().and_then(|fact| fact.generation);
                generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string())
            };
            Row::from(vec![
                certificate.name.clone(),
                state_word(on_host.state()).to_owned(),
                certificate.generation.to_string(),
                number(&on_host.served),
                number(&on_host.seen),
            ])
        })
        .collect();
    if !rows.is_empty() {
        screen.line("")?;
        screen.table(&["CERTIFICATE", "STATE", "DESIRED", "SERVED", "SEEN"], rows)?;
    }
    Ok(Exit::Done)
}

fn particulars(host: &v1::HostStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("life", json::life_word(host.life()).to_owned()),
        (
            "connected",
            if host.connected { "yes" } else { "no" }.to_owned(),
        ),
        ("last heard", heard(host, now)),
    ];
    if !host.labels.is_empty() {
        lines.push(("labels", host.labels.join(", ")));
    }
    if let Some(end) = host.identity_not_after {
        lines.push((
            "identity",
            format!("until {}", words::dated(words::from_seconds(end), now)),
        ));
    }
    if let Some(info) = &host.info {
        lines.push(("hostname", info.hostname.clone()));
        lines.push(("system", info.os.clone()));
        lines.push(("agent", info.agent_version.clone()));
        let nginx = if info.nginx_version.is_empty() {
            "not found"
        } else {
            &info.nginx_version
        };
        lines.push(("nginx", nginx.to_owned()));
    }
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

#[derive(serde::Serialize)]
struct Ended<'a> {
    host: &'a str,
    life: &'static str,
    warning: Option<String>,
}

/// How a host ends: what is asked before, and what is said after.
struct Ending {
    question: String,
    life: &'static str,
    sentence: String,
}

/// Ends a host's identity.
pub(super) async fn revoke(
    mut admin: Admin,
    end: &EndHost,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let name = &end.name;
    let ending = Ending {
        question: format!(
            "Revoke {name}? Its stream is cut and every later call refused until it joins again."
        ),
        life: "revoked",
        sentence: format!(
            "the identity of {name} is revoked; it keeps serving what it has, and can come back with \
             `certwell token create --host {name}`"
        ),
    };
    let host = name.to_string();
    let call = admin.revoke_host(v1::RevokeHostRequest { host });
    perform(end, ending, call, |done| done.warning, screen).await
}

/// Takes a host out for good.
pub(super) async fn retire(
    mut admin: Admin,
    end: &EndHost,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let name = &end.name;
    let ending = Ending {
        question: format!(
            "Retire {name} for good? It is revoked, and what was observed on it is forgotten."
        ),
        life: "retired",
        sentence: format!("{name} is retired; take [host.{name}] out of the configuration"),
    };
    let host = name.to_string();
    let call = admin.retire_host(v1::RetireHostRequest { host });
    perform(end, ending, call, |done| done.warning, screen).await
}

/// Nothing is sent before the question is answered: a call begins when it is first awaited.
async fn perform<T>(
    end: &EndHost,
    ending: Ending,
    call: impl Future<Output = Result<Response<T>, Status>>,
    warning: impl FnOnce(T) -> String,
    screen: &Screen,
) -> Result<Exit, CliError> {
    confirm(end, &ending.question)?;
    let warning = warning(ask(call).await?);
    if end.format.json {
        screen.json(&json::Document::new(Ended {
            host: end.name.as_str(),
            life: ending.life,
            warning: Some(warning).filter(|warning| !warning.is_empty()),
        }))?;
        return Ok(Exit::Done);
    }
    screen.sentence(&ending.sentence, 0)?;
    if !warning.is_empty() {
        screen.sentence(&format!("! {warning}"), 2)?;
    }
    Ok(Exit::Done)
}

/// Asks on a terminal; a script has said what it wants.
fn confirm(end: &EndHost, question: &str) -> Result<(), CliError> {
    if end.yes || !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut ask = io::stderr().lock();
    write!(ask, "{question} [y/N] ")?;
    ask.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CliError::new(
            Exit::Denied,
            format!("nothing is changed: {} stays as it is", end.name),
        ))
    }
}
