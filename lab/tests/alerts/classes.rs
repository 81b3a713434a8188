//! Every class of alerts, its cause made for real, and its message received. Each says how many seconds that took.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{MEDIA, Settings, World, receivers::Answer, story, wait_for};
use jiff::Timestamp;

use crate::{
    SOON, ahead, clock,
    ear::{Ear, Heard, Speed, drill, suffices, tell},
    late, media_on_sally, on_sally, outside, sally,
};

/// From the cause to the message.
const WITHIN: Duration = Duration::from_secs(120);

/// A test, by itself: one that is gone can't be in a list.
type Test = fn() -> Result<()>;

/// Who makes the cause of which classes.
const MADE: &[(Test, &[Class])] = &[
    (a_ca_that_is_gone, &[Class::OrderFailing, Class::Expiry]),
    (
        a_certificate_that_nobody_renews,
        &[Class::UnmanagedExpiring],
    ),
    (an_agent_that_is_gone, &[Class::HostSilent]),
    (an_identity_that_was_revoked, &[Class::RevokedIdentity]),
    (a_configuration_that_is_refused, &[Class::ConfigRefused]),
    (an_nginx_that_refuses, &[Class::InstallFailing]),
    (
        a_host_that_would_not_answer_the_ca,
        &[Class::PreflightFailing],
    ),
    (a_backup_that_is_old, &[Class::BackupOld]),
    (a_disk_that_is_full, &[Class::IssuerDisk]),
    (
        a_notifier_that_accepts_nothing,
        &[Class::NotifierFailing, Class::Drill],
    ),
    (late::a_ca_that_hangs, &[Class::RenewalOverdue]),
    (late::an_agent_that_hangs, &[Class::NotServed]),
    (outside::another_hands_certificate, &[Class::SeenStranger]),
    (
        outside::a_name_that_leads_elsewhere,
        &[Class::SeenElsewhere],
    ),
    (
        outside::another_server_block_that_answers,
        &[Class::SeenOtherVhost],
    ),
    (
        outside::a_chain_without_its_intermediate,
        &[Class::SeenChain],
    ),
    (outside::a_copy_of_an_older_generation, &[Class::NotServed]),
    (outside::an_nginx_that_is_off, &[Class::SeenDown]),
    (outside::images_that_do_not_load, &[Class::UrlBroken]),
    (clock::a_clock_that_goes_wrong, &[Class::IssuerClock]),
    (clock::a_clock_that_was_set_back, &[Class::IssuerClock]),
    (ahead::a_generation_that_cannot_be, &[Class::TooFarAhead]),
];

#[test]
fn no_class_is_forgotten() {
    let made = MADE.iter().flat_map(|(_, classes)| classes.iter());
    for class in Class::ALL {
        let is_made = made.clone().any(|made| made == class);
        assert!(is_made, "no test makes the cause of {class}");
    }
}

/// Waits for the message of a class, whose cause has been there since `cause`.
pub(crate) fn comes(ear: &Ear, class: Class, cause: Timestamp) -> Result<Heard> {
    let heard = ear.wait(class.slug(), WITHIN, |heard| {
        heard.class == class.slug() && heard.state != "resolved"
    })?;
    suffices(&heard)?;
    let took = heard.at.duration_since(cause).as_secs_f64();
    ensure!(took <= WITHIN.as_secs_f64(), "{class}: {took:.1} s");
    println!("{class}: {took:.1} s from its cause to its message");
    Ok(heard)
}

/// The same, where nothing of the class was heard before its cause was made.
pub(crate) fn comes_of(
    ear: &Ear,
    class: Class,
    cause: impl FnOnce() -> Result<()>,
) -> Result<Heard> {
    let is_of = |heard: &&Heard| heard.class == class.slug();
    let at = now();
    let early = ear.heard().iter().find(is_of).cloned();
    ensure!(early.is_none(), "before its cause: {early:?}");
    cause()?;
    let heard = comes(ear, class, at)?;
    ensure!(heard.at >= at, "before its cause: {heard:?}");
    Ok(heard)
}

/// Waits for the message that this alert is over.
pub(crate) fn ends(ear: &Ear, told: &Heard) -> Result<Heard> {
    ear.wait(&format!("the end of {}", told.class), WITHIN, |heard| {
        heard.id == told.id && heard.state == "resolved"
    })
}

pub(crate) fn now() -> Timestamp {
    certwell_lab::clock::now()
}

pub(crate) fn living(seconds: u64) -> Settings {
    Settings {
        validity: Some(Duration::from_secs(seconds)),
        ..sally()
    }
}

pub(crate) fn listening(world: &World) -> Result<Ear> {
    let ear = Ear::listen(world, "hook", 0)?;
    tell(world, &[&ear], &Speed::default(), "")?;
    taken_up(world, ear.name)?;
    Ok(ear)
}

/// Waits until the notifier is known, before anything else changes in the configuration.
pub(crate) fn taken_up(world: &World, notifier: &str) -> Result<()> {
    wait_for("the notifier", SOON, || {
        let test = world.issuer.certwell(&["alerts", "test", notifier])?;
        ensure!(test.code == 0, "{test:?}");
        Ok(())
    })
}

#[test]
fn a_ca_that_is_gone() -> Result<()> {
    story("alert-ca", &living(90), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        world.ca.freeze()?;
        let cause = now();
        let order = comes(&ear, Class::OrderFailing, cause)?;
        ensure!(order.text("subject") == "pebble", "{order:?}");
        let expiry = comes(&ear, Class::Expiry, cause)?;
        ensure!(expiry.text("subject") == MEDIA, "{expiry:?}");
        ensure!(expiry.hosts() == ["sally"], "{expiry:?}");
        ear.wait("the page", WITHIN, |heard| {
            heard.id == expiry.id && heard.severity == "page"
        })?;
        world.ca.thaw()
    })
}

