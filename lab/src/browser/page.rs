//! One tab.

use std::{cell::RefCell, fmt, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::connection::{Connection, text};
use crate::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(30);
/// A screen below this is a phone's.
const PHONE: u32 = 500;

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// Dark ink on a light ground.
    Light,
    /// Light ink on a dark ground.
    Dark,
}

/// Who looks, and by what.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// What the system prefers.
    pub light: Light,
    /// Of the screen, in pixels.
    pub width: u32,
    /// Whether scripts run.
    pub scripts: bool,
    /// Whether the system prefers that nothing moves.
    pub still: bool,
    /// Physical pixels for each.
    pub scale: u32,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            light: Light::Light,
            width: 1280,
            scripts: true,
            still: false,
            scale: 1,
        }
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scripts = if self.scripts { "" } else { ", no scripts" };
        write!(f, "{:?}, {} px{scripts}", self.light, self.width)
    }
}

/// Something that was asked for over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Of the browser's kinds: `Document`, `Stylesheet`, `EventSource` …
    pub kind: String,
    /// Whole.
    pub url: String,
}

/// A tab.
pub struct Page<'a> {
    connection: &'a RefCell<Connection>,
    context: String,
    session: String,
    requests: RefCell<Vec<Request>>,
    complaints: RefCell<Vec<String>>,
}

impl<'a> Page<'a> {
    pub(super) fn open(
        connection: &'a RefCell<Connection>,
        context: String,
        session: String,
        look: &Look,
    ) -> Result<Self> {
        let page = Self {
            connection,
            context,
            session,
            requests: RefCell::default(),
            complaints: RefCell::default(),
        };
        for domain in ["Page", "Runtime", "Network", "Log", "Audits"] {
            page.call(&format!("{domain}.enable"), json!({}))?;
        }
        // The window of the system would have to be in front.
        page.call(
            "Emulation.setFocusEmulationEnabled",
            json!({"enabled": true}),
        )?;
        page.look(look)?;
        Ok(page)
    }

