//! `certwell alerts`, against canned alerts.

use std::sync::Mutex;

use certwell_issuer::clock;
use certwell_proto::v1;
use tonic::Status;

use crate::{
    fleet::{MEDIA, fleet},
    server::Issuer,
};

/// Alerts and silences as the canned service has them.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<v1::ListAlertsResponse>);

impl Outbox {
    pub(crate) fn put(&self, alert: v1::Alert) {
        self.0.lock().unwrap().alerts.push(alert);
    }

    /// Somebody acknowledges every alert, whose causes stay.
    pub(crate) fn acknowledge_all(&self) {
        for alert in &mut self.0.lock().unwrap().alerts {
            alert.acknowledgement = Some(v1::Acknowledgement {
                by: "alice".into(),
                until_ms: clock::now_ms() + 3_600_000,
                ..v1::Acknowledgement::default()
            });
        }
    }

    /// A day is over.
    fn end_unheard(&self) {
        for alert in &mut self.0.lock().unwrap().alerts {
            alert.resolved_ms = Some(clock::now_ms());
        }
    }

    /// Somebody acknowledges every alert, which ends a drill.
    pub(crate) fn end_drill(&self) {
        for alert in &mut self.0.lock().unwrap().alerts {
            alert.resolved_ms = Some(clock::now_ms());
            alert.acknowledgement = Some(v1::Acknowledgement {
                by: "alice".into(),
                ..v1::Acknowledgement::default()
            });
        }
    }

    pub(crate) fn list(&self, all: bool) -> v1::ListAlertsResponse {
        let mut list = self.0.lock().unwrap().clone();
        list.alerts
            .retain(|alert| all || alert.resolved_ms.is_none());
        list
    }

    pub(crate) fn acknowledge(
        &self,
        request: v1::AcknowledgeAlertRequest,
    ) -> Result<v1::AcknowledgeAlertResponse, Status> {
        let mut held = self.0.lock().unwrap();
        let alert = held
            .alerts
            .iter_mut()
            .find(|alert| alert.id == request.id)
            .ok_or_else(|| Status::not_found("there is no such alert"))?;
        if alert.resolved_ms.is_some() {
            return Err(Status::failed_precondition("it is over"));
        }
        let at_ms = clock::now_ms();
        alert.acknowledgement = Some(v1::Acknowledgement {
            at_ms,
            until_ms: at_ms + 1_000 * i64::from(request.for_seconds),
            by: "alice".into(),
            note: request.note,
        });
        if alert.drill {
            alert.resolved_ms = Some(at_ms);
        }
        Ok(v1::AcknowledgeAlertResponse {
            alert: Some(alert.clone()),
        })
    }

    pub(crate) fn silence(&self, request: v1::SilenceRequest) -> v1::SilenceResponse {
        let since_ms = clock::now_ms();
        let silence = v1::Silence {
            id: 3,
            host: request.host,
            certificate: request.certificate,
            class: request.class,
            since_ms,
            until_ms: since_ms + 1_000 * i64::from(request.for_seconds),
            by: "alice".into(),
            note: request.note,
        };
        self.0.lock().unwrap().silences.push(silence.clone());
        v1::SilenceResponse {
            silence: Some(silence),
        }
    }

    pub(crate) fn end_silence(&self, id: u64) -> Result<v1::EndSilenceResponse, Status> {
        let mut held = self.0.lock().unwrap();
        let count = held.silences.len();
        held.silences.retain(|silence| silence.id != id);
        if held.silences.len() == count {
            return Err(Status::not_found("there is no such silence"));
        }
        Ok(v1::EndSilenceResponse {})
    }

    /// `broken` accepts nothing.
    pub(crate) fn test(names: Vec<String>) -> v1::TestNotifiersResponse {
        let names = if names.is_empty() {
            vec!["discord".into(), "broken".into()]
        } else {
            names
        };
        let answers = names.into_iter().map(|notifier| v1::NotifierAnswer {
            accepted: notifier != "broken",
            text: format!("{notifier} answered"),
            notifier,
            took_ms: 12,
        });
        v1::TestNotifiersResponse {
            answers: answers.collect(),
        }
    }

