//! `certwell alerts`.

use std::{io, time::Duration};

use certwell_proto::{Exit, v1};
use comfy_table::{Cell, Color, Row};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    alert_json::{Alert, Ended, List, One, Silence, Silenced, Silences, Tested, severity_word},
    args::{Acknowledge, Alerts, Drill, Format},
    client::{Admin, CliError, ask, ask_within},
    json::Document,
    screen::Screen,
};
use crate::{clock, plan::words};

/// Each notifier has its own limit of time, and all are tried at once.
const TEST: Duration = Duration::from_secs(60);
/// How often a drill that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);

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
        Alerts::Ack(asked) => acknowledge(admin, asked, screen).await,
        Alerts::Silence(asked) => silence(admin, asked, screen).await,
        Alerts::Silences(format) => silences(admin, format, screen).await,
        Alerts::Unsilence { id, format } => {
            ask(admin.end_silence(v1::EndSilenceRequest { id })).await?;
            if format.json {
                screen.json(&Document::new(Ended { ended: id }))?;
            } else {
                screen.sentence(&format!("silence {id} is over"), 2)?;
            }
            Ok(Exit::Done)
        }
        Alerts::Test { notifiers, format } => test(admin, notifiers, format, screen).await,
        Alerts::Drill(asked) => drill(admin, asked, screen).await,
    }
}

/// One line for the foot of a status: what is open, and where to look. Empty when nothing is, or when the issuer is too
/// old to know.
pub(super) async fn foot(admin: &mut Admin) -> Option<String> {
    let listed = ask(admin.list_alerts(v1::ListAlertsRequest { all: false })).await;
    in_short(&listed.ok()?.alerts)
}

fn in_short(alerts: &[v1::Alert]) -> Option<String> {
    let first = alerts.first()?;
    let pages = alerts
        .iter()
        .filter(|alert| alert.severity() == v1::AlertSeverity::Page)
        .count();
    let unheard = alerts
        .iter()
        .filter(|alert| alert.acknowledgement.is_none())
        .count();
    let mut text = words::count(alerts.len(), "open alert");
    if pages > 0 {
        text.push_str(&format!(", {}", words::count(pages, "page")));
    }
    text.push_str(match unheard {
        0 => ", acknowledged",
        n if n == alerts.len() => ", not acknowledged",
        _ => ", not all acknowledged",
    });
    Some(match alerts.len() {
        1 => format!(
            "{text}: {} (`certwell alerts show {}`)",
            first.title, first.id
        ),
        _ => format!(
            "{text}; the first: {} (`certwell alerts list`)",
            first.title
        ),
    })
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

fn row(alert: &v1::Alert, now: Timestamp) -> Row {
    let severity = Cell::new(severity_word(alert.severity()));
    let severity = match (alert.resolved_ms, alert.severity()) {
        (Some(_), _) => severity,
        (None, v1::AlertSeverity::Page) => severity.fg(Color::Red),
        (None, _) => severity.fg(Color::Yellow),
    };
    Row::from(vec![
        Cell::new(alert.id),
        severity,
        Cell::new(words::relative(words::from_millis(since(alert)), now)),
        Cell::new(state(alert)),
        Cell::new(&alert.title),
    ])
}

/// How an alert stands whose cause is gone.
pub(super) const OVER: &str = "over";

/// How an alert stands, in a word or a few.
pub(super) fn state(alert: &v1::Alert) -> &'static str {
    let told = alert.deliveries.iter().any(|told| told.accepted > 0);
    if alert.resolved_ms.is_some() {
        OVER
    } else if alert.acknowledgement.is_some() {
        "acknowledged"
    } else if alert.silenced_until_ms.is_some() {
        "silenced"
    } else if told {
        "told"
    } else if alert.deliveries.is_empty() {
        "nobody to tell"
    } else {
        "not told yet"
    }
}

fn since(alert: &v1::Alert) -> i64 {
    match alert.since_ms {
        0 => alert.opened_ms,
        since => since,
    }
}

