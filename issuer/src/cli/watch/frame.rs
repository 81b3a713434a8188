//! What is on the screen: as many lines as fit, none longer than the window, the worst first.

use certwell_proto::v1;
use jiff::Timestamp;

use super::super::{alert_json::severity_word, alerts::state};
use crate::{
    page::view::{
        cell::Cell,
        fleet::Fleet,
        mark::Tone,
        moment::{Moment, span},
    },
    plan::words,
};

/// All that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    pub(super) status: v1::StatusResponse,
    /// What happens next with certificates that aren't well.
    pub(super) next: Vec<(String, String)>,
    /// Those that are open.
    pub(super) alerts: Vec<v1::Alert>,
    /// Since when the issuer can't be reached.
    pub(super) gone: Option<Timestamp>,
}

/// Of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Whether nothing of a certificate is under way or in the way.
pub(super) fn is_well(certificate: &v1::CertificateStatus) -> bool {
    let converged = |host: &v1::HostCertificateStatus| {
        host.state() == v1::HostState::Converged && host.problem.is_empty()
    };
    certificate.problem.is_empty() && certificate.hosts.iter().all(converged)
}

/// A line, and how it is meant.
type Line = (Tone, String);

/// The lines of the screen.
pub(super) fn frame(shown: &Shown, now: Timestamp, size: Size, colour: bool) -> Vec<String> {
    let fleet = Fleet::new(&shown.status, &v1::ListHostsResponse::default(), now)
        .with_alerts(&shown.alerts);
    let mut lines: Vec<Line> = vec![(Tone::Plain, title(shown, now))];
    if let Some(since) = shown.gone {
        let text = format!(
            "! the issuer can't be reached since {}; waiting for it. What stands here is from before.",
            words::instant(since)
        );
        lines.extend(wrapped(Tone::Bad, &text, size));
    }
    let symbol = if fleet.tone == Tone::Good {
        "✓"
    } else {
        "✗"
    };
    let head = format!("{symbol} {}", fleet.headline.text);
    lines.extend(wrapped(fleet.tone, &head, size));
    lines.extend(alerts(&shown.alerts, size));
    lines.push((Tone::Plain, String::new()));
    lines.extend(table(&shown.status, now));
    let more = below(shown, now, size);
    // The table gives way to what is in the way, but for a few lines of it.
    let room = size.rows.saturating_sub(more.len()).max(size.rows / 2);
    cut(&mut lines, room);
    lines.extend(more);
    cut(&mut lines, size.rows);
    lines
        .into_iter()
        .map(|(tone, text)| painted(tone, &fitting(&text, size.columns), colour))
        .collect()
}

fn title(shown: &Shown, now: Timestamp) -> String {
    let renewal = shown
        .status
        .certificates
        .iter()
        .filter_map(|one| Some((one.renew_at_ms?, &one.name)))
        .min();
    let next = renewal.map_or(String::new(), |(at, name)| {
        format!(
            " · next renewal {}: {name}",
            Moment::of_millis(at, now).near
        )
    });
    format!(
        "certwell watch · {}{next} · Ctrl-C ends",
        shown.status.fleet
    )
}

/// Pages first; on a window that is low only how many there are more.
fn alerts(open: &[v1::Alert], size: Size) -> Vec<Line> {
    let mut open: Vec<&v1::Alert> = open.iter().collect();
    open.sort_by_key(|alert| (std::cmp::Reverse(alert.severity()), alert.id));
    let room = (size.rows / 6).max(1);
    let mut lines: Vec<Line> = open
        .iter()
        .take(room)
        .map(|alert| {
            let tone = match alert.severity() {
                v1::AlertSeverity::Page => Tone::Bad,
                _ => Tone::Warn,
            };
            let text = format!(
                "alert {}, {}, {}: {}",
                alert.id,
                severity_word(alert.severity()),
                state(alert),
                alert.title
            );
            (tone, text)
        })
        .collect();
    if open.len() > room {
        let more = words::count(open.len() - room, "more alert");
        lines.push((Tone::Warn, format!("{more}: certwell alerts list")));
    }
    lines
}

fn table(status: &v1::StatusResponse, now: Timestamp) -> Vec<Line> {
    let mut cells: Vec<(Cell, Option<i64>)> = status
        .certificates
        .iter()
        .flat_map(|certificate| {
            let hosts = certificate.hosts.iter();
            hosts.map(|host| {
                (
                    Cell::new(&certificate.name, host, now),
                    host.served_not_after,
                )
            })
        })
        .collect();
    // Stable: of equal weight by certificate and host.
    cells.sort_by_key(|(cell, _)| std::cmp::Reverse(cell.mark.tone));
    let width = |text: fn(&Cell) -> &str| {
        let widths = cells.iter().map(|(cell, _)| text(cell).chars().count());
        widths.max().unwrap_or(0)
    };
    let (names, hosts) = (width(|cell| &cell.certificate), width(|cell| &cell.host));
    let row = |(cell, ends): &(Cell, Option<i64>)| {
        let generation = match cell.generation {
            0 => String::new(),
            number => format!(" {number}"),
        };
        let at = cell.at.as_ref().map_or("", |at| at.near.as_str());
        let left = ends.map_or(String::new(), |end| {
            let left = end - now.as_second();
            if left > 0 {
                format!("{} left", span(left))
            } else {
                "EXPIRED".to_owned()
            }
        });
        let text = format!(
            "{:names$}  {:hosts$}  {} {:9}  {:13}  {at:11}  {left:11}  {}",
            cell.certificate,
            cell.host,
            cell.mark.symbol,
            cell.mark.word,
            format!("{}{generation}", cell.fact()),
            cell.serves
        );
        (cell.mark.tone, text.trim_end().to_owned())
    };
    cells.iter().map(row).collect()
}

