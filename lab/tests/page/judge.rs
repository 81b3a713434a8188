//! What every page must be, in whichever light, on whichever screen; and whether the judge sees what is wrong.

use anyhow::{Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use certwell_lab::{
    browser::{Browser, Light, Look, Page, log_in},
    wait_for,
};

use crate::SOON;

const SHOWN: &str = include_str!("judge.js");
/// What somebody uses, by the browser's own account of the page.
const CONTROLS: [&str; 12] = [
    "button",
    "link",
    "textbox",
    "combobox",
    "listbox",
    "checkbox",
    "radio",
    "searchbox",
    "spinbutton",
    "DisclosureTriangle",
    "region",
    "navigation",
];
/// All that a page may ask for, each of its own origin.
const KINDS: [&str; 5] = ["Document", "Stylesheet", "Script", "EventSource", "Fetch"];

/// What is wrong with what a tab shows.
pub(crate) fn wrong(page: &Page<'_>) -> Result<Vec<String>> {
    let found = page.eval(SHOWN)?;
    let mut wrong: Vec<String> = serde_json::from_value(found)?;
    let parts = page.accessible()?;
    let nameless = parts
        .iter()
        .filter(|(role, name)| CONTROLS.contains(&role.as_str()) && name.is_empty());
    wrong.extend(nameless.map(|(role, _)| format!("name: a {role} has none")));
    wrong.extend(page.complaints());
    Ok(wrong)
}

/// Each way to look at a page: either light, a desk and a phone, on which nothing moves.
pub(crate) fn looks() -> Vec<Look> {
    let look = |light, width, still| Look {
        light,
        width,
        still,
        ..Look::default()
    };
    vec![
        look(Light::Light, 1280, false),
        look(Light::Dark, 360, true),
        look(Light::Dark, 1280, false),
        look(Light::Light, 360, true),
    ]
}

/// Opens each of these pages in each of these looks, and tells all that is wrong with them.
pub(crate) fn judge(
    browser: &Browser,
    looks: &[Look],
    origin: &str,
    paths: &[String],
    token: Option<&str>,
) -> Result<()> {
    let mut wrong_at = Vec::new();
    for look in looks {
        let page = browser.page(look)?;
        if let Some(token) = token {
            log_in(&page, origin, token)?;
        }
        for path in paths {
            let url = format!("{origin}{path}");
            page.requests();
            page.open_url(&url)?;
            let mut found = wrong(&page)?;
            let requests = page.requests();
            ensure!(!requests.is_empty(), "{path} was asked for in silence");
            found.extend(requests.iter().filter_map(|request| {
                let own = request.url.starts_with(&format!("{origin}/"))
                    && KINDS.contains(&request.kind.as_str());
                (!own).then(|| format!("network: {} {}", request.kind, request.url))
            }));
            wrong_at.extend(found.iter().map(|what| format!("{path} ({look}): {what}")));
        }
    }
    ensure!(wrong_at.is_empty(), "{}", wrong_at.join("\n"));
    Ok(())
}

const FINE: &str = "<!doctype html><html lang=en><head><title>T</title>\
    <meta name=viewport content='width=device-width'>\
    <style>body{background:#fff;color:#000;margin:0} MORE</style></head>\
    <body><main><h1>One</h1> BODY</main></body></html>";

#[test]
fn the_judge_sees_each_flaw() -> Result<()> {
    crate::with_browser(|browser| {
        let look = Look {
            width: 360,
            still: true,
            ..Look::default()
        };
        let page = browser.page(&look)?;
        // A tab is as wide as its screen only once something was loaded in it.
        page.open_url("about:blank")?;
        for (flaw, style, body) in [
            ("", "", "<p>fine</p>"),
            ("", "p{color:#767676}", "<p>just dark enough</p>"),
            ("", "p{color:#949494;font-size:24px}", "<p>large</p>"),
            ("contrast: 4.48", "p{color:#777}", "<p>pale</p>"),
            ("contrast: ", "p{color:#949494}", "<p>not large</p>"),
            ("contrast: ", "p{color:#000;opacity:.4}", "<p>half gone</p>"),
            ("contrast: ", "main{background:#333}", "<p>dark on dark</p>"),
            (
                "contrast: ",
                "text{fill:#999}",
                "<svg><text y=20>drawn</text></svg>",
            ),
            (
                "contrast: ",
                "p{color:#999}",
                "<details><summary>s</summary><p>folded</p></details>",
            ),
            ("overflow: ", "p{width:361px}", "<p>wide</p>"),
            (
                "overflow: ",
                "p{width:361px}",
                "<details><summary>s</summary><p>wide</p></details>",
            ),
            ("colour alone: ", "", "<p class=bad>!</p>"),
            (
                "colour alone: “same”",
                "",
                "<b class='mark bad'>same</b> <b class='mark good'>same</b>",
            ),
            (
                "colour alone: a link",
                "a{text-decoration:none}",
                "<p><a href=/x>x</a></p>",
            ),
            ("name: a textbox", "", "<input>"),
            ("name: a button", "", "<button></button>"),
            ("name: a link", "", "<a href=/x></a>"),
            ("structure: two #x", "", "<p id=x>a</p><p id=x>b</p>"),
            ("structure: ", "", "<p aria-describedby=x>a</p>"),
            ("structure: not 1 <h1>", "", "<h1>Two</h1>"),
            ("motion: ", "p{transition:color 1s}", "<p>slow</p>"),
            (
                "motion: ",
                "@keyframes k{to{color:#111}} p{animation:k 1s infinite}",
                "<p>restless</p>",
            ),
        ] {
            page.set_content(&FINE.replace("MORE", style).replace("BODY", body))?;
            let wrong = wrong(&page)?;
            let seen = match flaw {
                "" => wrong.is_empty(),
                flaw => !wrong.is_empty() && wrong.iter().all(|one| one.starts_with(flaw)),
            };
            ensure!(seen, "{style} {body}: {flaw:?} expected, {wrong:?} found");
        }
        let shrunken = FINE.replace("<meta name=viewport content='width=device-width'>", "");
        page.open_url(&format!(
            "data:text/html;base64,{}",
            STANDARD.encode(shrunken)
        ))?;
        let wrong = wrong(&page)?;
        ensure!(
            wrong
                .iter()
                .any(|one| one.starts_with("screen: 980 px on 360")),
            "a shrunken desk: {wrong:?}"
        );
        Ok(())
    })
}

#[test]
fn whatever_a_browser_complains_of_is_heard() -> Result<()> {
    crate::with_browser(|browser| {
        let page = browser.page(&Look::default())?;
        for (words, done) in [
            ("an error", "console.error('an error')"),
            ("thrown", "setTimeout(() => { throw new Error('thrown') })"),
            (
                "Content Security Policy",
                "document.head.innerHTML = `<meta http-equiv=content-security-policy content=\"style-src 'self'\">`; \
                document.body.innerHTML = '<p style=\"color: red\">red</p>'",
            ),
        ] {
            page.open_url("about:blank")?;
            ensure!(page.complaints().is_empty());
            page.eval(&format!("{done}; 0"))?;
            let mut heard = Vec::new();
            wait_for(words, SOON, || {
                heard.extend(page.complaints());
                let found = heard.iter().any(|one| one.contains(words));
                ensure!(found, "{heard:?}");
                Ok(())
            })?;
        }
        Ok(())
    })
}
