//! `certwell status` and `certwell explain`.

use std::io;

use certwell_proto::{CertificateName, Exit, v1};
use comfy_table::{Cell, Row};
use jiff::Timestamp;

use super::{
    alerts,
    args::Format,
    client::{Admin, CliError, ask},
    json,
    screen::{Screen, state_cell},
};
use crate::{
    clock,
    plan::{headline::headline, words},
};

/// Shows everything; the exit code says whether all is converged.
pub(super) async fn status(
    mut admin: Admin,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let status = ask(admin.status(v1::StatusRequest {})).await?;
    let now = clock::now();
    let head = headline(&status, now);
    if format.json {
        screen.json(&json::Document::new(json::Status::from(status)))?;
    } else {
        screen.headline(&head.text, head.converged)?;
        for problem in &status.problems {
            screen.sentence(&format!("issuer: {problem}"), 2)?;
        }
        for certificate in &status.certificates {
            screen.line("")?;
            show(screen, certificate, now)?;
        }
        if let Some(foot) = alerts::foot(&mut admin).await {
            screen.line("")?;
            screen.sentence(&foot, 2)?;
        }
    }
    Ok(if head.converged {
        Exit::Done
    } else {
        Exit::NotConverged
    })
}

/// One certificate: a line about it, the table of its hosts, then what is in the way.
pub(super) fn show(
    screen: &Screen,
    certificate: &v1::CertificateStatus,
    now: Timestamp,
) -> io::Result<()> {
    screen.sentence(&about(certificate, now), 2)?;
    if certificate.identifiers != [certificate.name.as_str()] {
        screen.sentence(
            &format!("covers {}", words::list(&certificate.identifiers)),
            2,
        )?;
    }
    if !certificate.hosts.is_empty() {
        let header = [
            "HOST",
            "STATE",
            "FETCHED",
            "INSTALLED",
            "TESTED",
            "RELOADED",
            "SERVED",
            "SEEN",
        ];
        screen.table(&header, certificate.hosts.iter().map(row).collect())?;
    }
    if !certificate.problem.is_empty() {
        screen.sentence(&format!("! next issuance: {}", certificate.problem), 2)?;
    }
    for host in certificate
        .hosts
        .iter()
        .filter(|host| !host.problem.is_empty())
    {
        screen.sentence(&format!("! {}", host.problem), 2)?;
    }
    Ok(())
}

fn about(certificate: &v1::CertificateStatus, now: Timestamp) -> String {
    let mut parts = vec![match certificate.not_after {
        None => format!("{}: nothing issued yet", certificate.name),
        Some(end) if end <= now.as_second() => format!(
            "{}: generation {}, EXPIRED {}",
            certificate.name,
            certificate.generation,
            words::relative(words::from_seconds(end), now)
        ),
        Some(end) => format!(
            "{}: generation {}, valid for {}",
            certificate.name,
            certificate.generation,
            words::span(end - now.as_second())
        ),
    }];
    if certificate.paused {
        parts.push("paused".to_owned());
    } else if let Some(at) = certificate.renew_at_ms {
        let what = if certificate.generation == 0 {
            "order"
        } else {
            "renewal"
        };
        parts.push(format!(
            "{what} {}",
            words::relative(words::from_millis(at), now)
        ));
    }
    if !certificate.authority.is_empty() {
        parts.push(format!("authority {}", certificate.authority));
    }
    parts.join(", ")
}

fn row(host: &v1::HostCertificateStatus) -> Row {
    let fact = |fact: &Option<v1::StatusFact>| number(fact.as_ref().map(|f| f.generation));
    let served =
        |served: &Option<v1::StatusServed>| number(served.as_ref().and_then(|s| s.generation));
    Row::from(vec![
        Cell::new(&host.host),
        state_cell(host.state()),
        fact(&host.fetched),
        fact(&host.installed),
        fact(&host.tested),
        fact(&host.reloaded),
        served(&host.served),
        served(&host.seen),
    ])
}

fn number(generation: Option<u64>) -> Cell {
    Cell::new(generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()))
}

#[derive(serde::Serialize)]
struct Explanation<'a> {
    certificate: &'a str,
    sentences: &'a [String],
}

/// Tells how one certificate stands, in sentences.
pub(super) async fn explain(
    mut admin: Admin,
    name: &CertificateName,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let request = v1::ExplainRequest {
        certificate: name.to_string(),
    };
    let sentences = ask(admin.explain(request)).await?.sentences;
    if format.json {
        let explanation = Explanation {
            certificate: name.as_str(),
            sentences: &sentences,
        };
        screen.json(&json::Document::new(explanation))?;
    } else {
        for sentence in &sentences {
            screen.sentence(sentence, 2)?;
        }
    }
    Ok(Exit::Done)
}
