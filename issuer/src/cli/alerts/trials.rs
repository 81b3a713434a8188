//! Whether messages arrive (`test`), and whether somebody reads them (`drill`).

use std::time::Duration;

use certwell_proto::{Exit, v1};
use tokio::time::Instant;

use super::{find, one, shown::delivery};
use crate::{
    cli::{
        alert_json::Tested,
        args::{Drill, Format},
        client::{Admin, CliError, ask, ask_within},
        json::Document,
        screen::Screen,
    },
    clock,
    plan::words,
};

/// Each notifier has its own limit of time, and all are tried at once.
const TEST: Duration = Duration::from_secs(60);
/// How often a drill that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn test(
    mut admin: Admin,
    notifiers: Vec<String>,
    format: Format,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let request = v1::TestNotifiersRequest { notifiers };
    let answers = ask_within(TEST, admin.test_notifiers(request))
        .await?
        .answers;
    let all = answers.iter().all(|answer| answer.accepted);
    if format.json {
        let notifiers = answers.into_iter().map(Into::into).collect();
        screen.json(&Document::new(Tested { notifiers }))?;
    } else {
        for answer in &answers {
            let verdict = if answer.accepted {
                format!("{}: accepted", answer.notifier)
            } else {
                format!("{}: NOT accepted", answer.notifier)
            };
            let text = format!("{verdict} after {} ms: {}", answer.took_ms, answer.text);
            screen.sentence(&text, 2)?;
        }
    }
    Ok(if all { Exit::Done } else { Exit::NotConverged })
}

pub(super) async fn drill(
    mut admin: Admin,
    asked: Drill,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let alert = ask(admin.drill(v1::DrillRequest {})).await?.alert;
    let alert = alert.unwrap_or_default();
    if !asked.wait {
        return one(screen, asked.format, alert, |screen, alert| {
            screen.sentence(
                &format!(
                    "alert {} is raised and told as a page would be; it is over when somebody runs \
                     `certwell alerts ack {} --for 1m`",
                    alert.id, alert.id
                ),
                2,
            )
        });
    }
    if !asked.format.json {
        screen.sentence(
            &format!(
                "alert {} is raised; it is over when somebody runs `certwell alerts ack {} --for 1m`",
                alert.id, alert.id
            ),
            2,
        )?;
    }
    wait(&mut admin, alert.id, &asked, screen).await
}

/// Shows each message that is accepted or refused, until the drill is over.
async fn wait(
    admin: &mut Admin,
    id: u64,
    asked: &Drill,
    screen: &Screen,
) -> Result<Exit, CliError> {
    let deadline = Instant::now() + asked.timeout;
    let mut shown: Vec<v1::AlertDelivery> = Vec::new();
    loop {
        let alert = find(admin, id).await?;
        for told in &alert.deliveries {
            let news = |old: &v1::AlertDelivery| {
                old.notifier == told.notifier
                    && old.accepted == told.accepted
                    && old.problem == told.problem
            };
            let silent = told.accepted == 0 && told.problem.is_empty();
            if !asked.format.json && !silent && !shown.iter().any(news) {
                screen.sentence(&delivery(told, clock::now()), 2)?;
            }
        }
        if alert.resolved_ms.is_some() {
            let by = alert.acknowledgement.clone();
            if by.is_none() {
                return Err(CliError::new(
                    Exit::NotConverged,
                    format!("the drill is over, and nobody acknowledged it: alert {id}"),
                ));
            }
            return one(screen, asked.format, alert, |screen, alert| {
                let by = by.map_or_else(|| "nobody".to_owned(), |made| made.by);
                let after = words::span((clock::now().as_millisecond() - alert.opened_ms) / 1000);
                screen.sentence(&format!("acknowledged by {by}, after {after}"), 2)
            });
        }
        if Instant::now() >= deadline {
            return Err(CliError::new(
                Exit::NotConverged,
                format!(
                    "nobody acknowledged alert {id} within {}; it goes on",
                    words::span(i64::try_from(asked.timeout.as_secs()).unwrap_or(i64::MAX))
                ),
            ));
        }
        shown = alert.deliveries;
        tokio::time::sleep(LOOK).await;
    }
}
