//! 200 hosts, 50 certificates: all that isn't well is found, and no page outgrows what a browser bears.

use anyhow::{Result, ensure};
use certwell_lab::{
    Settings, World,
    browser::{Browser, Look},
    story, wait_for,
};

use crate::{
    ALERTS, SOON,
    crowd::{self, CERTIFICATES, Crowd, HOSTS},
    judge, opened, origin, token, with_browser,
};

/// So much HTML at most, in KiB, of the pages that are of so many hosts, or certificates.
const LIMITS: [(&str, usize); 7] = [
    ("/", 320),
    ("/hosts", 128),
    ("/certificates/c03.example.org", 768),
    ("/hosts/edge-007", 256),
    ("/inventory", 320),
    ("/alerts", 64),
    ("/events", 64),
];
/// What the last answer took, and how much it was: of the issuer, of the browser, bytes.
const COST: &str = "(() => { const of = performance.getEntriesByType('navigation')[0]; \
    return [of.responseEnd - of.requestStart, of.loadEventEnd - of.responseEnd, of.decodedBodySize]; })()";

#[test]
fn of_200_hosts_and_50_certificates_what_is_not_well_is_seen_at_one_glance() -> Result<()> {
    with_browser(|browser| {
        let nobody = Settings {
            hosts: Vec::new(),
            sites: Vec::new(),
            // They all speak at once.
            log_filter: "info".into(),
            ..Settings::default()
        };
        story("page-large", &nobody, |world| {
            world.issuer.declare("30-alerts", ALERTS)?;
            let _crowd = Crowd::joins(world)?;
            opened(world, "install-failing")?;
            troubles_are_seen(browser, world)?;
            let paths = LIMITS.map(|(path, _)| path.to_owned());
            judge::judge(
                browser,
                &judge::looks()[..2],
                &origin(world),
                &paths,
                Some(&token(world)?),
            )?;
            pages_are_small(browser, world)
        })
    })
}

fn troubles_are_seen(browser: &Browser, world: &World) -> Result<()> {
    let page = browser.page(&Look::default())?;
    page.open_url(&format!("{}/", origin(world)))?;
    let text = |selector: &str| {
        let found = page.eval(&format!(
            "document.querySelector({selector:?})?.innerText ?? ''"
        ))?;
        Ok::<_, anyhow::Error>(found.as_str().unwrap_or_default().to_owned())
    };
    // Of those that never came 50 cells each, of one 20, of three another.
    wait_for("the counts of the whole fleet", SOON, || {
        let lines = page.eval("document.querySelectorAll('.summary > li').length")?;
        ensure!(lines == CERTIFICATES, "{lines}");
        let said = text(".summary")?;
        let sum = |word: &str| -> usize {
            let words: Vec<&str> = said.split_whitespace().collect();
            let pairs = words.windows(2).filter(|pair| pair[1] == word);
            pairs.filter_map(|pair| pair[0].parse::<usize>().ok()).sum()
        };
        let found = ["failed", "held", "silent", "converged"].map(sum);
        let troubled = [crowd::FAILED, crowd::HELD, crowd::ABSENT * CERTIFICATES];
        let converged = HOSTS * CERTIFICATES - troubled.iter().sum::<usize>();
        ensure!(found[..3] == troubled && found[3] == converged, "{found:?}");
        Ok(())
    })?;
    let first = text(".summary > li")?;
    ensure!(
        first.contains("edge-007") && first.contains("key values mismatch"),
        "{first}"
    );
    let hosts = text("p.hosts")?;
    let there = HOSTS - crowd::ABSENT;
    ensure!(
        hosts.starts_with(&format!("{there} of {HOSTS} hosts are connected")),
        "{hosts}"
    );
    Ok(())
}

fn pages_are_small(browser: &Browser, world: &World) -> Result<()> {
    let page = browser.page(&Look::default())?;
    let mut too_large = Vec::new();
    for (path, limit) in LIMITS {
        page.open_url(&format!("{}{path}", origin(world)))?;
        let cost = page.eval(COST)?;
        let number = |at: usize| cost[at].as_f64().unwrap_or(f64::MAX);
        let kib = number(2) / 1024.0;
        println!(
            "{path:<32} {kib:>4.0} KiB, limit {limit}; issuer {:>4.0} ms, browser {:>4.0} ms",
            number(0),
            number(1)
        );
        if kib > limit as f64 {
            too_large.push(format!("{path}: {kib:.0} KiB, limit {limit}"));
        }
    }
    ensure!(too_large.is_empty(), "{too_large:?}");
    Ok(())
}
