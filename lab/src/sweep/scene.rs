//! The scenes that are swept: hosts on which an agent is about to install, to prune, or to roll back.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    checker::Found,
    stage::{Pair, Stage},
    tree::{self, Tree},
};
use crate::{Settings, Site, World, certs::Pair as Own, host::Host, probe, wait_for};

/// The certificate that all of it is about.
pub const NAME: &str = "media.hachyderm.io";
/// Answers the CA, and is never swept.
const ANSWERING: &str = "sally";
/// Most of a run is waiting: more hosts than processors are worth it.
const SWEPT: [&str; 6] = [
    "swept-1", "swept-2", "swept-3", "swept-4", "swept-5", "swept-6",
];
const SOON: Duration = Duration::from_secs(60);

/// Which agents' work is swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// An operator's directory is exchanged for the first generation; the challenge map is written.
    First,
    /// One generation is exchanged for the next.
    Install,
    /// A generation that is needed no more is removed.
    Pruning,
    /// nginx refuses the new generation, and the old one is put back.
    RollBack,
}

impl Work {
    /// All of it, in the order in which it is played.
    pub const ALL: [Self; 4] = [Self::First, Self::Install, Self::Pruning, Self::RollBack];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first install",
            Self::Install => "install",
            Self::Pruning => "pruning",
            Self::RollBack => "roll-back",
        }
    }

    /// Which pair is there when it is over.
    pub fn ends_with(self) -> Found {
        match self {
            Self::RollBack => Found::Old,
            Self::First | Self::Install | Self::Pruning => Found::New,
        }
    }

    /// The generation that comes; what is pruned needs two more before it.
    fn generation(self) -> u64 {
        match self {
            Self::First => 1,
            Self::Install => 2,
            Self::Pruning => 4,
            Self::RollBack => 5,
        }
    }
}

/// Hosts on their way through all [`Work`].
pub struct Play {
    /// The hosts that are swept.
    pub stages: Vec<Stage>,
    world: World,
}

impl Play {
    /// A world with one certificate, ordered once; no agent of a swept host has begun to work.
    ///
    /// # Errors
    /// When a part doesn't come up.
    pub fn begin(world: World) -> Result<Self> {
        let mut world = world;
        let (home, hosts) = (world.directory().to_owned(), world.hosts.split_off(1));
        world.join(0)?;
        world.issuer.connected(ANSWERING)?;
        // The CA asks nobody else: the map of the others isn't there yet.
        let answering = world.addresses(|_| true);
        world.dns.set(NAME, &answering)?;
        let mut play = Self {
            stages: Vec::new(),
            world,
        };
        for host in hosts {
            let token = play.world.issuer.token(&host.name)?;
            host.enroll(&token)?.success("certwell-agent enroll")?;
            let root = host
                .agent_config()
                .parent()
                .context("no directory")?
                .to_owned();
            let old = Pair::read(&host.live(NAME))?;
            play.stages.push(Stage {
                new: old.clone(),
                old,
                foreign: put_foreign(&host, &root)?,
                work: Work::First,
                generation: 0,
                before: Tree::new(),
                world: home.clone(),
                host,
                root,
            });
        }
        let declared = format!(
            "[certificate.\"{NAME}\"]\nhosts = [\"label:swept\", \"{ANSWERING}\"]\nchallenge-hosts = [\"{ANSWERING}\"]\n"
        );
        play.world.issuer.declare("20-media", &declared)?;
        play.ordered(1)?;
        Ok(play)
    }

    /// What such a world is made of.
    pub fn settings() -> Settings {
        let swept = SWEPT.map(|name| (name.to_owned(), vec!["swept".to_owned()]));
        Settings {
            hosts: [(ANSWERING.to_owned(), Vec::new())]
                .into_iter()
                .chain(swept)
                .collect(),
            sites: vec![Site::new(NAME, &[NAME])],
            log_filter: "info,certwell_agent=debug".into(),
            ..Settings::default()
        }
    }