    pub(crate) fn drill(&self) -> v1::DrillResponse {
        let number = self.0.lock().unwrap().alerts.len() as u64;
        let alert = v1::Alert {
            id: 9 + number,
            class: "drill".into(),
            severity: v1::AlertSeverity::Page.into(),
            title: "drill: nothing is wrong".into(),
            opened_ms: clock::now_ms(),
            drill: true,
            deliveries: vec![v1::AlertDelivery {
                notifier: "discord".into(),
                accepted: 1,
                accepted_at_ms: Some(clock::now_ms()),
                next_ms: None,
                problem: String::new(),
            }],
            ..v1::Alert::default()
        };
        self.put(alert.clone());
        v1::DrillResponse { alert: Some(alert) }
    }
}

fn page(id: u64) -> v1::Alert {
    v1::Alert {
        id,
        class: "expiry".into(),
        severity: v1::AlertSeverity::Page.into(),
        subject: MEDIA.into(),
        members: vec![v1::AlertMember {
            host: "sally".into(),
            address: String::new(),
            certificate: MEDIA.into(),
            text: "an eighth of its life is left".into(),
            served: "generation 6".into(),
            served_not_after: Some(1_800_000_000),
        }],
        title: format!("{MEDIA} on sally ends soon"),
        cause: "no newer generation is served".into(),
        next: "the issuer orders again in 5 minutes".into(),
        command: format!("certwell explain {MEDIA}"),
        since_ms: 1_780_000_000_000,
        opened_ms: 1_780_000_060_000,
        deliveries: vec![v1::AlertDelivery {
            notifier: "discord".into(),
            accepted: 2,
            accepted_at_ms: Some(1_780_000_120_000),
            next_ms: Some(1_780_000_240_000),
            problem: "notifier discord: 500".into(),
        }],
        ..v1::Alert::default()
    }
}

/// Without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn issuer() -> Issuer {
    Issuer::of(fleet(clock::now()))
}

