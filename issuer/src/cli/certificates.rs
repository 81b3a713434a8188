//! `certwell certificates list|show`, `certwell pause` and `certwell resume`.

use certwell_proto::{CertificateName, Exit, v1};
use comfy_table::{Cell, Row};
use jiff::Timestamp;

use super::{
    args::Format,
    client::{Admin, CliError, ask},
    json, outside,
    screen::{Screen, state_cell},
    status,
};
use crate::{
    clock,
    plan::{
        headline::{self, headline},
        words,
    },
};

#[derive(serde::Serialize)]
struct List {
    certificates: Vec<json::CertificateDetail>,
}

/// A line for each certificate.
pub(super) async fn list(
    mut admin: Admin,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let status = ask(admin.status(v1::StatusRequest {})).await?;
    if format.json {
        let certificates = status
            .certificates
            .into_iter()
            .map(json::CertificateDetail::from)
            .collect();
        screen.json(&json::Document::new(List { certificates }))?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let head = headline(&status, now);
    screen.headline(&head.text, head.converged)?;
    if !status.certificates.is_empty() {
        screen.line("")?;
        let header = [
            "CERTIFICATE",
            "STATE",
            "GENERATION",
            "VALID FOR",
            "RENEWAL",
            "HOSTS",
        ];
        screen.table(
            &header,
            status.certificates.iter().map(|c| row(c, now)).collect(),
        )?;
    }
    Ok(Exit::Done)
}

fn row(certificate: &v1::CertificateStatus, now: Timestamp) -> Row {
    let converged = certificate
        .hosts
        .iter()
        .filter(|h| h.state() == v1::HostState::Converged)
        .count();
    let worst = certificate
        .hosts
        .iter()
        .map(v1::HostCertificateStatus::state)
        .max_by_key(|state| badness(*state))
        .unwrap_or(if certificate.generation == 0 {
            v1::HostState::Pending
        } else {
            v1::HostState::Converged
        });
    let renewal = match certificate.renew_at_ms {
        _ if certificate.paused => "paused".to_owned(),
        Some(at) => words::relative(words::from_millis(at), now),
        None => "-".to_owned(),
    };
    let valid = match certificate.not_after {
        None => "-".to_owned(),
        Some(end) if end <= now.as_second() => "EXPIRED".to_owned(),
        Some(end) => words::span(end - now.as_second()),
    };
    Row::from(vec![
        Cell::new(&certificate.name),
        state_cell(worst),
        Cell::new(match certificate.generation {
            0 => "-".to_owned(),
            generation => generation.to_string(),
        }),
        Cell::new(valid),
        Cell::new(renewal),
        Cell::new(format!("{converged}/{}", certificate.hosts.len())),
    ])
}

fn badness(state: v1::HostState) -> u8 {
    match state {
        v1::HostState::Converged => 0,
        v1::HostState::Pending | v1::HostState::Unspecified => 1,
        v1::HostState::Held => 2,
        v1::HostState::Silent => 3,
        v1::HostState::Failed => 4,
    }
}

/// One certificate, with the listeners of each host.
pub(super) async fn show(
    admin: Admin,
    name: &CertificateName,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let certificate = find(admin, name).await?;
    if format.json {
        screen.json(&json::Document::new(json::CertificateDetail::from(
            certificate,
        )))?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let head = headline::of_certificate(&certificate, now);
    screen.headline(&head.text, head.converged)?;
    screen.line("")?;
    status::show(screen, &certificate, now)?;
    let listeners: Vec<Row> = certificate.hosts.iter().flat_map(listeners).collect();
    if !listeners.is_empty() {
        screen.line("")?;
        screen.table(
            &["HOST", "LISTENER", "NAME", "STATE", "FINGERPRINT"],
            listeners,
        )?;
    }
    let seen = outside::rows(&certificate, now);
    if !seen.is_empty() {
        screen.line("")?;
        screen.table(&outside::COLUMNS, seen)?;
    }
    outside::findings(screen, &certificate.findings, now)?;
    if certificate.ignores_dns {
        screen.sentence(
            "Where public DNS leads isn't looked at: probe-dns = false.",
            2,
        )?;
    }
    Ok(Exit::Done)
}

fn listeners(host: &v1::HostCertificateStatus) -> Vec<Row> {
    let listeners = host.served.iter().flat_map(|served| &served.listeners);
    listeners
        .map(|listener| {
            let fingerprint = certwell_proto::fingerprint::hex(&listener.fingerprint);
            let short = fingerprint.get(..8).unwrap_or("-").to_owned();
            Row::from(vec![
                host.host.clone(),
                listener.address.clone(),
                listener.name.clone(),
                json::listener_word(listener.state()).to_owned(),
                short,
            ])
        })
        .collect()
}

/// The certificate's status.
///
/// # Errors
/// [`Exit::NotFound`] when no file declares it.
pub(super) async fn find(
    mut admin: Admin,
    name: &CertificateName,
) -> Result<v1::CertificateStatus, CliError> {
    let status = ask(admin.status(v1::StatusRequest {})).await?;
    let mut certificates = status.certificates.into_iter();
    certificates.find(|certificate| certificate.name == name.as_str()).ok_or_else(|| {
        CliError::new(
            Exit::NotFound,
            format!("no certificate {name} is declared; `certwell certificates list` shows those that are"),
        )
    })
}

#[derive(serde::Serialize)]
struct Switched<'a> {
    certificate: Option<&'a str>,
    paused: bool,
}

/// Stops orders and offers.
pub(super) async fn pause(
    mut admin: Admin,
    name: Option<&CertificateName>,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let certificate = name.map(ToString::to_string).unwrap_or_default();
    ask(admin.pause(v1::PauseRequest { certificate })).await?;
    let again = match name {
        Some(name) => {
            format!("{name} is paused: no orders and no offers until `certwell resume {name}`")
        }
        None => {
            "the whole fleet is paused: no orders and no offers until `certwell resume`".to_owned()
        }
    };
    said(screen, format, name, true, &again)
}

/// Starts orders and offers again.
pub(super) async fn resume(
    mut admin: Admin,
    name: Option<&CertificateName>,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let certificate = name.map(ToString::to_string).unwrap_or_default();
    ask(admin.resume(v1::ResumeRequest { certificate })).await?;
    let text = match name {
        Some(name) => format!("{name} is ordered and offered again"),
        None => "the whole fleet goes on; what was paused by name stays so".to_owned(),
    };
    said(screen, format, name, false, &text)
}

fn said(
    screen: &Screen,
    format: Format,
    name: Option<&CertificateName>,
    paused: bool,
    text: &str,
) -> Result<Exit, CliError> {
    if format.json {
        let certificate = name.map(CertificateName::as_str);
        screen.json(&json::Document::new(Switched {
            certificate,
            paused,
        }))?;
    } else {
        screen.sentence(text, 0)?;
    }
    Ok(Exit::Done)
}