    /// Plays all of it: before each of `works` every host is ready for it, and `visit` sweeps.
    ///
    /// # Errors
    /// When a host isn't brought where it should be, or those of `visit`.
    pub fn all(
        &mut self,
        works: &[Work],
        mut visit: impl FnMut(&mut [Stage]) -> Result<()>,
    ) -> Result<()> {
        for work in Work::ALL {
            self.prepare(work)
                .with_context(|| format!("before the {}", work.name()))?;
            if works.contains(&work) {
                visit(&mut self.stages).with_context(|| work.name())?;
            }
            if work != Work::RollBack {
                self.go_on()?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, work: Work) -> Result<()> {
        match work {
            Work::First => {}
            Work::Install => self.renew(2)?,
            Work::Pruning => {
                self.renew(3)?;
                self.stand(Work::Install, 3)?;
                self.go_on()?;
                self.renew(4)?;
            }
            Work::RollBack => {
                for stage in &self.stages {
                    stage.pin_key()?;
                    stage.host.nginx.reload()?;
                }
                self.renew(5)?;
            }
        }
        self.stand(work, work.generation())
    }

    /// Every host is before this work.
    fn stand(&mut self, work: Work, generation: u64) -> Result<()> {
        let new = Pair::read(&self.world.host(ANSWERING)?.live(NAME))?;
        for stage in &mut self.stages {
            stage.work = work;
            stage.generation = generation;
            stage.old = Pair::read(&stage.host.live(NAME))?;
            stage.new = new.clone();
            stage.keep()?;
        }
        Ok(())
    }

    /// Every host does its work undisturbed.
    fn go_on(&mut self) -> Result<()> {
        let since = crate::clock::now();
        for stage in &mut self.stages {
            stage.restore()?;
            stage.host.start_agent()?;
        }
        for stage in &mut self.stages {
            wait_for("the work to be done", SOON, || stage.is_done(since))
                .with_context(|| format!("{} undisturbed", stage.work.name()))?;
            stage.host.stop_agent();
            stage.serves(stage.goal(), SOON)?;
        }
        Ok(())
    }

    fn renew(&self, generation: u64) -> Result<()> {
        self.world
            .issuer
            .certwell(&["certificates", "renew", NAME])?
            .success("renew")?;
        self.ordered(generation)
    }

    /// Waits until the host that answers the CA has it.
    fn ordered(&self, generation: u64) -> Result<()> {
        wait_for("the next generation", SOON, || {
            let status = self.world.issuer.status()?;
            let found = status.certificate(NAME).context("not in status")?;
            let answering = found.host(ANSWERING).context("not in status")?;
            ensure!(
                found.generation == generation && answering.state == "converged",
                "{}",
                found.states()
            );
            Ok(())
        })
    }

    /// The world's files go with it.
    pub fn end_well(mut self) {
        if std::env::var_os("CERTWELL_LAB_KEEP").is_none() {
            self.stages.clear();
            self.world.ends(crate::Ending::Remove);
        }
    }
}

/// Files of an operator's beside ours, which nobody may touch: the directory at `live/NAME` itself, another one, a
/// configuration of nginx's.
fn put_foreign(host: &Host, root: &Path) -> Result<Tree> {
    let other = "other.example.org".to_owned();
    Own::expired(std::slice::from_ref(&other))?.write_into(&root.join("live").join(&other))?;
    let config = host.nginx.prefix().join("conf.d/operator.conf");
    fs::write(&config, "# An operator's own.\n")?;
    let mut foreign = Tree::new();
    for path in [
        PathBuf::from("live").join(other),
        PathBuf::from("nginx/conf.d/operator.conf"),
        PathBuf::from("live").join(NAME),
    ] {
        for (below, entry) in tree::read(&root.join(&path))? {
            foreign.insert(path.join(below), entry);
        }
    }
    // Everything answers before anything is swept.
    probe::handshake(host.https(), NAME)?;
    Ok(foreign)
}
