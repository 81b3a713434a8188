//! The clock of the issuer's machine goes wrong while it runs.

use anyhow::{Result, ensure};
use certwell_issuer::plan::alert::Class;
use certwell_lab::{MEDIA, Settings, clock::MachineClock, story};
use jiff::SignedDuration;

use crate::{
    SOON,
    classes::{comes_of, listening},
};

#[test]
pub(crate) fn a_clock_that_goes_wrong() -> Result<()> {
    // One host alone may be the one that is wrong.
    let settings = Settings::default().only(&["sally", "esme"]);
    story("alert-clock", &settings, |world| {
        let clock = MachineClock::new(world.directory())?;
        world.issuer.stop();
        world.issuer.set_clock(clock.clone());
        world.issuer.serve()?;
        let ear = listening(world)?;
        world.join_all()?;
        let both = format!("[certificate.\"{MEDIA}\"]\nhosts = [\"sally\", \"esme\"]\n");
        world.issuer.declare("20-media", &both)?;
        world.converged(MEDIA, 1, SOON)?;
        let told = comes_of(&ear, Class::IssuerClock, || {
            clock.set_off(SignedDuration::from_mins(3))?;
            // It shows by what hosts say next.
            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew").map(drop)
        })?;
        let cause = told.text("cause");
        let by = "by the clocks of 2 of 2 hosts it is 3 minutes ahead";
        ensure!(cause.contains(by), "{cause}");
        ensure!(told.severity == "page", "{told:?}");
        Ok(())
    })
}
