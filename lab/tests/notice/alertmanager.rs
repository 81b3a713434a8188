//! A real Alertmanager, asked by its own API what it took.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_lab::receivers::Alertmanager;
use certwell_notice::{Endpoint, Message, Roots, Service, State, Target, alertmanager};
use serde_json::Value;

use crate::{Place, SOON, message, notifier, refused, sent};

fn host(alert: &Value) -> &str {
    alert["labels"]["host"].as_str().unwrap_or_default()
}

#[test]
fn each_member_fires_there_until_it_is_resolved() -> Result<()> {
    let place = Place::take("alertmanager")?;
    let there = Alertmanager::start(place.net.receiver(0), place.home.path(), None)?;
    let endpoint = Endpoint {
        target: Target::parse(&there.url())?,
        roots: Roots::System,
    };
    let notifier = notifier(
        "am",
        Duration::from_secs(10),
        Service::Alertmanager(endpoint),
    );
    ensure!(notifier.resend_every() == Some(alertmanager::RESEND));
    for number in [1, 2] {
        sent(
            &notifier,
            &Message {
                number,
                ..message()
            },
        )?;
    }
    let alerts = there.wait_for("two alerts", SOON, |alerts| {
        (alerts.len() == 2).then(|| alerts.to_vec())
    })?;
    let mut hosts: Vec<&str> = alerts.iter().map(host).collect();
    hosts.sort_unstable();
    ensure!(hosts == ["esme", "sally"]);
    for alert in &alerts {
        ensure!(alert["labels"]["alertname"] == "CertwellExpiry", "{alert}");
        ensure!(alert["labels"]["severity"] == "page", "{alert}");
        ensure!(
            alert["annotations"]["command"] == message().command,
            "{alert}"
        );
        let ends: jiff::Timestamp = alert["endsAt"].as_str().unwrap_or_default().parse()?;
        let left = ends.duration_since(certwell_lab::clock::now());
        let again = alertmanager::RESEND.as_secs_f64();
        ensure!(
            left.as_secs_f64() > 2.0 * again,
            "it would end before it is sent again: {alert}"
        );
    }
    let mut over = Message {
        state: State::Resolved,
        ..message()
    };
    over.members.truncate(1);
    sent(&notifier, &over)?;
    there.wait_for("the one that is left", SOON, |alerts| {
        (alerts.len() == 1 && host(&alerts[0]) == "esme").then_some(())
    })?;
    sent(
        &notifier,
        &Message::test("lab", "the issuer", certwell_lab::clock::now()),
    )?;
    ensure!(there.alerts()?.len() == 1, "a test fires");
    drop(there);
    let refused = refused(&notifier, &message())?;
    ensure!(refused.text.contains("can't be reached"), "{refused}");
    Ok(())
}
