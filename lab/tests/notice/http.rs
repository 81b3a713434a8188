//! Webhooks, against a web server that misbehaves.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::receivers::{Answer, HttpReceiver};
use certwell_notice::{Endpoint, Roots, Service, Target, sign};
use certwell_proto::Secret;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{Place, block_on, message, notifier, refused, sent};

/// As Discord's are: who knows it may write there.
const TOKEN: &str = "q1W2e3R4t5Y6u7I8o9P0";

fn endpoint(receiver: &HttpReceiver, roots: Roots) -> Result<Endpoint> {
    Ok(Endpoint {
        target: Target::parse(&receiver.url(&format!("/api/webhooks/{TOKEN}")))?,
        roots,
    })
}

fn webhook(receiver: &HttpReceiver, limit: Duration) -> Result<certwell_notice::Notifier> {
    let service = Service::Webhook {
        endpoint: endpoint(receiver, Roots::System)?,
        secret: None,
    };
    Ok(notifier("hook", limit, service))
}

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn each_service_gets_its_own_form_once() -> Result<()> {
    let place = Place::take("forms")?;
    let receiver = HttpReceiver::start(place.net.receiver(0))?;
    let to = endpoint(&receiver, Roots::System)?;
    let webhook = Service::Webhook {
        endpoint: to.clone(),
        secret: Some(Secret::new(b"hush".to_vec())),
    };
    for service in [Service::Discord(to.clone()), Service::Slack(to), webhook] {
        let notifier = notifier("them", LIMIT, service);
        let said = sent(&notifier, &message())?;
        ensure!(said.contains("200") && said.ends_with(": ok"), "{said}");
        block_on(notifier.send_text("Inventory", "a table\n"))??;
    }
    let received = receiver.received();
    ensure!(received.len() == 6, "{}", received.len());
    let path = format!("/api/webhooks/{TOKEN}");
    ensure!(received[0].path == format!("{path}?wait=true"), "Discord");
    ensure!(received[0].json()["embeds"].is_array());
    ensure!(received[2].path == path && received[2].json()["blocks"].is_array());
    let signed = &received[4];
    ensure!(signed.field("key") == message().key);
    for one in &received {
        ensure!(one.headers.get("content-type").map(String::as_str) == Some("application/json"));
    }
    let time = signed.headers.get(sign::TIMESTAMP).context("no time")?;
    let at = Timestamp::from_second(time.parse()?)?;
    let now = certwell_lab::clock::now();
    ensure!(now.duration_since(at).as_secs().abs() < 60, "{at}");
    let (_, expected) = sign::sign(b"hush", at, &signed.body);
    ensure!(signed.headers.get(sign::SIGNATURE) == Some(&expected));
    Ok(())
}

#[test]
fn every_refusal_is_told_with_status_and_words_and_without_the_url() -> Result<()> {
    let place = Place::take("refused")?;
    let receiver = HttpReceiver::start(place.net.receiver(0))?;
    let elsewhere = HttpReceiver::start(place.net.receiver(1))?;
    let notifier = webhook(&receiver, LIMIT)?;
    let host = place.net.receiver(0).to_string();
    let moved = elsewhere.url("/other?token=abcdefghijk");
    let quoted = format!("\n no /api/webhooks/{TOKEN}\u{1b}[31m here\nmore");
    let table = [
        (Answer::Status(500, "it broke".into()), "500", "it broke"),
        (Answer::Status(404, quoted), "404", "no /api/"),
        (Answer::redirect(&moved), "302", "a redirect to 127."),
        (Answer::too_many(7), "429", "answered 429"),
        (Answer::Close, "", "can't be reached"),
    ];
    for (answer, status, words) in table {
        receiver.answer(answer.clone());
        let refused = refused(&notifier, &message())?;
        let said = &refused.text;
        ensure!(said.contains(&host), "{said}");
        ensure!(said.contains(status) && said.contains(words), "{said}");
        for secret in [TOKEN, "abcdefghijk", "\u{1b}", "more"] {
            ensure!(!said.contains(secret), "{said}");
        }
        ensure!(refused.status == status.parse().ok(), "{refused:?}");
        let wait = matches!(answer, Answer::With(429, _)).then(|| Duration::from_secs(7));
        ensure!(refused.retry_after == wait, "{refused:?}");
    }
    ensure!(
        receiver.received().len() == 5,
        "nothing is tried again by itself"
    );
    ensure!(elsewhere.received().is_empty(), "a redirect was followed");
    ensure!(!format!("{notifier:?}").contains(TOKEN), "{notifier:?}");
    Ok(())
}

#[test]
fn a_server_that_hangs_is_left_when_the_time_is_over() -> Result<()> {
    let place = Place::take("hangs")?;
    let receiver = HttpReceiver::start(place.net.receiver(0))?;
    receiver.answer(Answer::Hang);
    let limit = Duration::from_secs(2);
    let begun = Instant::now();
    let refused = refused(&webhook(&receiver, limit)?, &message())?;
    let took = begun.elapsed();
    ensure!(
        refused.text.contains("didn't answer within 2s"),
        "{refused}"
    );
    ensure!((limit..limit * 3).contains(&took), "{took:?}");
    // One that doesn't even take the connection: nobody accepts it, and the backlog is full of nothing.
    let deaf = std::net::TcpListener::bind(place.net.receiver(1))?;
    let target = Target::parse(&format!("https://{}/", deaf.local_addr()?))?;
    let endpoint = Endpoint {
        target,
        roots: place.roots()?,
    };
    let deaf = notifier("deaf", limit, Service::Slack(endpoint));
    let refused = crate::refused(&deaf, &message())?;
    ensure!(refused.text.contains("didn't answer within"), "{refused}");
    Ok(())
}

#[test]
fn what_was_accepted_stays_accepted_whatever_becomes_of_the_words_behind_it() -> Result<()> {
    let place = Place::take("cut-off")?;
    let receiver = HttpReceiver::start(place.net.receiver(0))?;
    // The limit is for the status.
    let short = Duration::from_millis(1_900);
    for (answer, words, limit) in [
        (Answer::CutOff, "cut", LIMIT),
        (Answer::HangInBody, "begun", LIMIT),
        (Answer::HangInBody, "begun", short),
    ] {
        receiver.answer(answer);
        let said = sent(&webhook(&receiver, limit)?, &message())?;
        ensure!(said.ends_with(words), "{said}");
    }
    Ok(())
}

#[test]
fn https_is_taken_from_a_server_that_the_roots_know_and_from_no_other() -> Result<()> {
    let place = Place::take("https")?;
    let receiver = HttpReceiver::start_tls(place.net.receiver(0), &place.root)?;
    let with = |roots| -> Result<_> {
        let service = Service::Discord(endpoint(&receiver, roots)?);
        Ok(notifier("discord", LIMIT, service))
    };
    sent(&with(place.roots()?)?, &message())?;
    ensure!(receiver.received().len() == 1);
    let stranger = Place::take("https-stranger")?;
    for roots in [stranger.roots()?, Roots::System] {
        let refused = refused(&with(roots)?, &message())?;
        ensure!(refused.text.contains("certificate"), "{refused}");
        ensure!(!refused.text.contains(TOKEN), "{refused}");
    }
    ensure!(receiver.received().len() == 1, "a stranger was told");
    Ok(())
}
