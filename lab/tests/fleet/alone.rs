//! Renewals that nobody asks for.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_lab::{MEDIA, Settings, holds_for, story};

use crate::first_issuance;

const VALIDITY: Duration = Duration::from_secs(180);

#[test]
fn three_minute_certificates_renew_by_themselves_twice() -> Result<()> {
    let settings = Settings {
        validity: Some(VALIDITY),
        ..Settings::default()
    };
    story("three-minutes", &settings, |world| {
        let mut before = first_issuance(world)?;
        for generation in [2, 3] {
            // Half of its life is far too early, all of it too late.
            holds_for(
                "the first half of its life",
                VALIDITY / 2 - Duration::from_secs(20),
                || {
                    let served = world.host("esme")?.served(MEDIA)?;
                    ensure!(
                        served.fingerprint() == before.fingerprint(),
                        "it was renewed already"
                    );
                    Ok(())
                },
            )?;
            let after =
                world.all_serve_new(MEDIA, Some(before.fingerprint()), VALIDITY, |_| true)?;
            ensure!(
                after.leaf.not_before < before.leaf.not_after,
                "it came after the older one had expired: {} and {}",
                after.leaf.not_before,
                before.leaf.not_after
            );
            world.converged(MEDIA, generation, Duration::from_secs(30))?;
            before = after;
        }
        ensure!(world.ca.issued() == 3, "{} were issued", world.ca.issued());
        Ok(())
    })
}