#[test]
fn a_certificate_that_nobody_renews() -> Result<()> {
    story("alert-unmanaged", &sally(), |world| {
        let ear = listening(world)?;
        // Its nginx serves one that expired in 2023, and nobody declared it.
        world.join_all()?;
        let expired = comes(&ear, Class::UnmanagedExpiring, now())?;
        ensure!(expired.hosts() == ["sally"], "{expired:?}");
        Ok(())
    })
}

#[test]
fn an_agent_that_is_gone() -> Result<()> {
    story("alert-silent", &living(240), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        world.host_mut("sally")?.kill9_agent()?;
        let silent = comes(&ear, Class::HostSilent, now())?;
        ensure!(silent.hosts() == ["sally"], "{silent:?}");
        Ok(())
    })
}

#[test]
fn an_identity_that_was_revoked() -> Result<()> {
    story("alert-revoked", &sally(), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        let revoke = ["hosts", "revoke", "sally", "--yes"];
        world.issuer.certwell(&revoke)?.success("revoke")?;
        comes(&ear, Class::RevokedIdentity, now())?;
        Ok(())
    })
}

#[test]
fn a_configuration_that_is_refused() -> Result<()> {
    story("alert-config", &sally(), |world| {
        let ear = listening(world)?;
        world.issuer.declare("40-wrong", "[host.sally\n")?;
        comes(&ear, Class::ConfigRefused, now())?;
        world.issuer.undeclare("40-wrong")?;
        ear.wait("its end", SOON, |heard| {
            heard.class == "config-refused" && heard.state == "resolved"
        })?;
        Ok(())
    })
}

#[test]
fn an_nginx_that_refuses() -> Result<()> {
    story("alert-refused", &living(300), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        world.host("sally")?.refuse_the_next(MEDIA)?;
        let renew = ["certificates", "renew", MEDIA];
        world.issuer.certwell(&renew)?.success("renew")?;
        let cause = now();
        let failing = comes(&ear, Class::InstallFailing, cause)?;
        ensure!(failing.hosts() == ["sally"], "{failing:?}");
        Ok(())
    })
}

#[test]
fn a_host_that_would_not_answer_the_ca() -> Result<()> {
    story("alert-preflight", &sally(), |world| {
        let ear = listening(world)?;
        let host = world.host_mut("sally")?;
        host.nginx.set_include(false)?;
        host.nginx.reload()?;
        world.join_all()?;
        world.issuer.declare("20-media", &media_on_sally())?;
        let wrong = comes(&ear, Class::PreflightFailing, now())?;
        ensure!(wrong.text("subject") == MEDIA, "{wrong:?}");
        Ok(())
    })
}

#[test]
fn a_backup_that_is_old() -> Result<()> {
    story("alert-backup", &sally(), |world| {
        let ear = listening(world)?;
        world
            .issuer
            .daemon(&["backup"])?
            .run(world.directory(), "", SOON)?
            .success("certwell-issuer backup")?;
        // As if none had been made for long.
        let made = fs::read_dir(world.issuer.backups())?
            .flatten()
            .find(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("certwell-2")
            })
            .context("no backup was made")?;
        fs::rename(
            made.path(),
            made.path().with_file_name("certwell-20260101T000000Z"),
        )?;
        comes(&ear, Class::BackupOld, now())?;
        Ok(())
    })
}

#[test]
fn a_disk_that_is_full() -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        println!("SKIPPED: a small disk is mounted by root alone");
        return Ok(());
    }
    story("alert-disk", &sally(), |world| {
        let ear = listening(world)?;
        world.issuer.stop();
        let (state, aside) = (world.issuer.state(), world.directory().join("aside"));
        fs::rename(&state, &aside)?;
        fs::create_dir(&state)?;
        let small = Small::mount(&state)?;
        run(
            "cp",
            &[
                "-a",
                &format!("{}/.", aside.display()),
                &state.display().to_string(),
            ],
        )?;
        world.issuer.serve()?;
        let cause = now();
        // Less than a tenth is left at once, whatever the store grows by.
        fs::write(state.join("filler"), vec![0_u8; 58 << 20])?;
        let full = comes(&ear, Class::IssuerDisk, cause);
        world.issuer.stop();
        drop(small);
        full.map(drop)
    })
}

#[test]
fn a_notifier_that_accepts_nothing() -> Result<()> {
    story("alert-notifier", &sally(), |world| {
        let broken = Ear::listen(world, "broken", 1)?;
        let ear = Ear::listen(world, "hook", 0)?;
        broken.answer(Answer::Status(503, "no".into()));
        let speed = Speed {
            escalate_after: "2s",
            ..Speed::default()
        };
        tell(world, &[&broken, &ear], &speed, "")?;
        let cause = now();
        drill(world)?;
        comes(&ear, Class::Drill, cause)?;
        comes(&ear, Class::NotifierFailing, cause)?;
        Ok(())
    })
}

/// A disk of 64 MiB.
struct Small(String);

impl Small {
    fn mount(at: &std::path::Path) -> Result<Self> {
        let at = at.display().to_string();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", &at],
        )?;
        Ok(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &self.0]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let ended = Command::new(program).args(args).status()?;
    ensure!(ended.success(), "{program} {args:?}: {ended}");
    Ok(())
}
