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

#[test]
fn two_certificates_that_share_a_name_cost_it_one_failed_validation_at_a_time() -> Result<()> {
    story(
        "shared-name",
        &Settings::default().only(&["sally"]),
        |world| {
            world.join_all()?;
            world.dns.set(MEDIA, &[world.net.ip(200)])?;
            let both = format!(
                "{}[certificate.another]\nhosts = [\"sally\"]\nidentifiers = [\"{MEDIA}\"]\n",
                media_on(&["sally"])
            );
            world.issuer.declare("20-media", &both)?;
            let held = "for another certificate; CAs count that by name";
            wait_for("the second, held up by the first", SOON, || {
                let mut told = String::new();
                for name in [MEDIA, "another"] {
                    told += &world.issuer.certwell(&["explain", name])?.stdout;
                }
                let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
                ensure!(told.contains(held), "{told}");
                Ok(())
            })?;
            ensure!(world.ca.orders() == 1, "{} orders", world.ca.orders());

            // By hand nobody waits; and what is validated then holds up nobody.
            world.dns.set(MEDIA, &world.addresses(|_| true))?;
            for name in [MEDIA, "another"] {
                world
                    .issuer
                    .certwell(&["certificates", "renew", name])?
                    .success("certwell certificates renew")?;
            }
            wait_for("both", SOON, || {
                let issued = world.ca.issued();
                ensure!(issued == 2, "{issued} issued");
                Ok(())
            })
        },
    )
}
