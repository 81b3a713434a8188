//! The ACME CA of a world: Pebble, with a certificate of the lab's own root.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    certs::LabRoot,
    ports::{Net, ensure_free},
    probe::https_get,
    process::Process,
    program::Program,
};

/// A running Pebble.
#[derive(Debug)]
pub struct Ca {
    address: SocketAddr,
    process: Process,
    roots: PathBuf,
    issuing_root: Vec<u8>,
}

impl Ca {
    /// Starts it and waits until it answers. Certificates live for `validity`, or for Pebble's five years.
    ///
    /// # Errors
    /// When it doesn't come up.
    pub fn start(
        net: &Net,
        home: &Path,
        root: &LabRoot,
        validity: Option<Duration>,
    ) -> Result<Self> {
        let (listen, management) = (net.ca(), net.ca_management());
        ensure_free(listen, "Pebble")?;
        ensure_free(management, "Pebble's management")?;
        let directory = home.join("ca");
        fs::create_dir_all(&directory)?;
        let pair = root.server(listen.ip())?;
        fs::write(directory.join("cert.pem"), &pair.certificate)?;
        fs::write(directory.join("key.pem"), &pair.key)?;
        let mut config = json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": directory.join("cert.pem"),
            "privateKey": directory.join("key.pem"),
            "httpPort": net.http_port(),
            "tlsPort": 5001,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        if let Some(validity) = validity {
            config["pebble"]["certificateValidityPeriod"] = json!(validity.as_secs());
        }
        let file = directory.join("pebble.json");
        fs::write(&file, config.to_string())?;
        let program = Program::new(
            "pebble",
            "pebble",
            [
                "-config",
                &file.display().to_string(),
                "-strict",
                "-dnsserver",
                &net.dns().to_string(),
            ],
        )
        // Rejected nonces and pauses at random are no subject of these tests; reused authorizations would make
        // the number of validations a matter of luck.
        .env("PEBBLE_WFE_NONCEREJECT", "0")
        .env("PEBBLE_VA_NOSLEEP", "1")
        .env("PEBBLE_AUTHZREUSE", "0");
        let mut process = Process::start(&program, home, &home.join("pebble.log"))?;
        let pem = process.ready(Duration::from_secs(10), || {
            https_get(management, "/roots/0")
        })?;
        let roots = directory.join("roots.pem");
        fs::write(
            &roots,
            format!("{}{}", root.pem(), String::from_utf8_lossy(&pem)),
        )?;
        let issuing_root = certwell_proto::pem::read_certificates(&pem)
            .ok()
            .and_then(|list| list.first().map(|der| der.to_vec()))
            .context("Pebble's management shows no root certificate")?;
        Ok(Self {
            address: listen,
            process,
            roots,
            issuing_root,
        })
    }

    /// Its ACME directory.
    pub fn directory(&self) -> String {
        directory_at(self.address)
    }

    /// PEM file for `authority.NAME.roots`: the lab's root and the one that Pebble issues from.
    pub fn roots(&self) -> &Path {
        &self.roots
    }

    /// DER of the root that its chains lead to.
    pub fn issuing_root(&self) -> &[u8] {
        &self.issuing_root
    }

    /// How many orders it has taken.
    pub fn orders(&self) -> usize {
        self.count("Added order ")
    }

    /// How many certificates it has issued, one for each finalized order.
    pub fn issued(&self) -> usize {
        self.count("Issued certificate serial ")
    }

    /// How many new accounts it has made.
    pub fn accounts(&self) -> usize {
        self.count("accounts in memory")
    }

    /// How many HTTP-01 validations it has begun, three requests each.
    pub fn validations(&self) -> usize {
        self.count("Pulled a task from the Tasks queue")
    }

    /// Stops answering, as when the network is gone.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Answers again.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    fn count(&self, words: &str) -> usize {
        fs::read_to_string(self.process.log())
            .unwrap_or_default()
            .matches(words)
            .count()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// The directory's URL of a Pebble, or of a gate before it, at `address`.
pub(crate) fn directory_at(address: SocketAddr) -> String {
    format!("https://{address}/dir")
}
