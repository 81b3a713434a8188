//! What holds messages back: acknowledgements and silences.

use std::time::Duration;

use certwell_proto::{Exit, v1};

use super::{
    one,
    shown::{about_silence, acknowledged},
};
use crate::{
    cli::{
        alert_json::{Silence, Silenced, Silences},
        args::{self, Acknowledge, Format},
        client::{Admin, CliError, ask},
        json::Document,
        screen::Screen,
    },
    clock,
};

pub(super) async fn acknowledge(
    mut admin: Admin,
    asked: Acknowledge,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let request = v1::AcknowledgeAlertRequest {
        id: asked.id,
        for_seconds: seconds(asked.lasts),
        note: asked.note,
    };
    let alert = ask(admin.acknowledge_alert(request)).await?.alert;
    one(
        screen,
        asked.format,
        alert.unwrap_or_default(),
        |screen, alert| {
            let what = match (&alert.acknowledgement, alert.resolved_ms) {
                (_, Some(_)) => format!("the drill is over: alert {} was acknowledged", alert.id),
                (Some(made), None) => format!(
                    "alert {} is {}; it is told again before that if it gets worse",
                    alert.id,
                    acknowledged(made, clock::now())
                ),
                (None, None) => format!("alert {} was acknowledged", alert.id),
            };
            screen.sentence(&what, 2)
        },
    )
}

pub(super) async fn silence(
    mut admin: Admin,
    asked: args::Silence,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let request = v1::SilenceRequest {
        host: asked.host.map(|name| name.to_string()).unwrap_or_default(),
        certificate: asked
            .certificate
            .map(|name| name.to_string())
            .unwrap_or_default(),
        class: asked.class.unwrap_or_default(),
        for_seconds: seconds(asked.lasts),
        note: asked.note,
    };
    let silence = ask(admin.silence(request)).await?.silence;
    let silence = silence.unwrap_or_default();
    if asked.format.json {
        let silence = silence.into();
        screen.json(&Document::new(Silenced { silence }))?;
    } else {
        screen.sentence(&about_silence(&silence, clock::now()), 2)?;
        screen.sentence("an expiry that pages is told all the same", 2)?;
    }
    Ok(Exit::Done)
}

pub(super) async fn silences(
    mut admin: Admin,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let listed = ask(admin.list_alerts(v1::ListAlertsRequest { all: false })).await?;
    if format.json {
        let silences = listed.silences.into_iter().map(Silence::from).collect();
        screen.json(&Document::new(Silences { silences }))?;
    } else if listed.silences.is_empty() {
        screen.line("nothing is silenced")?;
    } else {
        for silence in &listed.silences {
            screen.sentence(&about_silence(silence, clock::now()), 2)?;
        }
    }
    Ok(Exit::Done)
}

fn seconds(lasts: Duration) -> u32 {
    u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX)
}
