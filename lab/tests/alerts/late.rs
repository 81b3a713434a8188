//! What was to happen, and hasn't: neither is there anything that fails.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{MEDIA, Settings, World, story};
use nix::sys::signal::Signal;

use crate::{
    SOON,
    classes::{comes_of, ends, listening, living},
    on_sally,
};

/// Of certificates that a host may be behind with for twenty seconds.
const LIFE: Duration = Duration::from_secs(240);

#[test]
pub(crate) fn a_ca_that_hangs() -> Result<()> {
    story("alert-overdue", &living(120), |world| {
        let ear = listening(world)?;
        on_sally(world)?;
        // It takes connections and never answers: the order has not failed yet when its time is over.
        let told = comes_of(&ear, Class::RenewalOverdue, || world.ca.freeze())?;
        ensure!(told.text("subject") == MEDIA, "{told:?}");
        world.ca.thaw()?;
        ends(&ear, &told).map(drop)
    })
}

#[test]
pub(crate) fn an_agent_that_hangs() -> Result<()> {
    let settings = Settings {
        validity: Some(LIFE),
        ..Settings::default().only(&["sally", "esme"])
    };
    story("alert-not-served", &settings, |world| {
        let ear = listening(world)?;
        world.join_all()?;
        // The other host goes on, and answers the CA.
        let esme = world.addresses(|host| host.name == "esme");
        world.dns.set(MEDIA, &esme)?;
        let declared = format!(
            "[certificate.\"{MEDIA}\"]\nhosts = [\"sally\", \"esme\"]\nchallenge-hosts = [\"esme\"]\n"
        );
        world.issuer.declare("20-media", &declared)?;
        world.converged(MEDIA, 1, SOON)?;
        // Its connection stays, so nobody takes it for one that is off.
        let signal = |world: &mut World, signal| world.host_mut("sally")?.agent()?.signal(signal);
        signal(world, Signal::SIGSTOP)?;
        let told = comes_of(&ear, Class::NotServed, || {
            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew").map(drop)
        })?;
        ensure!(told.hosts() == ["sally"], "{told:?}");
        let cause = told.text("cause");
        ensure!(cause.contains("sally serves generation 1"), "{cause}");
        signal(world, Signal::SIGCONT)?;
        ends(&ear, &told)?;
        world.converged(MEDIA, 2, SOON)
    })
}
