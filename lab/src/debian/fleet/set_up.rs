//! How a booted fleet comes to serve: what a person does by the README.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{EDGES, FRITZ, Fleet, SITE, SOON};
use crate::{
    certs::Pair,
    debian::{Machine, world::ZONE},
    issuer::find_token,
    program::Output,
    settings::MEDIA,
};

const RECOVERY: &str = "recovery.key";
/// Installing a package on a busy machine.
const INSTALL: Duration = Duration::from_secs(120);

impl Fleet {
    /// Installs the packages, sets the issuer up, and has every edge enroll: as the README says.
    ///
    /// # Errors
    /// When a step fails.
    pub fn set_up(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
        tell("installing the packages on five hosts");
        thread::scope(|scope| {
            let installs: Vec<_> = self
                .edges
                .iter()
                .map(|edge| (edge, &self.packages.agent))
                .chain([(&self.fritz, &self.packages.issuer)])
                .map(|(machine, package)| scope.spawn(move || install(machine, package)))
                .collect();
            installs.into_iter().try_for_each(|done| {
                let installed = done.join();
                installed
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    .map(drop)
            })
        })?;
        tell("fritz: certwell-issuer init, hosts and an authority in conf.d");
        self.init_issuer()?;
        for edge in &self.edges {
            tell(&format!("{}: certwell-agent enroll", edge.name));
            self.enroll(edge)?;
            edge.shell("certwell-agent doctor --fix-include --yes")?;
        }
        Ok(())
    }

    /// `certwell-issuer init`, the declarations of CA and hosts, and its start.
    ///
    /// # Errors
    /// When a step fails.
    pub fn init_issuer(&self) -> Result<String> {
        let endpoint = format!("{FRITZ}.{ZONE}:7443");
        let said = self
            .fritz
            .run([
                "certwell-issuer",
                "init",
                "--fleet",
                "hachyderm",
                "--endpoint",
                &endpoint,
            ])?
            .success("certwell-issuer init")?;
        // As a person keeps it: elsewhere.
        fs::write(self.directory().join(RECOVERY), &said.stdout)?;
        self.declare_world()?;
        self.fritz
            .shell("systemctl enable --now certwell-issuer.service")?;
        Ok(said.stdout + &said.stderr)
    }

    /// The recovery key that `certwell-issuer init` printed.
    ///
    /// # Errors
    /// When there was no `init`.
    pub fn recovery_key(&self) -> Result<String> {
        let said = fs::read_to_string(self.directory().join(RECOVERY))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// Declares the CA and the hosts on fritz.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn declare_world(&self) -> Result<()> {
        self.fritz
            .write("/etc/certwell/pebble-roots.pem", self.world.roots()?)?;
        self.declare(
            "00-authority",
            &format!(
                "[authority.pebble]\ndirectory = {:?}\ncontact = [\"mailto:ops@hachyderm.io\"]\nroots = \
                 \"/etc/certwell/pebble-roots.pem\"\n",
                self.world.directory()
            ),
        )?;
        let hosts: String = EDGES
            .iter()
            .map(|(name, _)| format!("[host.{name}]\nlabels = [\"edge\"]\n"))
            .collect();
        self.declare("10-hosts", &hosts)
    }

    /// Writes a file of `conf.d`, as an editor does: beside, then in its place.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn declare(&self, name: &str, toml: &str) -> Result<()> {
        let at = format!("/etc/certwell/conf.d/{name}.toml");
        self.fritz.write(&format!("{at}.new"), toml)?;
        fs::rename(self.fritz.path(&format!("{at}.new")), self.fritz.path(&at))?;
        Ok(())
    }

    /// A token from fritz, and `certwell-agent enroll` with it.
    ///
    /// # Errors
    /// When it fails.
    pub fn enroll(&self, edge: &Machine) -> Result<Output> {
        let token = self.token(&edge.name)?;
        edge.run_with(["certwell-agent", "enroll", "-"], &token, SOON)?
            .success(&format!("{}: certwell-agent enroll", edge.name))
    }

    /// A join token for a host.
    ///
    /// # Errors
    /// When the issuer gives none.
    pub fn token(&self, host: &str) -> Result<String> {
        let said = self
            .certwell(&["token", "create", "--host", host])?
            .success("certwell token create")?;
        find_token(&said.stdout)
    }
}

/// Installs a package on a host, as `apt install ./FILE` does where all it needs is there.
///
/// # Errors
/// When it fails.
pub fn install(machine: &Machine, package: &Path) -> Result<Output> {
    let file = package.file_name().unwrap_or_default().to_string_lossy();
    let at = format!("/root/{file}");
    fs::copy(package, machine.path(&at))
        .with_context(|| format!("{} to {}", file, machine.name))?;
    machine
        .run_with(["apt-get", "install", "-y", &at], "", INSTALL)?
        .success(&format!("{}: apt-get install {at}", machine.name))
}

/// The vhost of a name on an edge.
pub fn site(name: &str) -> String {
    SITE.replace(MEDIA, name)
}

/// A host that is to be the issuer's alone.
///
/// # Errors
/// When a link can't be made.
pub fn bare_issuer(fritz: &Machine) -> Result<()> {
    for unit in ["nginx.service", "ssh.service"] {
        fritz.mask(unit)?;
    }
    Ok(())
}

/// What that night's edges served, at the place that the packages' links will take.
pub(super) fn serve_expired(edge: &Machine) -> Result<()> {
    let pair = Pair::expired(&[MEDIA.to_owned()])?;
    let live = format!("/etc/certwell/live/{MEDIA}");
    edge.write(&format!("{live}/fullchain.pem"), &pair.certificate)?;
    edge.write_as(&format!("{live}/privkey.pem"), &pair.key, 0o600)?;
    edge.write("/var/www/media/index.html", "an image\n")?;
    // Until somebody makes it keys.
    edge.mask("ssh.service")?;
    edge.write("/etc/nginx/sites-enabled/media", SITE)
}
