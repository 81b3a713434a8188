//! The fleet of the incident on whole hosts: the issuer's host, four edges with nginx and agent from the packages, and
//! the world around them.

use std::{env, fs, net::Ipv4Addr, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;

use super::{Machine, Network, Suite, Tree, Trees, World, groups, packages::Packages, world::ZONE};
use crate::{
    certs::Pair,
    issuer::find_token,
    paths::Home,
    probe::{self, Served},
    program::Output,
    settings::MEDIA,
    status::{Event, Status},
    wait::wait_for,
};

/// The issuer's host.
pub const FRITZ: &str = "fritz";
/// The edges, with the release that each runs.
pub const EDGES: [(&str, Suite); 4] = [
    ("cdn-frankfurt-1", Suite::Bookworm),
    ("cdn-fremont-1", Suite::Bookworm),
    ("sally", Suite::Bookworm),
    ("esme", Suite::Trixie),
];
const RECOVERY: &str = "recovery.key";
const WORLD_NUMBER: u8 = 2;
const FRITZ_NUMBER: u8 = 10;
const FIRST_EDGE: u8 = 11;
/// Installing a package on a busy machine.
const INSTALL: Duration = Duration::from_secs(120);
/// Longer than anything takes when all is well.
pub const SOON: Duration = Duration::from_secs(90);
const SITE: &str = include_str!("media.conf");
/// Of the issuer: mounted on fritz from a machine that its disk is no part of.
pub const BACKUPS: &str = "/var/backups/certwell-issuer";

/// Six hosts. They end when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// In the order of [`EDGES`].
    pub edges: Vec<Machine>,
    /// The issuer's host.
    pub fritz: Machine,
    /// CA and DNS.
    pub world: World,
    /// What is installed on them.
    pub packages: Packages,
    home: Home,
    keep: bool,
}

impl Fleet {
    /// Boots six bare hosts, with the packages' files at hand and nothing installed. Edges serve an expired certificate,
    /// as on that night. `validity` is how long the CA's certificates live.
    ///
    /// # Errors
    /// When one doesn't come up.
    pub fn boot(
        _inside: &Network,
        home: Home,
        trees: &Trees,
        packages: Packages,
        validity: Duration,
        tell: &(dyn Fn(&str) + Sync),
    ) -> Result<Self> {
        groups::remove_left();
        let directory = home.path().to_owned();
        let dns = Network::address(WORLD_NUMBER);
        let lay_out = |tree: Tree, name: &str, number: u8| {
            Machine::lay_out(&directory, trees.path(tree), name, number, dns)
        };
        let mut hosts = vec![(FRITZ, Network::address(FRITZ_NUMBER))];
        let mut edges = Vec::new();
        for ((name, suite), number) in EDGES.into_iter().zip(FIRST_EDGE..) {
            let edge = lay_out(Tree::Host(suite), name, number)?;
            serve_expired(&edge)?;
            hosts.push((name, edge.address));
            edges.push(edge);
        }
        let addresses: Vec<Ipv4Addr> = edges.iter().map(|edge| edge.address).collect();
        let world = lay_out(Tree::World, "world", WORLD_NUMBER)?;
        let world = World::lay_out(world, validity, &hosts, &addresses)?;
        let mut fritz = lay_out(Tree::Host(Suite::Bookworm), FRITZ, FRITZ_NUMBER)?;
        fritz.mount_lasting(BACKUPS)?;
        bare_issuer(&fritz)?;
        let mut fleet = Self {
            edges,
            fritz,
            world,
            packages,
            home,
            keep: true,
        };
        tell("booting six hosts");
        for machine in fleet.machines_mut() {
            machine.power_on()?;
        }
        for machine in fleet.machines_mut() {
            machine.booted()?;
        }
        fleet.world.ready()?;
        Ok(fleet)
    }

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

    /// `certwell` on fritz.
    ///
    /// # Errors
    /// When it can't be run.
    pub fn certwell(&self, args: &[&str]) -> Result<Output> {
        self.fritz
            .run(["certwell"].into_iter().chain(args.iter().copied()))
    }

