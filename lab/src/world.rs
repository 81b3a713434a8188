//! A whole fleet on this machine: a CA with its DNS, one issuer, hosts. Used by the demo and every end-to-end test.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use certwell_proto::Fingerprint;

use crate::{
    ca::{Ca, directory_at},
    certs::LabRoot,
    dns::Dns,
    gate::Gate,
    host::Host,
    issuer::Issuer,
    paths::Home,
    ports::Net,
    probe::Served,
    process::{self, tail},
    settings::Settings,
    wait::wait_for,
};

/// What becomes of a world's files when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// They stay, and the end of each log is shown: something went wrong.
    ShowLogs,
    /// They stay.
    Keep,
    /// They go, unless a panic is under way.
    Remove,
}

/// The parts, running or not. Everything ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// In the order declared.
    pub hosts: Vec<Host>,
    /// The issuer.
    pub issuer: Issuer,
    /// Between the issuer and the CA, if wished for.
    pub gate: Option<Gate>,
    /// Pebble.
    pub ca: Ca,
    /// Its DNS.
    pub dns: Dns,
    /// Addresses.
    pub net: Net,
    home: Home,
    ending: Ending,
}

impl World {
    /// DNS, CA and issuer run; each host's nginx runs with an expired certificate; no agent has joined, and no
    /// certificate is declared.
    ///
    /// # Errors
    /// When a part doesn't come up.
    pub fn start(name: &str, settings: &Settings) -> Result<Self> {
        Self::start_in(
            Home::take(&format!("lab/{name}"))?,
            Net::allocate()?,
            settings,
            &|_| (),
        )
    }

    /// The same in a given directory and at given addresses; `tell` hears what comes up.
    ///
    /// # Errors
    /// When a part doesn't come up.
    pub fn start_in(
        home: Home,
        net: Net,
        settings: &Settings,
        tell: &dyn Fn(&str),
    ) -> Result<Self> {
        let directory = home.path().to_owned();
        net.ensure_all_free(settings.hosts.len())?;
        tell(&format!("DNS (pebble-challtestsrv) on {}", net.dns()));
        let dns = Dns::start(&net, &directory)?;
        tell(&format!("ACME CA (Pebble) on {}", net.ca()));
        let root = LabRoot::new()?;
        let ca = Ca::start(&net, &directory, &root, settings.validity)?;
        let gate = if settings.gated {
            Some(Gate::start(&net, &root)?)
        } else {
            None
        };
        tell(&format!(
            "issuer: certwell-issuer init, then serve on {}",
            net.issuer()
        ));
        let issuer = Issuer::init(&net, &directory, &settings.log_filter)?;
        issuer.set_renewal(&settings.renewal)?;
        let mut world = Self {
            hosts: Vec::new(),
            issuer,
            gate,
            ca,
            dns,
            net,
            home,
            ending: Ending::ShowLogs,
        };
        world.issuer.declare("00-authority", &world.authority())?;
        world
            .issuer
            .declare("10-hosts", &settings.declared_hosts())?;
        for (index, (name, _)) in settings.hosts.iter().enumerate() {
            let index = u8::try_from(index)?;
            let mut host = Host::lay_out(
                &world.net,
                &directory,
                index,
                name,
                &settings.sites,
                &settings.log_filter,
            )?;
            tell(&format!(
                "host {name}: nginx on {} and {}",
                host.http(),
                host.https().port()
            ));
            host.nginx.start()?;
            world.hosts.push(host);
        }
        for site in &settings.sites {
            for name in &site.names {
                world.dns.set(name, &world.addresses(|_| true))?;
            }
        }
        world.issuer.serve()?;
        Ok(world)
    }

    /// The declaration of this world's CA.
    pub fn authority(&self) -> String {
        let directory = if self.gate.is_some() {
            directory_at(self.net.gate())
        } else {
            self.ca.directory()
        };
        format!(
            "[authority.pebble]\ndirectory = {directory:?}\ncontact = [\"mailto:ops@hachyderm.io\"]\nroots = {:?}\n\
             http-01-port = {}\n",
            self.ca.roots(),
            self.net.http_port()
        )
    }

    /// Every host joins, and its agent is connected.
    ///
    /// # Errors
    /// When one can't.
    pub fn join_all(&mut self) -> Result<()> {
        for index in 0..self.hosts.len() {
            self.join(index)?;
        }
        for host in &self.hosts {
            self.issuer.connected(&host.name)?;
        }
        Ok(())
    }

    /// One host joins, and its agent runs; it may not be connected yet.
    ///
    /// # Errors
    /// When it can't.
    pub fn join(&mut self, index: usize) -> Result<()> {
        let host = self
            .hosts
            .get_mut(index)
            .with_context(|| format!("no host {index}"))?;
        let token = self.issuer.token(&host.name)?;
        host.enroll(&token)?.success("certwell-agent enroll")?;
        host.start_agent()
    }

