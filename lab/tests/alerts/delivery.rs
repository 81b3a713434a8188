//! Receivers that misbehave, repetition, escalation, grouping.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use certwell_lab::{
    Settings,
    receivers::{Alertmanager, Answer, HttpReceiver},
    story, wait_for,
};

use crate::{
    SOON,
    ear::{Ear, Speed, drill, tell},
    first_issuance, sally,
};

#[test]
fn receivers_that_hang_refuse_or_redirect_hold_up_nobody_else_and_are_told_later() -> Result<()> {
    story("alerts-misbehave", &sally(), |world| {
        let mut hangs = Ear::listen(world, "hangs", 0)?;
        hangs.limit = "15s";
        let breaks = Ear::listen(world, "breaks", 1)?;
        let redirects = Ear::listen(world, "redirects", 2)?;
        let works = Ear::listen(world, "works", 3)?;
        let elsewhere = HttpReceiver::start(world.net.receiver(4))?;
        hangs.answer(Answer::Hang);
        breaks.answer(Answer::Status(500, "no".into()));
        redirects.answer(Answer::redirect(&elsewhere.url("/hook")));
        let speed = Speed {
            escalate_after: "1s",
            repeat_first: "1s",
            repeat_min: "1s",
            ..Speed::default()
        };
        let ears = [&hangs, &breaks, &redirects, &works];
        tell(world, &ears, &speed, "")?;
        drill(world)?;
        let first = works.wait("the drill", SOON, |heard| heard.class == "drill")?;
        ensure!(first.state == "drill" && first.number == 1, "{first:?}");
        // The one that hangs does so for a quarter of a minute: five more come meanwhile.
        works.wait("the sixth message", SOON, |heard| {
            heard.class == "drill" && heard.number == 6
        })?;
        ensure!(hangs.heard().len() == 1, "{:?}", hangs.heard());
        // Each of the three is an alert of its own, told by the one that works.
        for broken in ["hangs", "breaks", "redirects"] {
            let heard = works.wait(broken, SOON, |heard| {
                heard.class == "notifier-failing" && heard.text("subject") == broken
            })?;
            ensure!(
                heard.text("command") == format!("certwell alerts test {broken}"),
                "{heard:?}"
            );
        }
        ensure!(elsewhere.received().is_empty(), "a redirect was followed");
        let test = world
            .issuer
            .certwell(&["alerts", "test", "breaks", "works"])?;
        ensure!(test.code == 3, "{test:?}");

        for ear in [&hangs, &breaks, &redirects] {
            ear.answer(Answer::fine());
            ear.wait("what it missed", SOON, |heard| {
                heard.class == "drill" && heard.accepted
            })?;
            works.wait("that it is well again", SOON, |heard| {
                heard.class == "notifier-failing"
                    && heard.text("subject") == ear.name
                    && heard.state == "resolved"
            })?;
        }
        let test = world.issuer.certwell(&["alerts", "test"])?;
        ensure!(test.code == 0, "{test:?}");
        Ok(())
    })
}

#[test]
fn one_cause_on_four_hosts_is_one_message_and_one_more_when_it_is_over() -> Result<()> {
    let settings = Settings {
        validity: Some(Duration::from_secs(600)),
        ..Settings::default()
    };
    story("alerts-group", &settings, |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        let speed = Speed {
            settle: "5s",
            ..Speed::default()
        };
        tell(world, &[&ear], &speed, "")?;
        first_issuance(world)?;
        for host in &mut world.hosts {
            host.kill9_agent()?;
        }
        let heard = ear.wait("four silent hosts", Duration::from_secs(120), |heard| {
            heard.class == "host-silent"
        })?;
        let all = ["cdn-frankfurt-1", "cdn-fremont-1", "esme", "sally"];
        ensure!(
            heard.hosts().iter().collect::<BTreeSet<_>>().len() == 4,
            "{heard:?}"
        );
        ensure!(
            all.iter()
                .all(|host| heard.hosts().contains(&(*host).to_owned())),
            "{heard:?}"
        );
        for host in &mut world.hosts {
            host.start_agent()?;
        }
        let over = ear.wait("that it is over", Duration::from_secs(120), |heard| {
            heard.class == "host-silent" && heard.state == "resolved"
        })?;
        ensure!(over.id == heard.id, "{over:?}");
        let of_it: Vec<_> = ear
            .heard()
            .into_iter()
            .filter(|heard| heard.class == "host-silent")
            .collect();
        ensure!(of_it.len() == 2, "{of_it:#?}");
        Ok(())
    })
}

#[test]
fn a_changed_configuration_changes_who_is_told_while_the_issuer_runs() -> Result<()> {
    story("alerts-reload", &sally(), |world| {
        let old = Ear::listen(world, "old", 0)?;
        let new = Ear::listen(world, "new", 1)?;
        let speed = Speed {
            repeat_first: "1s",
            repeat_min: "1s",
            ..Speed::default()
        };
        tell(world, &[&old], &speed, "")?;
        drill(world)?;
        old.wait("the drill", SOON, |heard| heard.class == "drill")?;
        tell(world, &[&new], &speed, "")?;
        new.wait("the drill", SOON, |heard| {
            heard.class == "drill" && heard.number == 1
        })?;
        let count = old.heard().len();
        new.wait("three repetitions", SOON, |heard| heard.number == 4)?;
        // One may have been on its way when the configuration changed.
        ensure!(old.heard().len() <= count + 1, "{:?}", old.heard());
        Ok(())
    })
}

#[test]
fn an_alertmanager_has_an_alert_for_as_long_as_it_is_open() -> Result<()> {
    story("alerts-alertmanager", &sally(), |world| {
        let ear = Ear::listen(world, "hook", 0)?;
        let manager = Alertmanager::start(world.net.receiver(1), world.directory(), None)?;
        tell(world, &[&ear], &Speed::default(), "")?;
        world.issuer.declare(
            "30-alerts",
            &format!(
                "[alerts]\nevery = \"500ms\"\nsettle = \"1s\"\n[notifier.am]\ntype = \"alertmanager\"\nurl = {:?}\n",
                manager.url()
            ),
        )?;
        let id = drill(world)?;
        manager.wait_for("the drill", SOON, |alerts| {
            alerts
                .iter()
                .any(|alert| {
                    alert["labels"]["class"] == "drill" || alert.to_string().contains("drill")
                })
                .then_some(())
        })?;
        world
            .issuer
            .certwell(&["alerts", "ack", &id, "--for", "1m"])?
            .success("ack")?;
        wait_for("the drill to be gone", SOON, || {
            let open = manager.alerts()?;
            let active = open
                .iter()
                .filter(|alert| alert["status"]["state"] == "active");
            ensure!(active.count() == 0, "{open:?}");
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(())
    })
}
