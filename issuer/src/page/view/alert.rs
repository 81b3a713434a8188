//! Alerts: open ones, with all that a person needs, and past ones.

use certwell_proto::v1::{self, AlertSeverity};
use jiff::Timestamp;

use super::{
    fleet::without_host,
    mark::{Mark, Tone},
    moment::Moment,
};
use crate::plan::words::from_millis;

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Given once.
    pub id: u64,
    /// Its class, which is a section of the operations page.
    pub class: String,
    /// How much it presses, or that it is over or acknowledged.
    pub mark: Mark,
    /// One line.
    pub title: String,
    /// Why.
    pub cause: String,
    /// What certwell does next.
    pub next: String,
    /// The one command to run.
    pub command: String,
    /// Since when the cause has been there.
    pub since: Moment,
    /// When it was over.
    pub resolved: Option<Moment>,
    /// Who has it, until when, and why.
    pub acknowledged: Option<Acknowledged>,
    /// Until when its messages are held back.
    pub silenced: Option<Moment>,
    /// Host, certificate, what is in the way there, what is served and until when.
    pub members: Vec<Member>,
    /// What notifiers took, a sentence each.
    pub deliveries: Vec<String>,
}

/// Somebody has taken it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// Until when.
    pub until: Moment,
    /// Why; empty: nothing was said.
    pub note: String,
}

/// One of those that an alert is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Empty: not about one.
    pub host: String,
    /// Empty: not about one.
    pub certificate: String,
    /// What is in the way there.
    pub text: String,
    /// What is served there now; empty: that isn't known.
    pub served: String,
    /// When that ends.
    pub ends: Option<Moment>,
}

/// Open alerts, in the order of the answer (pages first), then past ones, the newest first.
pub fn open_and_past(answer: &v1::ListAlertsResponse, now: Timestamp) -> (Vec<Alert>, Vec<Alert>) {
    let (mut past, open): (Vec<&v1::Alert>, Vec<&v1::Alert>) = answer
        .alerts
        .iter()
        .partition(|alert| alert.resolved_ms.is_some());
    past.sort_by_key(|alert| std::cmp::Reverse(alert.resolved_ms));
    let all = |alerts: Vec<&v1::Alert>| alerts.into_iter().map(|one| alert(one, now)).collect();
    (all(open), all(past))
}

fn alert(one: &v1::Alert, now: Timestamp) -> Alert {
    let acknowledged = one
        .acknowledgement
        .as_ref()
        .filter(|taken| from_millis(taken.until_ms) > now);
    Alert {
        id: one.id,
        class: one.class.clone(),
        mark: mark(one, acknowledged.is_some()),
        title: one.title.clone(),
        cause: one.cause.clone(),
        next: one.next.clone(),
        command: one.command.clone(),
        since: Moment::of_millis(one.since_ms, now),
        resolved: one.resolved_ms.map(|at| Moment::of_millis(at, now)),
        acknowledged: acknowledged.map(|taken| Acknowledged {
            by: taken.by.clone(),
            until: Moment::of_millis(taken.until_ms, now),
            note: taken.note.clone(),
        }),
        silenced: one
            .silenced_until_ms
            .map(|until| Moment::of_millis(until, now)),
        members: one.members.iter().map(|of| member(of, now)).collect(),
        deliveries: one.deliveries.iter().map(|to| delivery(to, now)).collect(),
    }
}

fn mark(one: &v1::Alert, acknowledged: bool) -> Mark {
    let (tone, symbol, word) = match one.severity() {
        _ if one.resolved_ms.is_some() => (Tone::Plain, "–", "resolved"),
        AlertSeverity::Page if acknowledged => (Tone::Warn, "✗", "page, acknowledged"),
        AlertSeverity::Page => (Tone::Bad, "✗", "page"),
        _ if acknowledged => (Tone::Busy, "!", "warning, acknowledged"),
        _ => (Tone::Warn, "!", "warning"),
    };
    Mark { tone, symbol, word }
}