    /// The host of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .with_context(|| format!("no host {name}"))
    }

    /// The host of this name, to start or stop something on it.
    ///
    /// # Errors
    /// When there is none.
    pub fn host_mut(&mut self, name: &str) -> Result<&mut Host> {
        self.hosts
            .iter_mut()
            .find(|host| host.name == name)
            .with_context(|| format!("no host {name}"))
    }

    /// Addresses of the hosts that `wanted` picks.
    pub fn addresses(&self, wanted: impl Fn(&Host) -> bool) -> Vec<IpAddr> {
        self.hosts
            .iter()
            .filter(|host| wanted(host))
            .map(|host| host.https().ip())
            .collect()
    }

    /// Waits until every host that `wanted` picks serves one and the same leaf for `name`, issued by this world's
    /// CA and other than `before`.
    ///
    /// # Errors
    /// When it doesn't happen in time.
    pub fn all_serve_new(
        &self,
        name: &str,
        before: Option<Fingerprint>,
        within: Duration,
        wanted: impl Fn(&Host) -> bool,
    ) -> Result<Served> {
        wait_for(
            &format!("a new leaf of {name} on each host"),
            within,
            || {
                let mut found: Option<Served> = None;
                for host in self.hosts.iter().filter(|host| wanted(host)) {
                    let served = host.served(name)?;
                    self.check_issued(name, &served)
                        .with_context(|| host.name.clone())?;
                    ensure!(
                        Some(served.fingerprint()) != before,
                        "{} serves the old one",
                        host.name
                    );
                    if let Some(other) = &found {
                        ensure!(
                            *other == served,
                            "{} serves another one than the hosts before it",
                            host.name
                        );
                    }
                    found = Some(served);
                }
                found.context("no host was picked")
            },
        )
    }

    /// Checks that this world's CA issued what is served, for this name, and that it is valid now.
    ///
    /// # Errors
    /// When it isn't so.
    pub fn check_issued(&self, name: &str, served: &Served) -> Result<()> {
        let roots = [self.ca.issuing_root().to_vec()];
        let identifiers = [name.parse()?];
        let expected = certwell_proto::bundle::Expected {
            identifiers: &identifiers,
            roots: &roots,
            now: crate::clock::now(),
        };
        certwell_proto::bundle::verify_chain(&served.chain, &expected)?;
        Ok(())
    }

    /// Waits until `certwell status` says converged for every host of a certificate at `generation`.
    ///
    /// # Errors
    /// When it doesn't happen in time.
    pub fn converged(&self, certificate: &str, generation: u64, within: Duration) -> Result<()> {
        wait_for(
            &format!("{certificate} converged at generation {generation}"),
            within,
            || {
                let status = self.issuer.status()?;
                let found = status.certificate(certificate).context("not in status")?;
                let done = found.generation == generation
                    && found.hosts.iter().all(|host| {
                        host.state == "converged"
                            && host
                                .facts
                                .served
                                .as_ref()
                                .is_some_and(|s| s.generation == Some(generation))
                    });
                ensure!(done, "{}", found.states());
                Ok(())
            },
        )
    }

    /// Where everything of it lives.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// What becomes of its files when it ends.
    pub fn ends(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

/// Runs one end-to-end test: starts a world, hands it to `story`, and removes its files when all went well. When
/// it didn't, they are kept, and the end of each log is shown.
///
/// # Errors
/// Those of the story.
pub fn story(
    name: &str,
    settings: &Settings,
    story: impl FnOnce(&mut World) -> Result<()>,
) -> Result<()> {
    let mut world = World::start(name, settings)?;
    story(&mut world)?;
    if env::var_os("CERTWELL_LAB_KEEP").is_none() {
        world.ends(Ending::Remove);
    }
    Ok(())
}

impl Drop for World {
    fn drop(&mut self) {
        let processes = self
            .hosts
            .iter()
            .flat_map(Host::processes)
            .chain(self.issuer.process())
            .chain([self.ca.process(), self.dns.process()]);
        // All at once; each one's own drop then waits for its end.
        processes.for_each(process::Process::begin_stop);
        for host in &mut self.hosts {
            host.stop_agent();
            host.nginx.stop();
        }
        self.issuer.stop();
        let ending = if thread::panicking() {
            Ending::ShowLogs
        } else {
            self.ending
        };
        if ending == Ending::ShowLogs {
            eprintln!("\nkept for inspection: {}", self.directory().display());
            let mut logs: Vec<PathBuf> = fs::read_dir(self.directory())
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "log"))
                .collect();
            logs.sort();
            for log in logs {
                let end = tail(&log, 12);
                if !end.is_empty() {
                    eprintln!("--- end of {}\n{end}", log.display());
                }
            }
        } else if ending == Ending::Remove {
            // Pebble and its DNS still write their logs; the files go with the directory.
            self.home.remove();
        }
    }
}
