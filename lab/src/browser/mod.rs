//! Headless Chromium, driven by its DevTools protocol over a pair of pipes: no port that others could reach, no
//! WebSocket, and it ends when the pipes do, whatever becomes of the lab.
//!
//! ```text
//! connection  the process, its calls and what it tells
//! page        a tab of its own cookies, with a screen, a taste in light and motion, scripts or none
//! ```

mod connection;
mod page;

use std::{cell::RefCell, env, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use self::connection::Connection;
use crate::wait::wait_for;

pub use page::{Light, Look, Page, Request};

/// Logs in to the issuer's page at `origin`, as a person does it: by the form.
///
/// # Errors
/// When it isn't let in.
pub fn log_in(page: &Page<'_>, origin: &str, token: &str) -> Result<()> {
    page.open_url(&format!("{origin}/login"))?;
    // It gets the focus by itself, when the page is drawn first.
    wait_for("the focus", Duration::from_secs(30), || {
        let focus = page.eval("document.activeElement.id")?;
        ensure!(focus == "token", "{focus} has it");
        Ok(())
    })?;
    page.type_text(token)?;
    page.press("Enter")?;
    page.loaded(&format!("{origin}/"))
}

/// Debian's package and program of the same name.
const PROGRAM: &str = "chromium-headless-shell";

/// A running browser. It ends, with its profile, when it is dropped.
pub struct Browser {
    connection: RefCell<Connection>,
    // After the process that writes into it.
    _profile: TempDir,
}

impl Browser {
    /// Whether there is one to start.
    pub fn is_installed() -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|directory| directory.join(PROGRAM).exists())
    }

    /// Starts it with an empty profile.
    ///
    /// # Errors
    /// When it isn't installed, or doesn't come up.
    pub fn start() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let connection = Connection::start(PROGRAM, profile.path())
            .with_context(|| format!("{PROGRAM}; lab/setup.sh test installs it"))?;
        Ok(Self {
            connection: RefCell::new(connection),
            _profile: profile,
        })
    }

    /// An empty tab that shares nothing with others.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn page(&self, look: &Look) -> Result<Page<'_>> {
        let mut connection = self.connection.borrow_mut();
        let context = connection.browser("Target.createBrowserContext", json!({}))?;
        let context = connection::text(&context, "browserContextId")?;
        let target = connection.browser(
            "Target.createTarget",
            json!({"url": "about:blank", "browserContextId": context}),
        )?;
        let target = connection::text(&target, "targetId")?;
        let attached = connection.browser(
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        )?;
        let session = connection::text(&attached, "sessionId")?;
        drop(connection);
        Page::open(&self.connection, context, session, look)
    }
}