fn below(shown: &Shown, now: Timestamp, size: Size) -> Vec<Line> {
    let fleet = Fleet::new(&shown.status, &v1::ListHostsResponse::default(), now);
    let mut lines = Vec::new();
    for problem in &fleet.problems {
        let about = [&problem.certificate, &problem.host];
        let about = about.iter().filter(|name| !name.is_empty());
        let missing = about.filter(|name| !problem.text.contains(name.as_str()));
        let before: String = missing.map(|name| format!("{name}: ")).collect();
        let text = format!("! {before}{}", problem.text);
        lines.extend(wrapped(Tone::Warn, &text, size));
    }
    for (name, sentence) in &shown.next {
        let text = format!("{name}: {sentence}");
        lines.extend(wrapped(Tone::Plain, &text, size));
    }
    if !lines.is_empty() {
        lines.insert(0, (Tone::Plain, String::new()));
    }
    lines
}

/// At words, the second line and those after it set in.
fn wrapped(tone: Tone, text: &str, size: Size) -> Vec<Line> {
    let width = size.columns.max(20);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let full = line.chars().count() + 1 + word.chars().count() > width;
        if full && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, " ".to_owned()));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.into_iter().map(|line| (tone, line)).collect()
}

/// To so many lines; the last of them says how many aren't there.
fn cut(lines: &mut Vec<Line>, rows: usize) {
    if lines.len() > rows && rows > 0 {
        let left_out = lines.len() - (rows - 1);
        lines.truncate(rows - 1);
        lines.push((Tone::Plain, format!("… and {left_out} more lines")));
    }
}

/// To so many characters, controls made visible: a host's word must not steer the terminal.
fn fitting(text: &str, columns: usize) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if shown.chars().count() <= columns {
        return shown;
    }
    let mut short: String = shown.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn painted(tone: Tone, text: &str, colour: bool) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Busy => "36",
        Tone::Warn => "33",
        Tone::Bad => "31",
        Tone::Plain => return text.to_owned(),
    };
    if colour {
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use v1::HostState;

    use super::*;
    use crate::page::view::cell::tests::{host, now};

    fn shown(hosts: usize) -> Shown {
        let hosts = (0..hosts).map(|n| {
            let state = if n == 3 {
                HostState::Failed
            } else {
                HostState::Converged
            };
            let mut host = host(&format!("edge-{n:02}"), state, 6, Some(7));
            if n == 3 {
                host.problem = format!(
                    "edge-03: nginx refuses its configuration\u{1b}[2J {}",
                    "x".repeat(300)
                );
            }
            host
        });
        Shown {
            status: v1::StatusResponse {
                fleet: "hachyderm".into(),
                certificates: vec![v1::CertificateStatus {
                    name: "media.hachyderm.io".into(),
                    generation: 7,
                    hosts: hosts.collect(),
                    ..v1::CertificateStatus::default()
                }],
                ..v1::StatusResponse::default()
            },
            next: vec![(
                "media.hachyderm.io".into(),
                "Next: it is tried again.".into(),
            )],
            alerts: (1..=20).map(alert).collect(),
            gone: None,
        }
    }

    fn alert(id: u64) -> v1::Alert {
        let page = id == 20;
        v1::Alert {
            id,
            severity: if page {
                v1::AlertSeverity::Page.into()
            } else {
                v1::AlertSeverity::Warning.into()
            },
            title: format!("edge-03: something\u{1b}[2J {}", "y".repeat(300)),
            ..v1::Alert::default()
        }
    }

    #[test]
    fn it_fits_every_window_and_the_worst_is_at_the_top() {
        for (columns, rows) in [(80, 24), (200, 60), (40, 10), (20, 5), (10, 2), (1, 1)] {
            let size = Size { columns, rows };
            for hosts in [0, 4, 100] {
                let lines = frame(&shown(hosts), now(), size, false);
                assert!(lines.len() <= rows, "{columns}×{rows}: {}", lines.len());
                for line in &lines {
                    assert!(line.chars().count() <= columns, "{columns}×{rows}: {line}");
                    assert!(!line.contains('\u{1b}'), "{line:?}");
                }
            }
        }
        let size = Size {
            columns: 120,
            rows: 30,
        };
        let lines = frame(&shown(100), now(), size, false);
        let first = lines.iter().find(|line| line.starts_with("media")).unwrap();
        assert!(
            first.contains("edge-03") && first.contains("failed"),
            "{first}"
        );
        assert!(lines.iter().any(|line| line.contains("more lines")));
        let alerts: Vec<&String> = lines
            .iter()
            .filter(|line| line.starts_with("alert "))
            .collect();
        assert_eq!(alerts.len(), 5, "a sixth of the window: {alerts:?}");
        assert!(
            alerts[0].starts_with("alert 20, page, nobody to tell"),
            "{alerts:?}"
        );
        assert!(lines.contains(&"15 more alerts: certwell alerts list".to_owned()));
        assert!(
            lines.last().unwrap().contains("Next: it is tried again."),
            "{lines:?}"
        );
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let size = Size {
            columns: 80,
            rows: 24,
        };
        let with = frame(&shown(4), now(), size, true).join("\n");
        assert!(with.contains("\u{1b}[31m") && with.contains("\u{1b}[32m"));
        assert!(
            !frame(&shown(4), now(), size, false)
                .join("\n")
                .contains('\u{1b}')
        );
    }

    #[test]
    fn an_issuer_that_is_gone_is_said_to_be() {
        let mut shown = shown(4);
        shown.gone = Some(now());
        let size = Size {
            columns: 80,
            rows: 24,
        };
        let text = frame(&shown, now(), size, false).join("\n");
        assert!(text.contains("the issuer can't be reached since"), "{text}");
    }
}
