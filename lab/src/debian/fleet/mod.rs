//! The fleet of the incident on whole hosts: the issuer's host, four edges with nginx and agent from the packages, and
//! the world around them.

mod asked;
mod set_up;

use std::{env, net::Ipv4Addr, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use self::set_up::serve_expired;
pub use self::set_up::{bare_issuer, install, site};
use super::{Machine, Network, Suite, Tree, Trees, World, groups, packages::Packages};
use crate::{paths::Home, settings::MEDIA};

/// The issuer's host.
pub const FRITZ: &str = "fritz";
/// The edges, with the release that each runs.
pub const EDGES: [(&str, Suite); 4] = [
    ("cdn-frankfurt-1", Suite::Bookworm),
    ("cdn-fremont-1", Suite::Bookworm),
    ("sally", Suite::Bookworm),
    ("esme", Suite::Trixie),
];
const WORLD_NUMBER: u8 = 2;
const FRITZ_NUMBER: u8 = 10;
const FIRST_EDGE: u8 = 11;
/// Longer than anything takes when all is well.
pub const SOON: Duration = Duration::from_secs(90);
const SITE: &str = include_str!("../media.conf");
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
