//! How alerts and silences are told to a person.

use std::io;

use certwell_proto::v1;
use comfy_table::{Cell, Color, Row};
use jiff::Timestamp;

use super::super::{alert_json::severity_word, screen::Screen};
use crate::plan::words;

pub(super) fn in_short(alerts: &[v1::Alert]) -> Option<String> {
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

pub(super) fn row(alert: &v1::Alert, now: Timestamp) -> Row {
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
pub(in crate::cli) const OVER: &str = "over";

/// How an alert stands, in a word or a few.
pub(in crate::cli) fn state(alert: &v1::Alert) -> &'static str {
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

pub(super) fn show(screen: &Screen, alert: &v1::Alert, now: Timestamp) -> io::Result<()> {
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

pub(super) fn acknowledged(made: &v1::Acknowledgement, now: Timestamp) -> String {
    let until = words::dated(words::from_millis(made.until_ms), now);
    let note = match made.note.as_str() {
        "" => String::new(),
        note => format!(": {note}"),
    };
    format!("acknowledged by {} until {until}{note}", made.by)
}

pub(super) fn delivery(told: &v1::AlertDelivery, now: Timestamp) -> String {
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

pub(super) fn about_silence(silence: &v1::Silence, now: Timestamp) -> String {
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
