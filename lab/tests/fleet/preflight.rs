//! Nothing is asked of the CA before a host has shown that it can answer.

use std::time::Duration;

use anyhow::{Result, ensure};
use certwell_lab::{MEDIA, MEDIA_DECLARED, Settings, holds_for, story, wait_for};

use crate::SOON;

#[test]
fn a_host_without_the_include_holds_the_order_until_it_is_there() -> Result<()> {
    story("preflight", &Settings::default(), |world| {
        let sally = world.host_mut("sally")?;
        sally.nginx.set_include(false)?;
        sally.nginx.reload()?;
        world.join_all()?;
        world.issuer.declare("20-media", MEDIA_DECLARED)?;
        // What came back instead: the redirect of its plain-HTTP server.
        let said = wait_for("a preflight that says wrong", SOON, || {
            let found = world
                .issuer
                .events()?
                .into_iter()
                .find(|event| event.kind == "preflight" && event.text.contains("sally: "));
            found.ok_or_else(|| anyhow::anyhow!("no such event"))
        })?;
        ensure!(
            said.text.contains("301") || said.text.contains("redirect"),
            "it says not what came back: {}",
            said.text
        );
        let explained = world.issuer.certwell(&["explain", MEDIA])?;
        ensure!(
            explained.stdout.contains("sally"),
            "explain doesn't name the host:\n{}",
            explained.stdout
        );
        ensure!(world.issuer.certwell(&["status"])?.stdout.contains("sally"));
        holds_for("no order", Duration::from_secs(5), || {
            ensure!(
                world.ca.orders() == 0 && world.ca.validations() == 0,
                "an order was placed"
            );
            Ok(())
        })?;

        let sally = world.host_mut("sally")?;
        sally.nginx.set_include(true)?;
        sally.nginx.reload()?;
        world.all_serve_new(MEDIA, None, SOON, |_| true)?;
        ensure!(world.ca.orders() == 1 && world.ca.issued() == 1);
        world.converged(MEDIA, 1, SOON)
    })
}
