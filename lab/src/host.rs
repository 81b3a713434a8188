//! A light host: one real nginx and one agent, as processes on an address of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    log_gate::LogGate,
    nginx::{Nginx, Site},
    paths,
    ports::Net,
    probe::{self, Served},
    process::Process,
    program::{Output, Program},
};

const COMMAND: Duration = Duration::from_secs(30);

/// One host of the world.
#[derive(Debug)]
pub struct Host {
    /// Its name, as declared at the issuer.
    pub name: String,
    /// Its web server.
    pub nginx: Nginx,
    index: u8,
    world: PathBuf,
    directory: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
    log_filter: String,
    agent: Option<Process>,
}

impl Host {
    /// Lays out its files; nothing runs yet.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn lay_out(
        net: &Net,
        world: &Path,
        index: u8,
        name: &str,
        sites: &[Site],
        log_filter: &str,
    ) -> Result<Self> {
        let (http, https) = (net.http(index), net.https(index));
        let host = Self {
            name: name.to_owned(),
            nginx: Nginx::lay_out(name, world, http, https, sites)?,
            index,
            world: world.to_owned(),
            directory: world.join(name),
            http,
            https,
            log_filter: log_filter.to_owned(),
            agent: None,
        };
        fs::create_dir_all(host.agent_state())?;
        fs::write(host.agent_config(), host.agent_toml())?;
        Ok(host)
    }

    fn agent_toml(&self) -> String {
        let nginx = &self.nginx;
        format!(
            "state-directory = {:?}\nlive-directory = {:?}\ncertbot-directory = {:?}\n\n[nginx]\npid-file = {:?}\nbinary = {:?}\nconfig = {:?}\n\
             prefix = {:?}\nchallenge-map = {:?}\n",
            self.agent_state(),
            nginx.live(),
            self.certbot(),
            nginx.pid_file(),
            paths::nginx(),
            nginx.config(),
            nginx.prefix(),
            nginx.challenge_map(),
        )
    }

    /// From 0.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its address for plain HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its address for HTTPS.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// The agent's configuration file.
    pub fn agent_config(&self) -> PathBuf {
        self.directory.join("agent.toml")
    }

    /// The agent's state directory.
    pub fn agent_state(&self) -> PathBuf {
        self.directory.join("agent")
    }

    /// In the place of `/etc/letsencrypt`.
    pub fn certbot(&self) -> PathBuf {
        self.directory.join("letsencrypt")
    }

    /// Where the agent's log goes.
    pub fn agent_log(&self) -> PathBuf {
        self.world.join(format!("{}.agent.log", self.name))
    }

    /// The link, or plain directory, of a certificate.
    pub fn live(&self, certificate: &str) -> PathBuf {
        self.nginx.live().join(certificate)
    }

    /// Joins the fleet with a token given on standard input.
    ///
    /// # Errors
    /// When the command can't be run.
    pub fn enroll(&self, token: &str) -> Result<Output> {
        self.agent_program(&["enroll", "-"])?
            .run(&self.world, token, COMMAND)
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_agent(&mut self) -> Result<()> {
        let program = self.agent_program(&["run"])?;
        self.agent = Some(Process::start(&program, &self.world, &self.agent_log())?);
        Ok(())
    }

    /// Starts the agent with a gate in its log.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_gated_agent(&mut self) -> Result<LogGate> {
        let program = self.agent_program(&["run"])?;
        let log = self.agent_log();
        let (gate, end) = LogGate::before(&log)?;
        self.agent = Some(Process::start_gated(&program, &self.world, &log, end)?);
        Ok(gate)
    }

    /// Asks the agent to end, and waits.
    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// `kill -9` of the agent.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn kill9_agent(&mut self) -> Result<()> {
        self.agent
            .take()
            .with_context(|| format!("the agent of {} isn't running", self.name))?
            .kill9()
    }

    /// The agent's process.
    ///
    /// # Errors
    /// When it isn't running.
    pub fn agent(&mut self) -> Result<&mut Process> {
        self.agent
            .as_mut()
            .with_context(|| format!("the agent of {} isn't running", self.name))
    }

    /// Runs the agent's binary with a verb that ends by itself.
    ///
    /// # Errors
    /// When it can't be run, or hangs.
    pub fn agent_command(&self, args: &[&str]) -> Result<Output> {
        self.agent_program(args)?.run(&self.world, "", COMMAND)
    }

    /// The agent's binary with `args`, not started yet.
    ///
    /// # Errors
    /// When it isn't built.
    pub fn agent_program(&self, args: &[&str]) -> Result<Program> {
        let config = self.agent_config().display().to_string();
        let all = ["--config", &config]
            .into_iter()
            .chain(args.iter().copied());
        Ok(Program::new(
            &format!("agent of {}", self.name),
            paths::binary("certwell-agent")?,
            all,
        )
        .env("CERTWELL_LOG", &self.log_filter)
        .env("RUST_BACKTRACE", "1"))
    }

    /// What it serves for this name, by the lab's own handshake.
    ///
    /// # Errors
    /// When the handshake doesn't come about.
    pub fn served(&self, name: &str) -> Result<Served> {
        probe::handshake(self.https, name).with_context(|| self.name.clone())
    }

    /// Has its nginx refuse the next generation of a certificate that it serves: its configuration names a key of the
    /// operator's own from now on, elsewhere, that fits this generation and no other.
    ///
    /// # Errors
    /// When its configuration doesn't name the key, or can't be written.
    pub fn refuse_the_next(&self, certificate: &str) -> Result<()> {
        let key = self.live(certificate).join("privkey.pem");
        let pinned = self.nginx.prefix().join("pinned.key");
        fs::copy(&key, &pinned)?;
        let config = fs::read_to_string(self.nginx.config())?;
        let with_pinned = config.replace(&key.display().to_string(), &pinned.display().to_string());
        ensure!(with_pinned != config, "no such line: {config}");
        self.nginx.replace_config(&with_pinned)?;
        self.nginx.reload()
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.agent.iter().chain(self.nginx.process())
    }
}
