//! `certwell alerts`.
//!
//! ```text
//! shown    how alerts and silences are told to a person
//! quiet    acknowledgements and silences    trials   test and drill
//! ```

mod quiet;
mod shown;
mod trials;

use std::io;

use certwell_proto::{Exit, v1};

pub(super) use self::shown::{OVER, state};
use self::shown::{about_silence, in_short, row, show};
use super::{
    alert_json::{Alert, Ended, List, One, Silence},
    args::{Alerts, Format},
    client::{Admin, CliError, ask},
    json::Document,
    screen::Screen,
};
use crate::clock;

pub(super) async fn alerts(
    mut admin: Admin,
    command: Alerts,
    screen: &Screen,
) -> Result<Exit, CliError> {
    match command {
        Alerts::List { all, format } => list(admin, all, format, screen).await,
        Alerts::Show { id, format } => {
            let alert = find(&mut admin, id).await?;
            one(screen, format, alert, |screen, alert| {
                show(screen, alert, clock::now())
            })
        }
        Alerts::Ack(asked) => quiet::acknowledge(admin, asked, screen).await,
        Alerts::Silence(asked) => quiet::silence(admin, asked, screen).await,
        Alerts::Silences(format) => quiet::silences(admin, format, screen).await,
        Alerts::Unsilence { id, format } => {
            ask(admin.end_silence(v1::EndSilenceRequest { id })).await?;
            if format.json {
                screen.json(&Document::new(Ended { ended: id }))?;
            } else {
                screen.sentence(&format!("silence {id} is over"), 2)?;
            }
            Ok(Exit::Done)
        }
        Alerts::Test { notifiers, format } => trials::test(admin, notifiers, format, screen).await,
        Alerts::Drill(asked) => trials::drill(admin, asked, screen).await,
    }
}

/// One line for the foot of a status: what is open, and where to look. Empty when nothing is, or when the issuer is too
/// old to know.
pub(super) async fn foot(admin: &mut Admin) -> Option<String> {
    let listed = ask(admin.list_alerts(v1::ListAlertsRequest { all: false })).await;
    in_short(&listed.ok()?.alerts)
}

async fn list(
    mut admin: Admin,
    all: bool,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let listed = ask(admin.list_alerts(v1::ListAlertsRequest { all })).await?;
    if format.json {
        screen.json(&Document::new(List {
            alerts: listed.alerts.into_iter().map(Alert::from).collect(),
            silences: listed.silences.into_iter().map(Silence::from).collect(),
        }))?;
        return Ok(Exit::Done);
    }
    let now = clock::now();
    let open = listed
        .alerts
        .iter()
        .filter(|alert| alert.resolved_ms.is_none())
        .count();
    if open == 0 {
        screen.headline("nothing is wrong: no alert is open", true)?;
    }
    if !listed.alerts.is_empty() {
        let rows = listed.alerts.iter().map(|alert| row(alert, now)).collect();
        screen.table(&["ID", "SEVERITY", "SINCE", "STATE", "WHAT"], rows)?;
    }
    for silence in &listed.silences {
        screen.sentence(&about_silence(silence, now), 2)?;
    }
    Ok(Exit::Done)
}

async fn find(admin: &mut Admin, id: u64) -> Result<v1::Alert, CliError> {
    let listed = ask(admin.list_alerts(v1::ListAlertsRequest { all: true })).await?;
    let found = listed.alerts.into_iter().find(|alert| alert.id == id);
    found.ok_or_else(|| {
        CliError::new(
            Exit::NotFound,
            format!("there is no alert {id}; `certwell alerts list --all` names all that are kept"),
        )
    })
}

fn one(
    screen: &Screen,
    format: Format,
    alert: v1::Alert,
    tell: impl FnOnce(&Screen, &v1::Alert) -> io::Result<()>,
) -> Result<Exit, CliError> {
    if format.json {
        let alert = alert.into();
        screen.json(&Document::new(One { alert }))?;
    } else {
        tell(screen, &alert)?;
    }
    Ok(Exit::Done)
}
