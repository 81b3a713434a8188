//! Debian's Alertmanager, asked by its own API what it has.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{ports::ensure_free, probe, process::Process, program::Program, wait_for};

const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

/// A running one. It ends when dropped.
#[derive(Debug)]
pub struct Alertmanager {
    address: SocketAddr,
    _process: Process,
}

impl Alertmanager {
    /// Starts it with its files in `home`. It tells nobody, unless `webhook` is the URL to tell.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(address: SocketAddr, home: &Path, webhook: Option<&str>) -> Result<Self> {
        ensure_free(address, "an Alertmanager")?;
        let directory = home.join(format!("alertmanager-{}", address.ip()));
        fs::create_dir_all(&directory)?;
        let told = webhook.map_or(String::new(), |url| {
            format!("\n    webhook_configs:\n      - url: {url:?}\n        send_resolved: true")
        });
        let config = format!(
            "route:\n  receiver: lab\n  group_by: [key]\n  group_wait: 1s\n  group_interval: 1s\nreceivers:\n  - name: lab{told}\n"
        );
        let file = directory.join("alertmanager.yml");
        fs::write(&file, config)?;
        let program = Program::new(
            "alertmanager",
            PROGRAM,
            [
                format!("--config.file={}", file.display()),
                format!("--storage.path={}", directory.join("data").display()),
                format!("--web.listen-address={address}"),
                // Alone: no gossip.
                "--cluster.listen-address=".to_owned(),
            ],
        );
        let log = home.join("alertmanager.log");
        let mut process = Process::start(&program, home, &log)?;
        let up = || {
            let (status, _) = probe::http_get(address, "alertmanager", "/-/ready")?;
            ensure!(status == 200, "it answers {status}");
            Ok(())
        };
        process.ready(Duration::from_secs(20), up)?;
        Ok(Self {
            address,
            _process: process,
        })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The alerts that fire there now.
    ///
    /// # Errors
    /// When it doesn't answer.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let (status, body) =
            probe::http_get(self.address, "alertmanager", "/api/v2/alerts?active=true")?;
        ensure!(status == 200, "it answers {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    /// Waits until `look` finds what it looks for in the alerts that fire.
    ///
    /// # Errors
    /// When it doesn't come in time.
    pub fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&[Value]) -> Option<T>,
    ) -> Result<T> {
        wait_for(what, within, || {
            let alerts = self.alerts()?;
            look(&alerts).ok_or_else(|| anyhow::anyhow!("{alerts:?}"))
        })
    }
}