    /// From now on it is looked at like this; scripts are for the next page that is opened.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn look(&self, look: &Look) -> Result<()> {
        let phone = look.width < PHONE;
        let height = if phone { 740 } else { 900 };
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({
                "width": look.width, "height": height, "screenWidth": look.width, "screenHeight": height,
                "deviceScaleFactor": look.scale, "mobile": phone,
            }),
        )?;
        // They would take some of the width, on some systems.
        self.call("Emulation.setScrollbarsHidden", json!({"hidden": true}))?;
        let light = match look.light {
            Light::Light => "light",
            Light::Dark => "dark",
        };
        let motion = if look.still {
            "reduce"
        } else {
            "no-preference"
        };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [
                {"name": "prefers-color-scheme", "value": light},
                {"name": "prefers-reduced-motion", "value": motion},
            ]}),
        )?;
        self.call(
            "Emulation.setScriptExecutionDisabled",
            json!({"value": !look.scripts}),
        )?;
        Ok(())
    }

    /// Goes there, and waits until all of it is loaded.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn open_url(&self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({"url": url}))?;
        if let Some(error) = gone.get("errorText").and_then(Value::as_str) {
            bail!("{url}: {error}");
        }
        self.loaded(url)
    }

    /// Waits until it is at a URL, and all of it is loaded.
    ///
    /// # Errors
    /// When it doesn't get there in time.
    pub fn loaded(&self, url: &str) -> Result<()> {
        wait_for(&format!("{url} to be loaded"), PATIENCE, || {
            let at = self.eval("[location.href, document.readyState]")?;
            ensure!(at == json!([url, "complete"]), "{at}");
            Ok(())
        })
    }

    /// Text in the place of a page from the network.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn set_content(&self, html: &str) -> Result<()> {
        let tree = self.call("Page.getFrameTree", json!({}))?;
        let frame = text(&tree["frameTree"]["frame"], "id")?;
        self.call(
            "Page.setDocumentContent",
            json!({"frameId": frame, "html": html}),
        )?;
        Ok(())
    }

    /// What an expression comes to, as JSON; it is ours, not the page's, and runs where the page's scripts don't.
    ///
    /// # Errors
    /// When it throws.
    pub fn eval(&self, expression: &str) -> Result<Value> {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        )?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            let what = &thrown["exception"]["description"];
            bail!("{expression} threw {what}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// What runs in each page that is opened from now on, before anything of its own.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn before_each(&self, source: &str) -> Result<()> {
        self.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": source}),
        )?;
        Ok(())
    }

    /// Clicks in the middle of what a selector finds, where it comes to lie on the screen.
    ///
    /// # Errors
    /// When nothing of it can be clicked on.
    pub fn click(&self, selector: &str) -> Result<()> {
        let place = self.eval(&format!(
            "(() => {{ const one = document.querySelector({selector:?}); one.scrollIntoView({{ block: 'center' }}); \
             const box = one.getBoundingClientRect(); \
             const [x, y] = [box.x + box.width / 2, box.y + box.height / 2]; \
             return one.contains(document.elementFromPoint(x, y)) ? [x, y] : 'something else lies there'; }})()"
        ))?;
        ensure!(place.is_array(), "{selector}: {place}");
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}),
            )?;
        }
        Ok(())
    }

    /// Presses and releases a key: `Tab`, `Enter` or `Space`.
    ///
    /// # Errors
    /// When there is no such key here.
    pub fn press(&self, key: &str) -> Result<()> {
        let (key, code, number, text) = match key {
            "Tab" => ("Tab", "Tab", 9, ""),
            "Enter" => ("Enter", "Enter", 13, "\r"),
            "Space" => (" ", "Space", 32, " "),
            other => bail!("no key {other}"),
        };
        let mut event = json!({
            "type": if text.is_empty() { "rawKeyDown" } else { "keyDown" },
            "key": key, "code": code, "windowsVirtualKeyCode": number, "text": text,
        });
        self.call("Input.dispatchKeyEvent", event.clone())?;
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event)?;
        Ok(())
    }

    /// Types text where the focus is.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.call("Input.insertText", json!({"text": text}))?;
        Ok(())
    }

    /// Everything that those hear who can't see: role and name of each part of the page.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn accessible(&self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}))?;
        let nodes = tree["nodes"].as_array().context("no nodes")?;
        let said = |node: &Value, what: &str| {
            let value = node[what]["value"].as_str().unwrap_or_default();
            value.trim().to_owned()
        };
        Ok(nodes
            .iter()
            .filter(|node| node["ignored"] != true)
            .map(|node| (said(node, "role"), said(node, "name")))
            .collect())
    }

    /// A picture: of the whole page, or of so many of its uppermost pixels. PNG.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn picture(&self, most: Option<u32>) -> Result<Vec<u8>> {
        // Of what is in it: its window may be higher.
        let size = self.eval(
            "(() => { const all = document.documentElement; \
             return [all.clientWidth, Math.ceil(all.getBoundingClientRect().height)]; })()",
        )?;
        let side = |at: usize| size[at].as_u64().context("no size");
        let (width, whole) = (side(0)?, side(1)?);
        let height = most.map_or(whole, |most| whole.min(u64::from(most)));
        let answer = self.call(
            "Page.captureScreenshot",
            json!({
                "format": "png", "captureBeyondViewport": true,
                "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
            }),
        )?;
        Ok(STANDARD.decode(text(&answer, "data")?)?)
    }

    /// All that was asked for over the network since it was asked last.
    pub fn requests(&self) -> Vec<Request> {
        self.hear();
        self.requests.take()
    }

    /// All that scripts and the browser complained of since it was asked last: errors, what the page's policy forbids,
    /// flaws that the browser itself finds.
    pub fn complaints(&self) -> Vec<String> {
        self.hear();
        self.complaints.take()
    }

    fn hear(&self) {
        let told = self.connection.borrow_mut().told(&self.session);
        for (method, params) in told {
            let complaint = match method.as_str() {
                "Network.requestWillBeSent" => {
                    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    self.requests.borrow_mut().push(Request {
                        kind: word(&params["type"]),
                        url: word(&params["request"]["url"]),
                    });
                    continue;
                }
                "Runtime.exceptionThrown" => {
                    &params["exceptionDetails"]["exception"]["description"]
                }
                "Runtime.consoleAPICalled" if params["type"] == "error" => &params["args"],
                "Log.entryAdded" if params["entry"]["level"] != "verbose" => &params["entry"],
                "Audits.issueAdded" => &params["issue"],
                _ => continue,
            };
            self.complaints.borrow_mut().push(complaint.to_string());
        }
    }

    fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.connection
            .borrow_mut()
            .tab(&self.session, method, params)
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        let _ = self.connection.borrow_mut().browser(
            "Target.disposeBrowserContext",
            json!({"browserContextId": self.context}),
        );
    }
}
