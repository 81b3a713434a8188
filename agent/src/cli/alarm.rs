//! `certwell-agent alarm test`: a test message by each notifier of this host's own alarm, and what came back.

use certwell_notice::Message;
use certwell_proto::Exit;
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use super::{Failure, say_json, tell};
use crate::{clock, config::Config, issuer::IdentityStore, outside};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Told {
    version: u32,
    notifiers: Vec<Answer>,
}

#[derive(Debug, Serialize)]
struct Answer {
    notifier: String,
    r#type: &'static str,
    accepted: bool,
    text: String,
    took_ms: u64,
}

pub(super) async fn test(config: &Config, json: bool) -> Result<Exit, Failure> {
    if config.alarms.is_empty() {
        return Err(Failure::new(
            Exit::NotFound,
            "nobody is told by this host: add [alarm.NAME] with a type to agent.toml, and run this again",
        ));
    }
    // Before it joins a host has neither name, and may try its notifiers all the same.
    let identity = IdentityStore::new(config.identity_directory()).load().ok();
    let (fleet, host) = identity.map_or_else(
        || ("none".to_owned(), "a host in no fleet yet".to_owned()),
        |identity| (identity.fleet.to_string(), identity.host.to_string()),
    );
    let message = Message::test(&fleet, &host, clock::now());
    let mut sending = JoinSet::new();
    for notifier in config.alarms.values().cloned() {
        let message = message.clone();
        sending.spawn(async move {
            let notifier = outside::told_outside(notifier);
            let begun = Instant::now();
            let answer = notifier.send(&message).await;
            let took = begun.elapsed();
            Answer {
                accepted: answer.is_ok(),
                text: match answer {
                    Ok(accepted) => accepted.text,
                    Err(refused) => refused.text,
                },
                r#type: notifier.service.word(),
                notifier: notifier.name,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            }
        });
    }
    let mut notifiers = sending.join_all().await;
    notifiers.sort_by(|one, other| one.notifier.cmp(&other.notifier));
    let accepted = notifiers.iter().all(|answer| answer.accepted);
    if json {
        let told = Told {
            version: 1,
            notifiers,
        };
        say_json(&told)?;
    } else {
        for Answer {
            notifier,
            r#type,
            accepted,
            text,
            took_ms,
        } in notifiers
        {
            let word = if accepted { "accepted" } else { "not accepted" };
            tell(format!(
                "{notifier} ({type}): {word} after {took_ms} ms: {text}"
            ));
        }
    }
    Ok(if accepted {
        Exit::Done
    } else {
        Exit::NotConverged
    })
}