fn member(of: &v1::AlertMember, now: Timestamp) -> Member {
    Member {
        host: of.host.clone(),
        certificate: of.certificate.clone(),
        text: without_host(&of.text, &of.host).to_owned(),
        served: of.served.clone(),
        ends: of.served_not_after.map(|end| Moment::of_seconds(end, now)),
    }
}

fn delivery(to: &v1::AlertDelivery, now: Timestamp) -> String {
    let near = |at: i64| Moment::of_millis(at, now).near;
    let mut text = match (to.accepted, to.accepted_at_ms) {
        (0, _) | (_, None) => format!("{} has accepted nothing yet", to.notifier),
        (1, Some(at)) => format!("{} accepted it {}", to.notifier, near(at)),
        (count, Some(at)) => {
            format!(
                "{} accepted {count} messages, the last {}",
                to.notifier,
                near(at)
            )
        }
    };
    if let Some(at) = to.next_ms {
        text.push_str(&format!("; the next one is due {}", near(at)));
    }
    if !to.problem.is_empty() {
        text.push_str(&format!("; the last try failed: {}", to.problem));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::cell::tests::{NOW, now},
        *,
    };

    fn told(id: u64, severity: AlertSeverity, change: impl FnOnce(&mut v1::Alert)) -> v1::Alert {
        let mut alert = v1::Alert {
            id,
            severity: severity.into(),
            since_ms: (NOW - 600) * 1000,
            ..v1::Alert::default()
        };
        change(&mut alert);
        alert
    }

    fn taken(until: i64) -> Option<v1::Acknowledgement> {
        Some(v1::Acknowledgement {
            until_ms: until * 1000,
            by: "nova".into(),
            ..v1::Acknowledgement::default()
        })
    }

    #[test]
    fn open_ones_come_as_they_are_told_and_past_ones_by_their_end() {
        let answer = v1::ListAlertsResponse {
            alerts: vec![
                told(4, AlertSeverity::Page, |_| ()),
                told(2, AlertSeverity::Warning, |a| a.resolved_ms = Some(5)),
                told(1, AlertSeverity::Warning, |_| ()),
                told(3, AlertSeverity::Page, |a| a.resolved_ms = Some(9)),
            ],
            ..v1::ListAlertsResponse::default()
        };
        let (open, past) = open_and_past(&answer, now());
        let ids = |alerts: &[Alert]| alerts.iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!((ids(&open), ids(&past)), (vec![4, 1], vec![3, 2]));
        assert_eq!(past[0].mark.word, "resolved");
        assert_eq!(open[0].since.near, "10 min ago");
    }

    #[test]
    fn an_acknowledgement_that_is_over_is_none() {
        for (until, word) in [(NOW + 60, "page, acknowledged"), (NOW, "page")] {
            let one = told(1, AlertSeverity::Page, |a| a.acknowledgement = taken(until));
            let shown = alert(&one, now());
            assert_eq!(shown.mark.word, word);
            assert_eq!(shown.acknowledged.is_some(), word != "page");
        }
    }

    #[test]
    fn it_is_told_what_notifiers_took() {
        let to = |accepted, at, next, problem: &str| {
            delivery(
                &v1::AlertDelivery {
                    notifier: "mail".into(),
                    accepted,
                    accepted_at_ms: at,
                    next_ms: next,
                    problem: problem.into(),
                },
                now(),
            )
        };
        assert_eq!(
            to(0, None, None, "it hangs"),
            "mail has accepted nothing yet; the last try failed: it hangs"
        );
        let (ago, soon) = (Some((NOW - 180) * 1000), Some((NOW + 180) * 1000));
        assert_eq!(to(1, ago, None, ""), "mail accepted it 3 min ago");
        assert_eq!(
            to(3, ago, soon, ""),
            "mail accepted 3 messages, the last 3 min ago; the next one is due in 3 min"
        );
    }
}