#[test]
fn without_an_alert_the_list_says_so_and_a_status_has_no_foot() {
    let issuer = issuer();
    let ran = issuer.run(&["alerts", "list"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out, "nothing is wrong: no alert is open\n");
    assert!(!issuer.run(&["status"]).out.contains("alert"));
}

#[test]
fn an_alert_is_listed_shown_and_at_the_foot_of_a_status() {
    let issuer = issuer();
    issuer.known.outbox.put(page(12));
    let list = issuer.run(&["alerts", "list"]);
    for words in ["12", "page", "told", "on sally ends soon"] {
        assert!(list.out.contains(words), "{words}: {}", list.out);
    }
    let show = issuer.run(&["alerts", "show", "12"]);
    for words in [
        "no newer generation is served",
        "generation 6",
        "2027-01-15",
        "next: the issuer orders again",
        &format!("run: certwell explain {MEDIA}"),
        "docs/operations.md, section expiry",
        "discord accepted 2 messages",
        "notifier discord: 500",
    ] {
        assert!(flat(&show.out).contains(words), "{words}: {}", show.out);
    }
    assert!(
        show.out.lines().all(|line| line.chars().count() <= 80),
        "{}",
        show.out
    );
    let status = issuer.run(&["status"]);
    let foot = flat(&status.out);
    assert!(foot.contains("`certwell alerts show 12`"), "{foot}");
    let missing = issuer.run(&["alerts", "show", "13"]);
    assert_eq!(missing.code, 7, "{missing:?}");
}

#[test]
fn the_json_of_alerts_has_its_documented_shape() {
    let issuer = issuer();
    issuer.known.outbox.put(page(12));
    let ran = issuer.run(&["alerts", "list", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let expected = serde_json::json!({
        "version": 1,
        "alerts": [{
            "id": 12,
            "class": "expiry",
            "subject": MEDIA,
            "severity": "page",
            "title": format!("{MEDIA} on sally ends soon"),
            "cause": "no newer generation is served",
            "next": "the issuer orders again in 5 minutes",
            "command": format!("certwell explain {MEDIA}"),
            "section": "docs/operations.md#expiry",
            "since": "2026-05-28T20:26:40Z",
            "opened_at": "2026-05-28T20:27:40Z",
            "resolved_at": null,
            "drill": false,
            "acknowledgement": null,
            "silenced_until": null,
            "members": [{
                "host": "sally",
                "address": null,
                "certificate": MEDIA,
                "text": "an eighth of its life is left",
                "served": "generation 6",
                "served_not_after": "2027-01-15T08:00:00Z",
            }],
            "deliveries": [{
                "notifier": "discord",
                "accepted": 2,
                "accepted_at": "2026-05-28T20:28:40Z",
                "next_at": "2026-05-28T20:30:40Z",
                "problem": "notifier discord: 500",
            }],
        }],
        "silences": [],
    });
    assert_eq!(found, expected);
}

#[test]
fn an_acknowledgement_says_who_and_until_when_and_one_of_what_is_over_is_a_conflict() {
    let issuer = issuer();
    issuer.known.outbox.put(page(12));
    let ran = issuer.run(&["alerts", "ack", "12", "--for", "4h", "--note", "on it"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in ["alert 12 is acknowledged by alice until", "on it"] {
        assert!(flat(&ran.out).contains(words), "{}", ran.out);
    }
    assert!(
        issuer
            .known
            .calls()
            .contains(&"ack 12 14400 on it".to_owned())
    );
    let json = issuer.run(&["alerts", "show", "12", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["alert"]["acknowledgement"]["by"], "alice");
    assert_eq!(json["alert"]["acknowledgement"]["note"], "on it");

    issuer.known.outbox.put(v1::Alert {
        resolved_ms: Some(1),
        ..page(13)
    });
    for (id, exit) in [("13", 8), ("14", 7)] {
        let ran = issuer.run(&["alerts", "ack", id, "--for", "1h"]);
        assert_eq!(ran.code, exit, "{ran:?}");
    }
    for wrong in [
        &["alerts", "ack", "12"][..],
        &["alerts", "ack", "12", "--for", "4"],
    ] {
        assert_eq!(issuer.run(wrong).code, 2);
    }
}

#[test]
fn a_silence_names_what_it_is_of_and_is_listed_until_it_is_ended() {
    let issuer = issuer();
    let bare = issuer.run(&["alerts", "silence", "--for", "2h"]);
    assert_eq!(bare.code, 2, "{bare:?}");
    let ran = issuer.run(&["alerts", "silence", "--host", "sally", "--for", "2h"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in [
        "silence 3: messages about host sally",
        "an expiry that pages is told all the same",
    ] {
        assert!(flat(&ran.out).contains(words), "{}", ran.out);
    }
    assert!(
        issuer
            .run(&["alerts", "silences"])
            .out
            .contains("host sally")
    );
    assert_eq!(issuer.run(&["alerts", "unsilence", "4"]).code, 7);
    assert_eq!(issuer.run(&["alerts", "unsilence", "3"]).code, 0);
    assert_eq!(
        issuer.run(&["alerts", "silences"]).out,
        "nothing is silenced\n"
    );
}

#[test]
fn a_test_says_of_each_notifier_what_came_back_and_exits_3_when_one_refused() {
    let issuer = issuer();
    let ran = issuer.run(&["alerts", "test"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.out.contains("discord: accepted after 12 ms"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("broken: NOT accepted after 12 ms"),
        "{}",
        ran.out
    );
    assert_eq!(issuer.run(&["alerts", "test", "discord"]).code, 0);
    let json = issuer.run(&["alerts", "test", "broken", "--json"]);
    assert_eq!(json.code, 3);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["notifiers"][0]["accepted"], false);
}

#[test]
fn a_drill_that_is_waited_for_ends_with_its_acknowledgement_or_its_timeout() {
    let issuer = issuer();
    let late = issuer.run(&["alerts", "drill", "--wait", "--timeout", "1s"]);
    assert_eq!(late.code, 3, "{late:?}");
    assert!(
        flat(&late.out).contains("discord accepted 1 message"),
        "{}",
        late.out
    );
    assert!(
        flat(&late.err).contains("nobody acknowledged alert 9"),
        "{}",
        late.err
    );
    let acked = issuer.run(&["alerts", "ack", "9", "--for", "1m"]);
    assert!(
        flat(&acked.out).contains("the drill is over"),
        "{}",
        acked.out
    );
    let known = &issuer.known;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| issuer.run(&["alerts", "drill", "--wait"]));
        while known.outbox.list(false).alerts.is_empty() {
            std::thread::yield_now();
        }
        known.outbox.end_drill();
        let ran = waiting.join().unwrap();
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("acknowledged by alice"), "{}", ran.out);
    });
}

#[test]
fn a_drill_that_nobody_acknowledged_was_no_success() {
    let issuer = Issuer::of(fleet(clock::now()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| issuer.run(&["alerts", "drill", "--wait"]));
        while issuer.known.outbox.list(true).alerts.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        issuer.known.outbox.end_unheard();
        let ran = waiting.join().unwrap();
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains("nobody acknowledged it"), "{ran:?}");
    });
}
