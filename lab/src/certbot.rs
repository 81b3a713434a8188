//! Debian's certbot on one host, with directories of its own: lineages as it really makes and renews them.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use certwell_proto::{Fingerprint, pem};

use crate::{
    program::{Output, Program},
    world::World,
};

/// It is written in Python, and this machine may be busy.
const COMMAND: Duration = Duration::from_secs(120);

/// A certbot that validates by a server of its own at one address.
#[derive(Debug)]
pub struct Certbot {
    world: PathBuf,
    directory: PathBuf,
    server: String,
    roots: PathBuf,
    address: IpAddr,
    port: u16,
}

impl Certbot {
    /// With `directory` in the place of `/etc/letsencrypt`; the DNS of a name that it is to validate must lead to
    /// [`Certbot::address`].
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn new(world: &World, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            world: world.directory().to_owned(),
            directory: directory.to_owned(),
            server: world.ca.directory(),
            roots: world.ca.roots().to_owned(),
            address: world.net.ip(9),
            port: world.net.http_port(),
        })
    }

    /// Where the CA finds it.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Runs it with a verb and its options.
    ///
    /// # Errors
    /// When it can't be run, or hangs.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let directory = self.directory.display().to_string();
        let work = self.world.join("certbot-work").display().to_string();
        let logs = self.world.join("certbot-logs").display().to_string();
        let (address, port) = (self.address.to_string(), self.port.to_string());
        let fixed = [
            "--non-interactive",
            "--config-dir",
            &directory,
            "--work-dir",
            &work,
            "--logs-dir",
            &logs,
            "--server",
            &self.server,
        ];
        let standalone = [
            "--http-01-address",
            &address,
            "--http-01-port",
            &port,
            // A renewal would begin after a pause of up to eight minutes otherwise.
            "--no-random-sleep-on-renew",
        ];
        let all = args
            .iter()
            .copied()
            .chain(fixed)
            .chain(standalone.into_iter().filter(|_| args[0] != "certificates"));
        Program::new("certbot", "certbot", all)
            .env("REQUESTS_CA_BUNDLE", self.roots.display().to_string())
            .run(&self.world, "", COMMAND)
    }

    /// `certbot certonly --standalone` for one name, with this kind of key.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn order(&self, name: &str, key_type: &str) -> Result<Output> {
        let options = [
            "certonly",
            "--standalone",
            "--agree-tos",
            "--register-unsafely-without-email",
        ];
        let more = ["--key-type", key_type, "-d", name];
        self.run(&[options.as_slice(), &more].concat())
    }

    /// A renewal that isn't due.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn renew_now(&self, lineage: &str) -> Result<Output> {
        self.run(&["renew", "--force-renewal", "--cert-name", lineage])
    }

    /// `live/LINEAGE`.
    pub fn live(&self, lineage: &str) -> PathBuf {
        self.directory.join("live").join(lineage)
    }

    /// `archive/LINEAGE`.
    pub fn archive(&self, lineage: &str) -> PathBuf {
        self.directory.join("archive").join(lineage)
    }

    /// `renewal/LINEAGE.conf`.
    pub fn conf(&self, lineage: &str) -> PathBuf {
        self.directory.join(format!("renewal/{lineage}.conf"))
    }

    /// The leaf in `archive/LINEAGE/certN.pem`.
    ///
    /// # Errors
    /// When there is none.
    pub fn leaf(&self, lineage: &str, number: u32) -> Result<Fingerprint> {
        let path = self.archive(lineage).join(format!("cert{number}.pem"));
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let leaf = pem::read_certificates(&text)?;
        Ok(Fingerprint::of(leaf.first().context("no certificate")?))
    }
}
