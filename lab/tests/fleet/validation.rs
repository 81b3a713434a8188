//! The CA can't validate though every host would answer: it is DNS.

use anyhow::{Result, ensure};
use certwell_lab::{MEDIA, Settings, story, wait_for};

use crate::{SOON, media_on};

#[test]
fn a_failed_validation_is_told_and_a_renewal_by_hand_does_not_wait_for_the_next_try() -> Result<()>
{
    story(
        "validation",
        &Settings::default().only(&["sally"]),
        |world| {
            world.join_all()?;
            // Nobody listens there.
            world.dns.set(MEDIA, &[world.net.ip(200)])?;
            world.issuer.declare("20-media", &media_on(&["sally"]))?;
            let failed = wait_for("the failure", SOON, || {
                let events = world.issuer.events()?;
                let found = events
                    .into_iter()
                    .find(|event| event.kind == "order-failed");
                found.ok_or_else(|| anyhow::anyhow!("no such event"))
            })?;
            let address = world.net.ip(200).to_string();
            ensure!(
                failed.text.contains(&address),
                "the CA's words are lost: {}",
                failed.text
            );
            let explained = world.issuer.certwell(&["explain", MEDIA])?.stdout;
            ensure!(
                explained.contains(&address),
                "explain doesn't say what the CA said:\n{explained}"
            );

            let sally = world.addresses(|_| true);
            world.dns.set(MEDIA, &sally)?;
            world
                .issuer
                .certwell(&["certificates", "renew", MEDIA])?
                .success("certwell certificates renew")?;
            world.all_serve_new(MEDIA, None, SOON, |_| true)?;
            ensure!(
                world.ca.issued() == 1 && world.ca.orders() == 2,
                "{} orders",
                world.ca.orders()
            );
            Ok(())
        },
    )
}
