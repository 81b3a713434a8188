//! Whom certwell tells: a webhook of the kind that the page names, heard by the lab.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use certwell_lab::{
    certs::LabRoot,
    debian::{Machine, fleet::SOON, network::OBSERVER},
    receivers::HttpReceiver,
};

/// As it stands on the page.
pub(crate) const URL: &str = "https://discord.com/api/webhooks/ID/TOKEN";
const PORT: u16 = 8443;

/// A channel, and the root that its HTTPS is certified by.
pub(crate) struct Chat {
    server: HttpReceiver,
    root: LabRoot,
}

impl Chat {
    pub(crate) fn open() -> Result<Self> {
        let root = LabRoot::new()?;
        let server = HttpReceiver::start_tls(SocketAddr::from((OBSERVER, PORT)), &root)?;
        Ok(Self { server, root })
    }

    /// The URL of its webhook here.
    pub(crate) fn url(&self) -> String {
        self.server.url("/api/webhooks/1/secret")
    }

    /// A machine takes its certificate as it would take Discord's.
    pub(crate) fn trusted_by(&self, machine: &Machine) -> Result<()> {
        machine.write("/usr/local/share/ca-certificates/chat.crt", self.root.pem())?;
        machine.shell("update-ca-certificates")?;
        Ok(())
    }

    /// Waits until one message holds all of these words.
    pub(crate) fn hears(&self, words: &[&str]) -> Result<()> {
        let holds = |body: &[u8]| {
            let text = String::from_utf8_lossy(body);
            words.iter().all(|word| text.contains(word))
        };
        let heard = self
            .server
            .wait_for(&format!("{words:?} in the channel"), SOON, |all| {
                all.iter().find(|one| holds(&one.body)).cloned()
            })?;
        ensure!(heard.accepted, "{heard:?}");
        Ok(())
    }
}