    /// `certwell status --json` on fritz.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn status(&self) -> Result<Status> {
        let said = self.certwell(&["status", "--json"])?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("{}{}", said.stdout, said.stderr))
    }

    /// Every event on fritz so far, oldest first.
    ///
    /// # Errors
    /// When they can't be had.
    pub fn events(&self) -> Result<Vec<Event>> {
        let said = self
            .certwell(&["events", "--last", "0", "--json"])?
            .success("certwell events")?;
        said.stdout
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Asks for a renewal of a certificate now, as a person does.
    ///
    /// # Errors
    /// When the issuer refuses.
    pub fn renew(&self, certificate: &str) -> Result<()> {
        self.certwell(&["certificates", "renew", certificate])?
            .success("certwell certificates renew")
            .map(drop)
    }

    /// Waits until all hosts of the certificate that `wanted` picks serve `generation` or a later one, by `certwell
    /// status`.
    ///
    /// # Errors
    /// When it doesn't happen in time.
    pub fn converged(
        &self,
        certificate: &str,
        generation: u64,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<u64> {
        let what = format!("{certificate} converged at generation {generation} or later");
        wait_for(&what, within, || {
            let status = self.status()?;
            let found = status.certificate(certificate).context("not in status")?;
            let done =
                found.generation >= generation
                    && found
                        .hosts
                        .iter()
                        .filter(|host| wanted(&host.host))
                        .all(|host| {
                            host.state == "converged"
                                && host.facts.served.as_ref().is_some_and(|served| {
                                    served.generation == Some(found.generation)
                                })
                        });
            ensure!(done, "{}", found.states());
            Ok::<_, anyhow::Error>(found.generation)
        })
    }

    /// What an edge serves for a name, by a handshake from outside.
    ///
    /// # Errors
    /// When no handshake comes about.
    pub fn served(&self, edge: &Machine, name: &str) -> Result<Served> {
        probe::handshake((edge.address, 443).into(), name)
    }

    /// The fingerprint of the one leaf that all edges serve for [`MEDIA`].
    ///
    /// # Errors
    /// When they differ, or one doesn't serve.
    pub fn common_leaf(&self) -> Result<Fingerprint> {
        let mut found = None;
        for edge in &self.edges {
            let leaf = self.served(edge, MEDIA)?.fingerprint();
            ensure!(
                *found.get_or_insert(leaf) == leaf,
                "{} serves another leaf than those before it",
                edge.name
            );
        }
        found.context("there are no edges")
    }

    /// The edge of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn edge(&self, name: &str) -> Result<&Machine> {
        let mut edges = self.edges.iter();
        edges
            .find(|edge| edge.name == name)
            .with_context(|| format!("no edge {name}"))
    }

    /// The edge of this name, to power it on or off.
    ///
    /// # Errors
    /// When there is none.
    pub fn edge_mut(&mut self, name: &str) -> Result<&mut Machine> {
        let mut edges = self.edges.iter_mut();
        edges
            .find(|edge| edge.name == name)
            .with_context(|| format!("no edge {name}"))
    }

    /// All six.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        [&self.world.machine, &self.fritz]
            .into_iter()
            .chain(&self.edges)
    }

    /// All six.
    pub fn machines_mut(&mut self) -> impl Iterator<Item = &mut Machine> {
        [&mut self.world.machine, &mut self.fritz]
            .into_iter()
            .chain(&mut self.edges)
    }

    /// Where everything of it lives.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// Its files go when it ends: all went well.
    pub fn end_well(&mut self) {
        self.keep = env::var_os("CERTWELL_LAB_KEEP").is_some();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("\nkept for inspection: {}", self.directory().display());
            for asked in [vec!["status"], vec!["explain", MEDIA]] {
                if let Ok(said) = self.certwell(&asked) {
                    eprintln!("{}{}", said.stdout, said.stderr);
                }
            }
            for machine in self.machines().filter(|machine| machine.is_on()) {
                eprintln!(
                    "--- the end of {}'s journal\n{}",
                    machine.name,
                    machine.journal(None, 25)
                );
            }
        }
        for machine in self.machines_mut() {
            let _ = machine.pull_plug();
        }
        if !self.keep {
            self.home.remove();
        }
    }
}

/// Boots a fleet in a network of its own and hands it to `story`; its files go when all went well.
///
/// # Errors
/// Those of the story, and when a part doesn't come up.
pub fn story(
    name: &str,
    validity: Duration,
    story: impl FnOnce(&mut Fleet) -> Result<()> + Send + 'static,
) -> Result<()> {
    let home = Home::take(&format!("lab/{name}"))?;
    let tell = |line: &str| eprintln!("{line}");
    let (trees, packages) = (Trees::ready(&tell)?, Packages::ready()?);
    Network::within(move |inside| {
        let mut fleet = Fleet::boot(inside, home, &trees, packages, validity, &|_| ())?;
        story(&mut fleet)?;
        fleet.end_well();
        Ok(())
    })
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
fn serve_expired(edge: &Machine) -> Result<()> {
    let pair = Pair::expired(&[MEDIA.to_owned()])?;
    let live = format!("/etc/certwell/live/{MEDIA}");
    edge.write(&format!("{live}/fullchain.pem"), &pair.certificate)?;
    edge.write_as(&format!("{live}/privkey.pem"), &pair.key, 0o600)?;
    edge.write("/var/www/media/index.html", "an image\n")?;
    // Until somebody makes it keys.
    edge.mask("ssh.service")?;
    edge.write("/etc/nginx/sites-enabled/media", SITE)
}
