//! Four hosts that are well, and a renewal.

use anyhow::{Context as _, Result, ensure};
use certwell_lab::{
    MEDIA, Settings, World,
    browser::{Browser, Look, Page},
    story, wait_for,
};
use serde_json::{Value, json};

use crate::{SOON, first_issuance, judge, origin, pages, with_browser};

/// Of each cell the generation, how far it is, and the state.
const CELLS: &str = "[...document.querySelectorAll('.matrix td')].map((cell) => \
    [cell.querySelector('.fact').textContent.split(' ', 2), cell.querySelector('.mark').innerText])";
/// What one sees of a page, all of it unfolded, but for its times; and what one can use on it.
const CONTENT: &str = r#"(() => {
    const main = document.querySelector("main");
    for (const one of main.querySelectorAll("details")) one.open = true;
    for (const time of main.querySelectorAll("time")) time.textContent = "";
    const used = [...main.querySelectorAll("a, button, input, select, summary")];
    return [main.innerText.replace(/\s+/g, " "), used.map((one) => one.outerHTML.replace(/value="[^"]*"/, ""))];
})()"#;

/// Waits until every host is seen to serve this generation, and the page says so.
fn shown_at(page: &Page<'_>, generation: &str) -> Result<()> {
    let wanted = json!([["seen", generation], "✓ converged"]);
    wait_for(
        &format!("generation {generation} in the page"),
        SOON,
        || {
            let cells = page.eval(CELLS)?;
            let cells = cells.as_array().context("no cells")?;
            ensure!(
                cells.len() == 4 && cells.iter().all(|cell| *cell == wanted),
                "{cells:?}"
            );
            Ok(())
        },
    )
}

#[test]
fn four_hosts_are_shown_to_anybody_on_any_screen_with_scripts_or_without() -> Result<()> {
    with_browser(|browser| {
        story("page-well", &Settings::default(), |world| {
            first_issuance(world)?;
            let page = browser.page(&Look::default())?;
            page.open_url(&format!("{}/", origin(world)))?;
            shown_at(&page, "1")?;
            let headline = page.eval("document.querySelector('#headline').innerText")?;
            ensure!(
                headline
                    .as_str()
                    .is_some_and(|text| text.contains("All 4 hosts serve")),
                "{headline}"
            );
            judge::judge(browser, &judge::looks(), &origin(world), &pages(), None)?;
            for path in pages() {
                is_whole_without_scripts(browser, world, &path).context(path)?;
            }
            Ok(())
        })
    })
}

fn is_whole_without_scripts(browser: &Browser, world: &World, path: &str) -> Result<()> {
    let url = format!("{}{path}", origin(world));
    let live = browser.page(&Look::default())?;
    let still = browser.page(&Look {
        scripts: false,
        ..Look::default()
    })?;
    let is_live = path != "/login";
    // Words tell of times, too: those may be other ones a moment later.
    wait_for("the same words with scripts and without", SOON, || {
        still.open_url(&url)?;
        live.open_url(&url)?;
        if is_live {
            // All that a script adds.
            wait_for("scripts to have run", SOON, || {
                let said = live.eval("document.querySelector('#live').innerText")?;
                ensure!(said == "Live.", "{said}");
                Ok(())
            })?;
        }
        let (with, without) = (live.eval(CONTENT)?, still.eval(CONTENT)?);
        ensure!(with == without, "{with}\n{without}");
        Ok(())
    })?;
    if !is_live {
        return Ok(());
    }
    still.click("#live a")?;
    still.loaded(&url)
}

#[test]
fn a_renewal_is_shown_without_a_reload_and_what_a_person_does_stays() -> Result<()> {
    with_browser(|browser| {
        story("page-live", &Settings::default(), |world| {
            first_issuance(world)?;
            let origin = origin(world);
            let fleet = watching(browser, &format!("{origin}/"))?;
            let certificate = watching(browser, &format!("{origin}/certificates/{MEDIA}"))?;
            shown_at(&fleet, "1")?;
            certificate.click("#on-sally summary")?;
            let unfolded = "document.querySelector('#on-sally').open && !document.querySelector('#on-esme').open";
            ensure!(certificate.eval(unfolded)? == true, "it can't be unfolded");

            let renew = ["certificates", "renew", MEDIA];
            world.issuer.certwell(&renew)?.success("renew")?;
            shown_at(&fleet, "2")?;
            wait_for("the certificate's page", SOON, || {
                let facts =
                    certificate.eval("document.querySelector('#on-sally .facts').innerText")?;
                ensure!(
                    facts
                        .as_str()
                        .is_some_and(|text| text.matches("2 ·").count() == 7),
                    "{facts}"
                );
                Ok(())
            })?;
            ensure!(
                certificate.eval(unfolded)? == true,
                "what was unfolded is folded"
            );
            let focus = certificate.eval("document.activeElement.closest('details').id")?;
            ensure!(focus == "on-sally", "the focus went to {focus}");
            for page in [&fleet, &certificate] {
                ensure!(page.eval("window.stayed")? == true, "it was loaded anew");
                let wrong = judge::wrong(page)?;
                ensure!(wrong.is_empty(), "{wrong:?}");
            }

            says_that_the_issuer_is_gone(world, &fleet)?;
            ensure!(fleet.eval("window.stayed")? == true, "it was loaded anew");
            Ok(())
        })
    })
}

/// A page that nothing but the issuer's word changes: the clock that it goes by besides is taken away.
pub(crate) fn watching<'a>(browser: &'a Browser, url: &str) -> Result<Page<'a>> {
    let page = browser.page(&Look::default())?;
    page.before_each("window.setInterval = () => 0;")?;
    page.open_url(url)?;
    page.eval("window.stayed = true")?;
    Ok(page)
}

fn says_that_the_issuer_is_gone(world: &mut World, page: &Page<'_>) -> Result<()> {
    let says = |words: &str| {
        wait_for(&format!("{words:?} to be said"), SOON, || {
            let said: Value = page.eval("document.querySelector('#live').innerText")?;
            ensure!(
                said.as_str().is_some_and(|said| said.contains(words)),
                "{said}"
            );
            Ok(())
        })
    };
    says("Live.")?;
    world.issuer.stop();
    says("can’t be reached")?;
    world.issuer.serve()?;
    says("Live.")
}
