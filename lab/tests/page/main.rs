//! The page in a browser: a real issuer with real hosts, looked at by headless Chromium.

mod crowd;
mod failing;
mod fleet;
mod judge;
mod large;
mod proxied;

use std::time::Duration;

use anyhow::{Context as _, Result};
use certwell_lab::{MEDIA, MEDIA_DECLARED, World, browser::Browser, wait_for};
use serde_json::Value;

/// Longer than anything takes when all is well, on a busy machine of two cores.
const SOON: Duration = Duration::from_secs(60);
/// Alerts are looked for often; nobody is told.
const ALERTS: &str = "[alerts]\nevery = \"500ms\"\nsettle = \"1s\"\n";

/// Runs what needs a browser.
fn with_browser(story: impl FnOnce(&Browser) -> Result<()>) -> Result<()> {
    if !Browser::is_installed() {
        eprintln!(
            "SKIPPED: no chromium-headless-shell is here; lab/setup.sh test installs it on Debian"
        );
        return Ok(());
    }
    story(&Browser::start()?)
}

/// Everybody joins, [`MEDIA`] is declared and served everywhere.
fn first_issuance(world: &mut World) -> Result<()> {
    world.join_all()?;
    world.issuer.declare("20-media", MEDIA_DECLARED)?;
    world.converged(MEDIA, 1, SOON)
}

/// Every page of a fleet like the demo's.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = [
        "/",
        "/hosts",
        "/hosts/sally",
        "/inventory",
        "/alerts",
        "/events",
        "/login",
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    pages.push(format!("/certificates/{MEDIA}"));
    pages
}

fn origin(world: &World) -> String {
    format!("http://{}", world.net.page())
}

fn token(world: &World) -> Result<String> {
    let printed = world.issuer.certwell(&["page", "--token"])?;
    Ok(printed
        .success("certwell page --token")?
        .stdout
        .trim()
        .to_owned())
}

fn json(world: &World, args: &[&str]) -> Result<Value> {
    let output = world.issuer.certwell(args)?.success(&args.join(" "))?;
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

/// The number of the open alert of a class, once there is one.
fn opened(world: &World, class: &str) -> Result<u64> {
    wait_for(&format!("the alert {class}"), SOON, || {
        let list = json(world, &["alerts", "list", "--json"])?;
        let alerts = list["alerts"].as_array().context("no alerts")?;
        let found = alerts.iter().find(|alert| alert["class"] == class);
        number(found.with_context(|| list.to_string())?)
    })
}

/// The number of an alert.
fn number(alert: &Value) -> Result<u64> {
    alert["id"].as_u64().with_context(|| alert.to_string())
}
