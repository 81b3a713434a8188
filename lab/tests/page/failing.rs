//! A host whose nginx refuses a renewal: what is shown of it, and what one can do about it by the page.

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, Site, World,
    browser::{Browser, Look, Page, log_in},
    story, wait_for,
};
use serde_json::Value;

use crate::{
    ALERTS, SOON, first_issuance, json, judge, number, opened, origin, pages, token, with_browser,
};

/// Nobody has joined as this one yet.
const ANNOUNCED: &str = "[host.granny]\n";
/// A drill needs somebody who is told.
const PAGER: &str = "[notifier.pager]\ntype = \"exec\"\ncommand = \"/usr/bin/true\"\n";
/// A name that somebody serves from elsewhere, and nobody renews.
const FORGOTTEN: &str = "forgotten.hachyderm.io";
/// More than anybody has the patience to press it.
const TABS: usize = 60;

#[test]
fn a_failing_host_is_named_everywhere_and_its_alert_is_taken_without_scripts_or_by_keyboard_alone()
-> Result<()> {
    with_browser(|browser| {
        story("page-failing", &Settings::default(), |world| {
            world
                .issuer
                .declare("30-alerts", &format!("{ANNOUNCED}{ALERTS}{PAGER}"))?;
            let esme = world.host_mut("esme")?;
            esme.nginx.add_site(Site::new(FORGOTTEN, &[FORGOTTEN]))?;
            esme.nginx.reload()?;
            first_issuance(world)?;
            world.host("sally")?.refuse_the_next(MEDIA)?;
            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew")?;
            let failing = opened(world, "install-failing")?;
            let drill = number(&json(world, &["alerts", "drill", "--json"])?["alert"])?;

            is_named(browser, world)?;
            judge::judge(
                browser,
                &judge::looks(),
                &origin(world),
                &pages(),
                Some(&token(world)?),
            )?;
            without_scripts(browser, world, failing).context("without scripts")?;
            by_keyboard(browser, world, drill).context("by keyboard")
        })
    })
}

/// On each page where one would look for it.
fn is_named(browser: &Browser, world: &World) -> Result<()> {
    let page = browser.page(&Look::default())?;
    let says = |path: &str, selector: &str, words: &[&str]| {
        page.open_url(&format!("{}{path}", origin(world)))?;
        wait_for(&format!("{words:?} at {path}"), SOON, || {
            let said = page.eval(&format!(
                "[...document.querySelectorAll({selector:?})].map((one) => one.innerText).join(' ')"
            ))?;
            let said = said.as_str().unwrap_or_default();
            let all = words.iter().all(|words| said.contains(words));
            ensure!(all, "{said}");
            Ok::<_, anyhow::Error>(())
        })
    };
    let refused = "key values mismatch";
    says("/", "#headline", &["sally"])?;
    says("/", ".matrix td.bad", &["✗ failed", "serves 1"])?;
    says("/", ".problems", &["sally", refused])?;
    says("/", ".alerts", &["sally", MEDIA])?;
    says("/hosts/sally", "main", &["✗ failed", refused])?;
    says(
        &format!("/certificates/{MEDIA}"),
        "#on-sally",
        &["✗ failed", "serves 1", refused],
    )?;
    says("/alerts", "main", &["sally", refused])?;
    says("/hosts", "main", &["granny", "not joined yet"])?;
    says(
        "/inventory",
        ".unmanaged",
        &[FORGOTTEN, "expired", "! unmanaged"],
    )
}

fn acknowledgement(world: &World, id: u64) -> Result<Value> {
    let list = json(world, &["alerts", "list", "--all", "--json"])?;
    let alerts = list["alerts"].as_array().context("no alerts")?;
    let found = alerts.iter().find(|alert| alert["id"] == id);
    Ok(found.with_context(|| list.to_string())?["acknowledgement"].clone())
}

fn is_taken(world: &World, id: u64, note: &str) -> Result<()> {
    wait_for(&format!("alert {id} to be acknowledged"), SOON, || {
        let taken = acknowledgement(world, id)?;
        ensure!(taken["by"] == "page" && taken["note"] == note, "{taken}");
        Ok(())
    })
}

fn without_scripts(browser: &Browser, world: &World, id: u64) -> Result<()> {
    let page = browser.page(&Look {
        scripts: false,
        width: 360,
        ..Look::default()
    })?;
    log_in(&page, &origin(world), &token(world)?)?;
    let alerts = format!("{}/alerts", origin(world));
    page.open_url(&alerts)?;
    ensure!(acknowledgement(world, id)?.is_null());
    page.click(&format!("#note-{id}"))?;
    page.type_text("on my way")?;
    page.click(&format!("#alert-{id} button"))?;
    is_taken(world, id, "on my way")?;
    page.loaded(&alerts)?;
    let said = page.eval(&format!("document.querySelector('#alert-{id}').innerText"))?;
    let said = said.as_str().unwrap_or_default();
    ensure!(
        said.contains("Acknowledged by page") && said.contains("on my way"),
        "{said}"
    );
    Ok(())
}

fn by_keyboard(browser: &Browser, world: &World, id: u64) -> Result<()> {
    let page = browser.page(&Look {
        still: true,
        ..Look::default()
    })?;
    log_in(&page, &origin(world), &token(world)?)?;
    page.press("Tab")?;
    let first = page.eval("document.activeElement.innerText")?;
    ensure!(first == "Skip to the content", "{first}");
    page.press("Enter")?;
    tab_to(&page, &format!("note-{id}"))?;
    page.type_text("only a drill")?;
    // Something else changes meanwhile; what is typed stays, and so does the focus.
    let renew = ["certificates", "renew", MEDIA];
    world.issuer.certwell(&renew)?.success("renew")?;
    wait_for("the change", SOON, || {
        let shown = page.eval("document.querySelector('.matrix').innerText")?;
        ensure!(
            shown.as_str().is_some_and(|text| text.contains(" 3 ·")),
            "{shown}"
        );
        Ok(())
    })?;
    let typed = page.eval("[document.activeElement.id, document.activeElement.value]")?;
    ensure!(
        typed == serde_json::json!([format!("note-{id}"), "only a drill"]),
        "{typed}"
    );
    page.press("Tab")?;
    let button = page.eval("document.activeElement.innerText")?;
    ensure!(button == format!("Acknowledge alert {id}"), "{button}");
    page.press("Enter")?;
    is_taken(world, id, "only a drill")
}

/// Presses it until something has the focus; whatever has it meanwhile is on the screen, and marked.
fn tab_to(page: &Page<'_>, id: &str) -> Result<()> {
    let mut passed = Vec::new();
    for _ in 0..TABS {
        page.press("Tab")?;
        let focus = page.eval(
            "(() => { const one = document.activeElement, box = one.getBoundingClientRect(), \
             style = getComputedStyle(one); return { id: one.id, text: one.outerHTML.slice(0, 80), \
             marked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, \
             there: box.width > 0 && box.bottom > 0 && box.top < innerHeight }; })()",
        )?;
        ensure!(
            focus["marked"] == true && focus["there"] == true,
            "nobody sees the focus: {focus}"
        );
        if focus["id"] == id {
            return Ok(());
        }
        passed.push(focus["text"].to_string());
    }
    anyhow::bail!("{id} isn't reached: {passed:#?}")
}
