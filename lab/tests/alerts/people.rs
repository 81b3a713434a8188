//! What people do: acknowledge, silence, let it go to the next one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{Settings, World, holds_for, story, wait_for};
use serde_json::Value;

use crate::{
    SOON,
    ear::{Ear, Heard, Speed, drill, tell},
    on_sally, sally,
};

/// Of certificates, so that a host is missed after half a minute.
const LIFE: Duration = Duration::from_secs(300);

fn short_lived() -> Settings {
    Settings {
        validity: Some(LIFE),
        ..sally()
    }
}

fn json(world: &World, args: &[&str]) -> Result<Value> {
    let output = world.issuer.certwell(args)?.success(&args.join(" "))?;
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

fn silent(heard: &Heard) -> bool {
    heard.class == "host-silent"
}

#[test]
fn nobody_acknowledges_and_the_next_one_is_told_and_who_was_told_hears_the_end() -> Result<()> {
    story("alerts-escalate", &sally(), |world| {
        let first = Ear::listen(world, "first", 0)?;
        let second = Ear::listen(world, "second", 1)?;
        let third = Ear::listen(world, "third", 2)?;
        let speed = Speed {
            escalate_after: "4s",
            repeat_first: "2s",
            repeat_min: "2s",
            ..Speed::default()
        };
        tell(world, &[&first, &second, &third], &speed, "")?;
        let id = drill(world)?;
        // While it is open there is no second one.
        ensure!(json(world, &["alerts", "drill", "--json"])?["alert"]["id"].to_string() == id);
        let one = first.wait("the drill", SOON, |heard| heard.class == "drill")?;
        let two = second.wait("the drill", SOON, |heard| heard.class == "drill")?;
        let apart = two.at.duration_since(one.at).as_secs_f64();
        ensure!(apart >= 3.0, "told {apart} s apart");
        ensure!(
            first.heard().iter().any(|heard| heard.number >= 2),
            "the first wasn't told again: {:?}",
            first.heard()
        );
        let acked = json(
            world,
            &[
                "alerts", "ack", &id, "--for", "5m", "--note", "it is me", "--json",
            ],
        )?;
        let by = &acked["alert"]["acknowledgement"];
        let me = nix::unistd::User::from_uid(nix::unistd::Uid::current())?.context("no name")?;
        ensure!(
            by["by"] == me.name.as_str() && by["note"] == "it is me",
            "{acked}"
        );
        for ear in [&first, &second] {
            ear.wait("the end", SOON, |heard| heard.state == "resolved")?;
        }
        let counts = (first.heard().len(), second.heard().len());
        holds_for("quiet", Duration::from_secs(6), || {
            ensure!((first.heard().len(), second.heard().len()) == counts);
            ensure!(third.heard().is_empty(), "{:?}", third.heard());
            Ok(())
        })?;
        let again = world
            .issuer
            .certwell(&["alerts", "ack", &id, "--for", "1m"])?;
        ensure!(again.code == 8, "{again:?}");
        let nobody = world
            .issuer
            .certwell(&["alerts", "ack", "4711", "--for", "1m"])?;
        ensure!(nobody.code == 7, "{nobody:?}");
        let events = world.issuer.events()?;
        let told: Vec<&str> = events
            .iter()
            .filter(|event| event.kind == "alert")
            .map(|event| event.text.as_str())
            .collect();
        for words in ["was raised: a drill", "was acknowledged by", "is over"] {
            ensure!(
                told.iter().any(|text| text.contains(words)),
                "{words}: {told:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn an_acknowledged_alert_is_repeated_no_more_until_it_ends_and_its_end_is_told() -> Result<()> {
    story("alerts-acknowledged", &short_lived(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        let speed = Speed {
            repeat_first: "1s",
            repeat_min: "1s",
            ..Speed::default()
        };
        tell(world, &[&ear], &speed, "")?;
        on_sally(world)?;
        world.host_mut("sally")?.kill9_agent()?;
        let told = ear.wait("a silent host", Duration::from_secs(120), silent)?;
        ear.wait("the third message", SOON, |heard| {
            silent(heard) && heard.number == 3
        })?;
        let id = told.id.to_string();
        json(world, &["alerts", "ack", &id, "--for", "15s", "--json"])?;
        let count = || ear.heard().iter().filter(|heard| silent(heard)).count();
        let before = count();
        holds_for("quiet", Duration::from_secs(4), || {
            // One may have been on its way.
            ensure!(count() <= before + 1, "{:?}", ear.heard());
            Ok(())
        })?;
        // It ends by itself, and then it is told again.
        let quiet = count();
        wait_for("repetition", SOON, || {
            ensure!(count() > quiet + 1, "{:?}", ear.heard());
            Ok::<_, anyhow::Error>(())
        })?;
        json(world, &["alerts", "ack", &id, "--for", "1h", "--json"])?;
        world.host_mut("sally")?.start_agent()?;
        let over = ear.wait("the end", Duration::from_secs(120), |heard| {
            silent(heard) && heard.state == "resolved"
        })?;
        ensure!(over.id == told.id, "{over:?}");
        Ok(())
    })
}

#[test]
fn a_silence_holds_messages_back_and_never_those_of_an_expiry_that_pages() -> Result<()> {
    let settings = Settings {
        validity: Some(Duration::from_secs(150)),
        ..sally()
    };
    story("alerts-silenced", &settings, |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        tell(world, &[&ear], &Speed::default(), "")?;
        on_sally(world)?;
        let silence = json(
            world,
            &[
                "alerts", "silence", "--host", "sally", "--for", "1h", "--note", "moving", "--json",
            ],
        )?;
        ensure!(silence["silence"]["host"] == "sally", "{silence}");
        world.host_mut("sally")?.kill9_agent()?;
        wait_for(
            "the alert to be listed as silenced",
            Duration::from_secs(120),
            || {
                let list = json(world, &["alerts", "list", "--json"])?;
                let alerts = list["alerts"].as_array().cloned().unwrap_or_default();
                let held = alerts.iter().find(|alert| {
                    alert["class"] == "host-silent" && alert["silenced_until"].is_string()
                });
                ensure!(held.is_some(), "{list}");
                Ok::<_, anyhow::Error>(())
            },
        )?;
        let page = ear.wait("an expiry that pages", Duration::from_secs(180), |heard| {
            heard.class == "expiry"
        })?;
        ensure!(
            page.severity == "page",
            "a warning wasn't held back: {page:?}"
        );
        ensure!(!ear.heard().iter().any(silent), "{:?}", ear.heard());
        let id = silence["silence"]["id"].to_string();
        let ended = world.issuer.certwell(&["alerts", "unsilence", &id])?;
        ensure!(ended.code == 0, "{ended:?}");
        ear.wait("what was held back", SOON, silent)?;
        Ok(())
    })
}
