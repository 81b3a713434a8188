//! `kill -9` of the issuer in the middle of sending, again and again: no message is lost, and at most the one that was on
//! its way comes twice.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{World, receivers::Answer, story};

use crate::{
    SOON,
    ear::{Ear, Heard, Speed, drill, tell},
    sally,
};

/// Kills while messages flow.
const KILLS: u64 = 25;
/// Kills right after an alert was raised.
const RAISED: u64 = 8;

#[test]
fn an_issuer_killed_while_it_sends_loses_no_message_and_doubles_at_most_one() -> Result<()> {
    story("alerts-killed", &sally(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        let speed = Speed {
            repeat_first: "200ms",
            repeat_min: "200ms",
            ..Speed::default()
        };
        tell(world, &[&ear], &speed, "")?;
        drill(world)?;
        for kill in 0..KILLS {
            let last = last_number(&ear);
            ear.wait("one more message", SOON, |heard| {
                is_drill(heard) && heard.number > last
            })?;
            // Somewhere between two messages, or in the middle of one.
            thread::sleep(Duration::from_millis((kill * 37) % 400));
            if kill % 5 == 4 {
                unanswered(world, &ear)?;
            } else {
                world.issuer.kill9()?;
            }
            world.issuer.serve()?;
        }
        let last = last_number(&ear);
        ear.wait("that it goes on", SOON, |heard| {
            is_drill(heard) && heard.number > last + 2
        })?;
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        for heard in ear.heard().into_iter().filter(is_drill) {
            *times.entry(heard.number).or_default() += 1;
        }
        let last = *times.keys().last().context("nothing came")?;
        let lost: Vec<u64> = (1..=last).filter(|n| !times.contains_key(n)).collect();
        ensure!(lost.is_empty(), "messages {lost:?} of {last} never came");
        let doubled: u64 = times.values().map(|times| times - 1).sum();
        ensure!(
            times.values().all(|times| *times <= 2) && doubled <= KILLS,
            "{doubled} came twice: {times:?}"
        );
        println!("killed {KILLS} times over {last} messages: 0 lost, {doubled} came twice");
        Ok(())
    })
}

/// Killed when the receiver has the message, and the issuer has no answer.
fn unanswered(world: &mut World, ear: &Ear) -> Result<()> {
    ear.answer(Answer::Hang);
    let count = ear.heard().len();
    ear.server
        .wait_for("a message that hangs", SOON, |received| {
            (received.len() > count).then_some(())
        })?;
    world.issuer.kill9()?;
    ear.answer(Answer::fine());
    Ok(())
}

#[test]
fn an_alert_that_was_raised_is_told_though_the_issuer_was_killed_before_it_sent_anything()
-> Result<()> {
    story("alerts-raised", &sally(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        tell(world, &[&ear], &Speed::default(), "")?;
        for _ in 0..RAISED {
            let id: u64 = drill(world)?.parse()?;
            world.issuer.kill9()?;
            world.issuer.serve()?;
            ear.wait("the drill", SOON, |heard| heard.id == id)?;
            let ack = ["alerts", "ack", &id.to_string(), "--for", "1m"];
            world.issuer.certwell(&ack)?.success("ack")?;
            ear.wait("its end", SOON, |heard| {
                heard.id == id && heard.state == "resolved"
            })?;
        }
        let heard = ear.heard();
        let firing = heard.iter().filter(|heard| heard.state == "drill").count();
        let most = usize::try_from(2 * RAISED)?;
        ensure!(firing <= most, "{firing} messages of {RAISED} drills");
        println!("killed {RAISED} times: each drill was told, in {firing} messages");
        Ok(())
    })
}

/// What the machine itself may be told of is another alert.
fn is_drill(heard: &Heard) -> bool {
    heard.class == "drill"
}

fn last_number(ear: &Ear) -> u64 {
    let heard = ear.heard().into_iter();
    let numbers = heard.filter(is_drill).map(|heard| heard.number);
    numbers.max().unwrap_or_default()
}