fn show(screen: &Screen, alert: &v1::Alert, now: Timestamp) -> io::Result<()> {
    let dated = |millis| words::dated(words::from_millis(millis), now);
    let good = alert.resolved_ms.is_some();
    screen.headline(&alert.title, good)?;
    screen.line("")?;
    screen.sentence(&alert.cause, 2)?;
    if !alert.members.is_empty() {
        screen.table(
            &["HOST", "CERTIFICATE", "SERVES", "UNTIL", "WHY"],
            alert.members.iter().map(member).collect(),
        )?;
    }
    screen.line("")?;
    let lines = [
        ("since", dated(since(alert))),
        ("next", alert.next.clone()),
        ("run", alert.command.clone()),
        (
            "read",
            format!("docs/operations.md, section {}", alert.class),
        ),
    ];
    for (what, text) in lines {
        screen.sentence(&format!("{what}: {text}"), 2)?;
    }
    screen.sentence(
        &format!(
            "alert {}, a {}, raised {}",
            alert.id,
            severity_word(alert.severity()),
            dated(alert.opened_ms)
        ),
        2,
    )?;
    if let Some(resolved) = alert.resolved_ms {
        screen.sentence(&format!("over since {}", dated(resolved)), 2)?;
    }
    if let Some(made) = &alert.acknowledgement {
        screen.sentence(&acknowledged(made, now), 2)?;
    }
    if let Some(until) = alert.silenced_until_ms {
        screen.sentence(&format!("silenced until {}", dated(until)), 2)?;
    }
    if alert.deliveries.is_empty() && alert.resolved_ms.is_none() {
        screen.sentence("nobody is told: no notifier is declared for it", 2)?;
    }
    for told in &alert.deliveries {
        screen.sentence(&delivery(told, now), 2)?;
    }
    Ok(())
}

fn member(member: &v1::AlertMember) -> Row {
    let or_dash = |text: &str| Cell::new(if text.is_empty() { "-" } else { text });
    let until = member.served_not_after.map(|end| {
        words::from_seconds(end)
            .strftime("%Y-%m-%d %H:%M")
            .to_string()
    });
    Row::from(vec![
        or_dash(&member.host),
        or_dash(&member.certificate),
        or_dash(&member.served),
        or_dash(until.as_deref().unwrap_or_default()),
        or_dash(&member.text),
    ])
}

fn acknowledged(made: &v1::Acknowledgement, now: Timestamp) -> String {
    let until = words::dated(words::from_millis(made.until_ms), now);
    let note = match made.note.as_str() {
        "" => String::new(),
        note => format!(": {note}"),
    };
    format!("acknowledged by {} until {until}{note}", made.by)
}

fn delivery(told: &v1::AlertDelivery, now: Timestamp) -> String {
    let mut parts = vec![match told.accepted_at_ms {
        Some(at) => format!(
            "{} accepted {}, the last {}",
            told.notifier,
            words::count(
                usize::try_from(told.accepted).unwrap_or_default(),
                "message"
            ),
            words::relative(words::from_millis(at), now)
        ),
        None => format!("{} has accepted nothing yet", told.notifier),
    }];
    if let Some(next) = told.next_ms {
        let next = words::from_millis(next).max(now);
        parts.push(format!("the next one {}", words::relative(next, now)));
    }
    if !told.problem.is_empty() {
        parts.push(told.problem.clone());
    }
    parts.join("; ")
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

async fn acknowledge(
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

async fn silence(
    mut admin: Admin,
    asked: super::args::Silence,
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

async fn silences(mut admin: Admin, format: Format, screen: &Screen) -> Result<Exit, CliError> {
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

fn about_silence(silence: &v1::Silence, now: Timestamp) -> String {
    let parts = [
        ("host", &silence.host),
        ("certificate", &silence.certificate),
        ("class", &silence.class),
    ];
    let parts = parts.iter().filter(|(_, name)| !name.is_empty());
    let what = words::list(parts.map(|(kind, name)| format!("{kind} {name}")));
    let until = words::dated(words::from_millis(silence.until_ms), now);
    let note = match silence.note.as_str() {
        "" => String::new(),
        note => format!(": {note}"),
    };
    format!(
        "silence {}: messages about {what} are held back until {until}, by {}{note}",
        silence.id, silence.by
    )
}

async fn test(
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

async fn drill(mut admin: Admin, asked: Drill, screen: &Screen) -> Result<Exit, CliError> {
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

fn seconds(lasts: Duration) -> u32 {
    u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(id: u64, severity: v1::AlertSeverity, acknowledged: bool) -> v1::Alert {
        v1::Alert {
            id,
            severity: severity.into(),
            title: format!("cause {id}"),
            acknowledgement: acknowledged.then(v1::Acknowledgement::default),
            ..v1::Alert::default()
        }
    }

    #[test]
    fn a_status_says_in_a_line_what_is_open() {
        use v1::AlertSeverity::{Page, Warning};
        assert_eq!(in_short(&[]), None);
        assert_eq!(
            in_short(&[alert(7, Warning, false)]).unwrap(),
            "1 open alert, not acknowledged: cause 7 (`certwell alerts show 7`)"
        );
        assert_eq!(
            in_short(&[alert(7, Page, true), alert(8, Warning, false)]).unwrap(),
            "2 open alerts, 1 page, not all acknowledged; the first: cause 7 (`certwell alerts list`)"
        );
        assert_eq!(
            in_short(&[alert(7, Page, true)]).unwrap(),
            "1 open alert, 1 page, acknowledged: cause 7 (`certwell alerts show 7`)"
        );
    }
}
