//! `certwell watch`: the status as it changes. On a terminal one screen that is drawn anew, else a line for each
//! change.
//!
//! ```text
//! frame     what is on the screen, pure     terminal   the screen itself, and its size
//! changes   what differs between two looks, pure
//! ```

mod changes;
mod frame;
mod terminal;

use std::{path::Path, time::Duration};

use certwell_proto::{Exit, v1};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::{changes::Change, frame::Shown, terminal::Terminal};
use super::{
    args::Format,
    client::{Admin, CliError, ask, connect},
    json,
    screen::Screen,
};
use crate::{clock, plan::words};

/// How often the issuer is asked.
const LOOK: Duration = Duration::from_secs(1);
/// Certificates that aren't well, of which the next step is asked for.
const EXPLAINED: usize = 4;

/// Shows changes until it is told to end.
pub(super) async fn watch(
    socket: &Path,
    admin: Admin,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let mut ends = Ends::listen()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut issuer = Issuer {
        admin: Some(admin),
        shown: Shown::default(),
    };
    // What is wrong from the beginning is an error; what goes wrong later is shown.
    issuer.look().await?;
    let mut out = if !format.json && screen.is_controlled() {
        Out::Terminal(Terminal::open(screen.colour())?)
    } else {
        Out::Lines {
            json: format.json,
            before: None,
        }
    };
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        out.show(&issuer.shown, screen)?;
        // Cancel-safe: each only waits.
        tokio::select! {
            () = ends.told() => return Ok(Exit::Done),
            _ = resized.recv() => continue,
            _ = ticks.tick() => {}
        }
        // An end is heard while the issuer lets one wait.
        tokio::select! {
            () = ends.told() => return Ok(Exit::Done),
            () = issuer.look_again(socket) => {}
        }
    }
}

struct Issuer {
    admin: Option<Admin>,
    shown: Shown,
}

impl Issuer {
    /// Asks for all that is shown.
    async fn look(&mut self) -> Result<(), CliError> {
        let Some(admin) = &mut self.admin else {
            return Ok(());
        };
        let status = ask(admin.status(v1::StatusRequest {})).await?;
        let mut next = Vec::new();
        let troubled = status
            .certificates
            .iter()
            .filter(|certificate| !frame::is_well(certificate))
            .take(EXPLAINED);
        for certificate in troubled {
            let request = v1::ExplainRequest {
                certificate: certificate.name.clone(),
            };
            // It may have left the configuration meanwhile: then it isn't in the next status.
            let Ok(explained) = ask(admin.explain(request)).await else {
                continue;
            };
            if let Some(sentence) = explained.sentences.last() {
                next.push((certificate.name.clone(), sentence.clone()));
            }
        }
        // An issuer of an older version has none; where it can't tell, none is over.
        let asked = ask(admin.list_alerts(v1::ListAlertsRequest { all: false })).await;
        let alerts = match asked {
            Ok(listed) => listed.alerts,
            Err(_) => self.shown.alerts.clone(),
        };
        self.shown = Shown {
            status,
            next,
            alerts,
            gone: None,
        };
        Ok(())
    }

    /// Likewise; where the issuer is gone, that is shown, and it is looked for again.
    async fn look_again(&mut self, socket: &Path) {
        if self.admin.is_none() {
            self.admin = connect(socket).await.ok();
        }
        if self.admin.is_some() && self.look().await.is_ok() {
            return;
        }
        self.admin = None;
        self.shown.gone.get_or_insert_with(clock::now);
    }
}

enum Out {
    Terminal(Terminal),
    Lines { json: bool, before: Option<Shown> },
}

impl Out {
    fn show(&mut self, shown: &Shown, screen: &Screen) -> Result<(), CliError> {
        match self {
            Self::Terminal(terminal) => terminal.draw(shown, clock::now())?,
            Self::Lines { json, before } => {
                for change in changes::between(before.as_ref(), shown, clock::now()) {
                    tell(&change, *json, screen)?;
                }
                *before = Some(shown.clone());
            }
        }
        Ok(())
    }
}

fn tell(change: &Change, as_json: bool, screen: &Screen) -> Result<(), CliError> {
    let at = clock::now();
    if as_json {
        screen.json_line(&Line {
            at: json::millis(at.as_millisecond()),
            change,
        })?;
    } else {
        let time = words::instant(at);
        screen.sentence(&format!("{time} {}", change.sentence()), 24)?;
    }
    Ok(())
}

#[derive(serde::Serialize)]
struct Line<'a> {
    at: String,
    #[serde(flatten)]
    change: &'a Change,
}

/// Ctrl-C, and what else ends a program that may put its terminal right first.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> Result<Self, CliError> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn told(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
